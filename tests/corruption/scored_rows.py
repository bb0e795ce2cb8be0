"""Batches with scores, and selections of single tokens row by row."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from maskwright import Ragged, TokenBatch
from maskwright.corruption import reference_structure
from maskwright.corruption.select import Select
from maskwright.corruption.selection import Draw
from tests.corruption.structure_rows import FEW, drawn_batches, select

NAN = float("nan")


def scored(*rows: list[float], token: int = 6, ends: bool = False) -> TokenBatch:
    """Samples of ordinary tokens with these scores; with ``ends``, special tokens around them."""
    if ends:
        rows = tuple([9.0, *row, 9.0] for row in rows)
    tokens = [[token] * len(row) for row in rows]
    if ends:
        tokens = [[1, *ids[1:-1], 2] for ids in tokens]
    batch = TokenBatch(Ragged.from_lists(tokens), np.arange(len(rows)))
    return replace(batch, scores=Ragged.from_lists(list(rows), np.float32))


@st.composite
def scored_batches(draw: st.DrawFn, *, min_rows: int = 0) -> tuple[TokenBatch, Draw]:
    """A batch with scores, many of them equal, some 0 and some missing, and how to draw from it."""
    batch, how = draw(drawn_batches(min_rows=min_rows))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = len(batch.tokens.values)
    levels = draw(st.sampled_from([1, 2, 9, 2**20]))
    scores = (rng.integers(0, levels, size) / 8).astype(draw(st.sampled_from([np.float32, float])))
    scores[rng.random(size) < draw(st.sampled_from([0.0, 0.3, 1.0]))] = np.nan
    return replace(batch, scores=batch.tokens.like(scores)), how


def chosen(one: Select, batch: TokenBatch, draw: Draw) -> list[list[int]]:
    """The selected positions of each sample; each is a unit of its own."""
    rows = select(one, batch, draw)
    assert all(len(unit) == 1 for row in rows for unit in row)
    return [[position for (position,) in row] for row in rows]


def expected(batch: TokenBatch, draw: Draw, function: Any, *settings: Any) -> list[list[int]]:
    """What the reference says."""
    assert batch.scores is not None
    rows = zip(reference_structure.samples(batch, FEW, draw), batch.scores, strict=True)
    return [function(sample, own.tolist(), *settings) for sample, own in rows]
