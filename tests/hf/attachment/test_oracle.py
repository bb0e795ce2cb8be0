"""An attached model against the same model with masks made by hand, in outputs and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from maskwright.attention import Pattern, per_head, wait_k, window
from maskwright.hf import attach
from tests.hf.attachment.models import KINDS, SEATS, inputs, make
from tests.hf.attachment.oracle import Rule, by_hand

PATTERNS: dict[str, tuple[Pattern, Rule]] = {
    "encoder": (window(2, 1), lambda i, j: i - 2 <= j <= i + 1),
    "decoder": (window(2), lambda i, j: abs(i - j) <= 2),
    "cross": (wait_k(2), lambda i, j: j < 2 + i),
}


def _run(model: Any, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    model.zero_grad()
    logits = model(**batch).logits
    weights = torch.linspace(-1, 1, logits.numel(), dtype=logits.dtype).view_as(logits)
    (logits * weights).sum().backward()
    grads = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return logits.detach(), grads


def _doubled(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: x.double() if x.is_floating_point() else x for name, x in batch.items()}


def _same(found: Any, expected: Any) -> None:
    torch.testing.assert_close(found[0], expected[0], atol=1e-5, rtol=1e-5)
    assert found[1].keys() == expected[1].keys()
    for name, grad in expected[1].items():
        # Llama's own eager attention takes its softmax in single precision
        near = 1e-5 * max(1.0, float(grad.abs().max()))
        torch.testing.assert_close(found[1][name], grad, atol=near, rtol=1e-5, msg=name)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("kind, role", SEATS)
def test_outputs_and_gradients(kind: str, role: str, implementation: str) -> None:
    pattern, rule = PATTERNS[role]
    model = make(kind, implementation=implementation).double()
    batch = _doubled(inputs(kind))
    plain = _run(model, batch)
    with by_hand(model, role, rule):
        expected = _run(model, batch)
    assert (expected[0] - plain[0]).abs().max() > 1e-3
    with attach(model, **{role: pattern}):
        found = _run(model, batch)
    _same(found, expected)


@pytest.mark.parametrize("kind, role", [s for s in SEATS if s[0] != "whisper"])
def test_with_right_padding(kind: str, role: str) -> None:
    pattern, rule = PATTERNS[role]
    model, batch = make(kind), inputs(kind)
    real = torch.ones_like(batch["input_ids"])
    real[0, 6:] = 0
    batch["attention_mask"] = real
    keep = real.bool()
    if "decoder_input_ids" in batch:
        target = torch.ones_like(batch["decoder_input_ids"])
        target[0, 5:] = 0
        batch["decoder_attention_mask"] = target
        keep = target.bool()
    with by_hand(model, role, rule):
        expected = model(**batch).logits
    with attach(model, **{role: pattern}):
        found = model(**batch).logits
    torch.testing.assert_close(found[keep], expected[keep], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind, role", SEATS)
def test_nothing_changes_under_a_pattern_that_allows_everything(kind: str, role: str) -> None:
    model, batch = make(kind), inputs(kind)
    expected = model(**batch).logits
    with attach(model, **{role: window(99)}):
        found = model(**batch).logits
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind, role", SEATS)
def test_attention_weights_are_zero_where_forbidden(kind: str, role: str) -> None:
    pattern, rule = PATTERNS[role]
    model, batch = make(kind), inputs(kind)
    with attach(model, **{role: pattern}):
        plain = model(**batch).logits
        out = model(**batch, output_attentions=True)
    name = {"encoder": "encoder_attentions", "decoder": "decoder_attentions"}
    own = "attentions" if len(KINDS[kind].roles) == 1 else name.get(role, "cross_attentions")
    for weights in out[own]:
        for i in range(weights.shape[2]):
            for j in range(weights.shape[3]):
                if not rule(i, j):
                    assert (weights[:, :, i, j] == 0).all()
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:3]))
    torch.testing.assert_close(out.logits, plain, atol=1e-5, rtol=1e-5)


def test_a_pattern_for_each_head() -> None:
    model, batch = make("llama").double(), inputs("llama")
    with attach(model, decoder=per_head([window(n) for n in range(4)])):
        found = model(**batch, output_attentions=True)
    for head in range(4):
        far = torch.ones(9, 9).tril(-head - 1).bool()
        assert (found.attentions[0][:, head][:, far] == 0).all()
        near = torch.ones(9, 9).tril().bool() & ~far
        assert (found.attentions[0][:, head][:, near] > 0).all()


def test_a_window_of_the_model_stays() -> None:
    model, batch = make("qwen2").double(), inputs("qwen2")
    with by_hand(model, "decoder", lambda i, j: i - j <= 6):
        expected = model(**batch).logits
    with attach(model, decoder=window(6)):
        found = model(**batch).logits
        kept = model(**batch, output_attentions=True).attentions[1]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    # layer 1 slides over 5 tokens, its own among them
    assert (kept[:, :, 8, :4] == 0).all()
    assert (kept[:, :, 8, 4:] > 0).all()
