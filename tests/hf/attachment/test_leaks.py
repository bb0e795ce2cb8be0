"""Nothing reaches a token that its patterns forbid, and everything that they allow does.

Each token of an input is changed in turn, all in one batch. What may change in the output follows
from who may look at whom in each layer, worked out here by hand.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from maskwright.attention import nothing, wait_k, window
from maskwright.errors import EmptyRowsWarning
from maskwright.hf import attach
from tests.hf.attachment.models import KINDS, SEATS, inputs, make

SOURCE, TARGET = 8, 6
_LAYERS = 2


def _matrix(queries: int, keys: int, rule: Any) -> Tensor:
    return torch.tensor([[bool(rule(i, j)) for j in range(keys)] for i in range(queries)])


def _then(first: Tensor, second: Tensor) -> Tensor:
    """What reaches a token in two steps."""
    return (first.double() @ second.double()) > 0


def _own(kind: str) -> Any:
    """The window of a model's self-attention, by layer."""
    if kind == "modernbert":
        return [lambda i, j: True, lambda i, j: abs(i - j) <= 3]
    if kind == "qwen2":
        return [lambda i, j: j <= i, lambda i, j: i - 5 < j <= i]
    return [lambda i, j: j <= i] * _LAYERS


def _reach(kind: str, rules: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    """Which tokens may be told from others.

    Source tokens from what the encoder makes of them, source tokens from each output, target
    tokens from each output.
    """
    frames = 12 if kind == "whisper" else SOURCE
    everyone = lambda i, j: True  # noqa: E731
    source = torch.eye(frames, dtype=torch.bool)
    if kind == "whisper":
        # two convolutions over three frames, the second with a stride of two
        source = _matrix(frames, 2 * frames, lambda t, m: abs(m - 2 * t) <= 2)
    encoders = _own(kind) if kind == "modernbert" else [everyone] * _LAYERS
    for own in encoders:
        bound = rules.get("encoder", everyone)
        allowed = _matrix(frames, frames, lambda i, j, o=own, b=bound: o(i, j) and b(i, j))
        source = _then(allowed | torch.eye(frames, dtype=torch.bool), source)
    if KINDS[kind].roles == ("encoder",):
        return source, source, source
    length = SOURCE if KINDS[kind].roles == ("decoder",) else TARGET
    target = torch.eye(length, dtype=torch.bool)
    from_source = torch.zeros(length, source.shape[1], dtype=torch.bool)
    for own in _own(kind):
        bound = rules.get("decoder", everyone)
        allowed = _matrix(length, length, lambda i, j, o=own, b=bound: o(i, j) and b(i, j))
        step = allowed | torch.eye(length, dtype=torch.bool)
        target, from_source = _then(step, target), _then(step, from_source)
        if "cross" in KINDS[kind].roles:
            bound = rules.get("cross", everyone)
            from_source = from_source | _then(_matrix(length, frames, bound), source)
    return source, from_source, target


def _ids(length: int, generator: torch.Generator) -> Tensor:
    """Row 0 as it is; in row n + 1, token n is another."""
    rows = torch.randint(3, 20, (1, length), generator=generator).repeat(length + 1, 1)
    rows[torch.arange(length) + 1, torch.arange(length)] += 20
    return rows


def _changed(logits: Tensor) -> Tensor:
    """``(tokens, changed inputs)``: how far each output moved."""
    return (logits[1:] - logits[:1]).abs().amax(-1).T


@pytest.mark.parametrize("kind, role", SEATS)
def test_forbidden_changes_nothing_and_allowed_changes_something(kind: str, role: str) -> None:
    generator = torch.Generator().manual_seed(3)
    near = (window(1), lambda i, j: abs(i - j) <= 1)
    patterns = {"encoder": near, "decoder": near, "cross": (wait_k(1), lambda i, j: j <= i)}
    chosen = {role: patterns[role]}
    if role == "cross":
        # an encoder that looks at everything would tell of everything
        chosen["encoder"] = (window(0), lambda i, j: i == j)
    model = make(kind).double()
    encoded, source, target = _reach(kind, {name: rule for name, (_, rule) in chosen.items()})
    bound = {"encoder": encoded, "decoder": target, "cross": source}[role]
    assert not bound.all(), "the pattern forbids nothing"
    with attach(model, **{name: one for name, (one, _) in chosen.items()}), torch.no_grad():
        if kind == "whisper":
            features = torch.randn(1, 8, 24, generator=generator).repeat(25, 1, 1).double()
            features[torch.arange(24) + 1, :, torch.arange(24)] += 2
            fed = {"input_features": features}
        else:
            fed = {"input_ids": _ids(SOURCE, generator)}
        if "cross" not in KINDS[kind].roles:
            assert _close(_changed(model(**fed).logits), bound)
            return
        rows = len(next(iter(fed.values())))
        ids = _ids(TARGET, generator)
        out = model(**fed, decoder_input_ids=ids[:1].repeat(rows, 1))
        assert _close(_changed(out.encoder_last_hidden_state), encoded)
        assert _close(_changed(out.logits), source)
        alike = {name: x[:1].repeat(TARGET + 1, *[1] * (x.ndim - 1)) for name, x in fed.items()}
        out = model(**alike, decoder_input_ids=ids)
        assert _close(_changed(out.logits), target)


def _close(moved: Tensor, reach: Tensor) -> bool:
    assert moved.shape == reach.shape
    return bool((moved[~reach] < 1e-12).all() and (moved[reach] > 1e-10).all())


def test_the_check_itself_can_fail() -> None:
    generator = torch.Generator().manual_seed(3)
    model = make("bert").double()
    reach, *_ = _reach("bert", {"encoder": lambda i, j: abs(i - j) <= 1})
    with torch.no_grad():
        assert not _close(_changed(model(_ids(SOURCE, generator)).logits), reach)


@pytest.mark.parametrize("kind", ["bart", "marian", "encoder-decoder", "whisper"])
def test_without_cross_attention_the_source_is_not_heard(kind: str) -> None:
    model = make(kind).double()
    one, other = inputs(kind), inputs(kind)
    name = model.main_input_name
    other[name] = other[name].flip(-1)
    if kind == "whisper":
        one[name], other[name] = one[name].double(), other[name].double()
    with attach(model, cross=nothing), torch.no_grad(), pytest.warns(EmptyRowsWarning):
        first, second = model(**one), model(**other)
    assert torch.equal(first.logits, second.logits)
    assert not torch.equal(first.encoder_last_hidden_state, second.encoder_last_hidden_state)
