"""Plans row by row, to compare them sample for sample."""

from __future__ import annotations

import numpy as np

from maskwright import MaskPlan, Ragged, TokenBatch, Vocabulary
from maskwright.corruption import Action

Decision = tuple[int, Action, int]
# Ids 0–4 are special, the last two unused.
WORDS = Vocabulary(
    1000, mask_id=4, pad_id=0, special_ids=(0, 1, 2, 3), unused_ids=(998, 999), name="words"
)


def by_row(plan: MaskPlan) -> list[list[Decision]]:
    """(position in the sample, action, replacement), in the form of `reference.plan`."""
    tokens = plan.batch.tokens
    rows, places = tokens.rows[plan.positions], tokens.positions[plan.positions]
    out: list[list[Decision]] = [[] for _ in range(len(tokens))]
    decisions = zip(rows, places, plan.actions, plan.replacements, strict=True)
    for row, place, action, replacement in decisions:
        out[row].append((int(place), Action(action), int(replacement)))
    return out


def subset(batch: TokenBatch, rows: list[int]) -> TokenBatch:
    """The given samples in the given order."""
    columns = {
        name: getattr(batch, name).take(rows)
        for name in ("protected", "scores")
        if getattr(batch, name) is not None
    }
    ids = batch.sample_ids[np.asarray(rows, np.int64)]
    return TokenBatch(batch.tokens.take(rows), ids, **columns)


def same_rows(row: np.ndarray | list[int], count: int, *, first_id: int = 0) -> TokenBatch:
    """One row ``count`` times, each as a sample of its own."""
    tokens = Ragged(np.tile(row, count), np.arange(count + 1) * len(row))
    return TokenBatch(tokens, np.arange(first_id, first_id + count))
