"""Tiny models of each family, and a batch with padding for each."""

from __future__ import annotations

from typing import Any

import torch

from maskwright.hf.language_model import kind_of
from tests.hf import tiny
from tests.hf.test_emits import bart, llama, t5
from tests.hf.test_other_models import gpt2

MODELS = (*tiny.MODELS, "gpt2", "llama", "bart", "t5")
CAUSAL = ("gpt2", "llama")
LENGTHS = (20, 3, 1, 12, 0, 7)
_TARGETS = (8, 2, 5, 1, 3, 0)
_OTHERS = {"gpt2": gpt2, "llama": llama, "bart": bart, "t5": t5}


def model(kind: str) -> Any:
    """In training mode, without dropout."""
    made = tiny.model(kind) if kind in tiny.MODELS else _OTHERS[kind](tiny.VOCABULARY)
    for part in made.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    return made.train()


def batch(model: Any, side: str = "right", lengths: tuple[int, ...] = LENGTHS) -> dict[str, Any]:
    """Samples of these lengths in 20 slots, a third of their tokens predicted."""
    generator = torch.Generator().manual_seed(1)
    slots = torch.arange(20)
    sizes = torch.tensor(lengths).unsqueeze(1)
    real = slots >= 20 - sizes if side == "left" else slots < sizes
    ids = torch.randint(5, tiny.VOCABULARY, real.shape, generator=generator)
    chosen = real & (torch.rand(real.shape, generator=generator) < 0.35)
    kind = kind_of(model)
    if kind == "causal":
        # nothing stands before the first token of a sample
        chosen &= real.roll(1, 1) & (slots > 0)
    labels = torch.where(chosen, ids, -100)
    if kind == "seq2seq":
        labels = torch.randint(5, tiny.VOCABULARY, (len(lengths), 8), generator=generator)
        ends = torch.tensor(_TARGETS[: len(lengths)]).unsqueeze(1)
        # an encoder without a token has nothing to say
        labels[(torch.arange(8) >= ends) | (sizes == 0)] = -100
    return {
        "input_ids": torch.where(real, ids, 0),
        "attention_mask": real.long(),
        "labels": labels,
    }


def gradients(model: Any) -> dict[str, torch.Tensor]:
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def require_the_same(found: Any, model: Any, wanted: Any, plain: Any) -> None:
    """The losses and the gradients of two models."""
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=0)
    right, mine = gradients(plain), gradients(model)
    assert right.keys() == mine.keys()
    for name, gradient in right.items():
        torch.testing.assert_close(mine[name], gradient, rtol=1e-5, atol=1e-6, msg=name)
