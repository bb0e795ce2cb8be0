"""Scores of tokens from the predictions of a step."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from maskwright.corruption.emit import IGNORE
from maskwright.guidance import entropy, margin, token_losses
from maskwright.hf.guided.observer import SeenBatch

Source = Literal["attention", "loss", "entropy", "margin"]
SOURCES = ("attention", "loss", "entropy", "margin")
_PROBES = {"loss": token_losses, "entropy": entropy, "margin": margin}


def scores_of(source: Source, seen: SeenBatch) -> Tensor:
    """``(B, S)`` float32: at the tokens that were predicted, NaN elsewhere.

    Args:
        source: any but ``"attention"``.
    """
    if seen.losses is not None and source == "loss":
        scores = torch.full(
            seen.labels.shape, torch.nan, dtype=torch.float32, device=seen.labels.device
        )
        scores[seen.labels != IGNORE] = seen.losses.float()
    else:
        assert seen.logits is not None
        scores = _PROBES[source](seen.logits, seen.labels)
    return at_tokens(scores, torch.nan) if seen.shifted else scores


def at_tokens(rows: Tensor, fill: float) -> Tensor:
    """From where the logits of a causal model stand to the tokens that they are of, ``(B, S)``."""
    return functional.pad(rows[..., :-1], (1, 0), value=fill)
