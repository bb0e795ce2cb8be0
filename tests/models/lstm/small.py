"""Small LSTM encoder–decoders with known weights, and batches for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from maskwright.attention import Axis, Pattern
from maskwright.models import LstmForConditionalGeneration, LstmSeq2SeqConfig

VOCABULARY = 24
PAD, BOS, EOS = 0, 1, 2
SOURCES = [[5, 6, 7, 8, 2], [9, 10, 2], [11, 2]]
TARGETS = [[1, 12, 13, 14], [1, 15, 16, 17], [1, 18, 19, 20]]


def model(**changes: Any) -> Any:
    """A model without dropout, in evaluation mode; weights of seed 0, wide enough to tell apart."""
    sizes: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 16,
        "dropout": 0.0,
        "initializer_range": 0.7,
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LstmForConditionalGeneration(LstmSeq2SeqConfig(**(sizes | changes))).eval()


def padded(rows: Sequence[Sequence[int]], side: str = "right", extra: int = 0) -> dict[str, Tensor]:
    """``input_ids`` and ``attention_mask`` of rows that differ in length."""
    longest = max(map(len, rows)) + extra
    ids = torch.full((len(rows), longest), 23)  # an id that would be noticed
    mask = torch.zeros(len(rows), longest, dtype=torch.int64)
    for number, row in enumerate(rows):
        at = longest - len(row) if side == "left" else 0
        ids[number, at : at + len(row)] = torch.tensor(row, dtype=torch.int64)
        mask[number, at : at + len(row)] = 1
    return {"input_ids": ids, "attention_mask": mask}


def rows(pattern: Pattern, queries: int, keys: int) -> Tensor:
    """``(1, queries, keys)`` Booleans of a pattern, positions counted from 0."""
    axes = (Axis(length, positions=list(range(length))) for length in (queries, keys))
    return pattern.dense(*axes)[:, 0]
