"""Batches with marks and words for the structural selects, and selections row by row."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from maskwright import Clock, Ragged, TokenBatch, Vocabulary
from maskwright.corruption import reference_structure as reference
from maskwright.corruption.select import Select
from maskwright.corruption.selection import Draw, Selection
from tests.strategies import token_batches

# Few ids, so that n-grams recur: 0–3 special; 4 and 5 end a sentence.
FEW = Vocabulary(12, mask_id=3, pad_id=0, special_ids=(1, 2), name="few")
ENDS = (4, 5)


def batch_of(*rows: list[int], first_id: int = 0, **columns: list[list[int]]) -> TokenBatch:
    """A batch of these rows; columns row by row."""
    others = {name: Ragged.from_lists(column) for name, column in columns.items()}
    ids = np.arange(first_id, first_id + len(rows))
    return TokenBatch(Ragged.from_lists(rows), ids, **others)


def draw_of(
    batch: TokenBatch, rate: Any = 0.3, *, low: float = 0.0, exact: bool = False,
    at_least: int = 0, key: int = 7, epoch: int | None = 0,
) -> Draw:  # fmt: skip
    lows = np.full(len(batch), low)
    highs = np.zeros(len(batch)) + rate
    return Draw(key, lows, highs, exact, at_least, Clock(0, epoch), low > 0)


@st.composite
def structured_batches(draw: st.DrawFn, *, min_rows: int = 0) -> TokenBatch:
    """Batches over `FEW` with marks and word starts."""
    batch = draw(token_batches(FEW, min_rows=min_rows))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = len(batch.tokens.values)
    return replace(
        batch,
        marks=batch.tokens.like(rng.integers(0, 3, size)),
        word_starts=batch.tokens.like((rng.random(size) < 0.7).astype(np.uint8)),
    )


@st.composite
def drawn_batches(draw: st.DrawFn, *, min_rows: int = 0) -> tuple[TokenBatch, Draw]:
    """A batch, and how to draw from it; each sample has a rate of its own."""
    batch = draw(structured_batches(min_rows=min_rows))
    rates = st.sampled_from([0.0, 1.0, 0.15, 0.5]) | st.floats(0, 1)
    drawn = draw(st.lists(rates, min_size=len(batch), max_size=len(batch)))
    exact = draw(st.booleans())
    at_least = draw(st.integers(0, 2)) if exact else 0
    key = draw(st.integers(0, 2**64 - 1))
    clock = Clock(0, draw(st.integers(0, 50)))
    highs = np.array(drawn, float)
    return batch, Draw(key, np.zeros(len(batch)), highs, exact, at_least, clock)


def take(batch: TokenBatch, draw: Draw, rows: list[int]) -> tuple[TokenBatch, Draw]:
    """The given samples with their columns and rates, in the given order."""
    which = np.asarray(rows, np.int64)
    columns = {
        name: getattr(batch, name).take(rows)
        for name in ("tokens", "word_starts", "protected", "marks", "scores")
        if getattr(batch, name) is not None
    }
    batch = replace(batch, **columns, sample_ids=batch.sample_ids[which])
    return batch, replace(draw, low=draw.low[which], high=draw.high[which])


def units_by_row(selection: Selection, batch: TokenBatch) -> list[list[list[int]]]:
    """For each sample its units, as lists of positions in it; checks what a selection promises."""
    positions, units = selection.positions, selection.units
    assert positions.dtype == np.int64
    assert (np.diff(positions) > 0).all()
    if units is None:
        units = np.arange(len(positions))
    assert units.dtype == np.int64
    assert len(units) == len(positions)
    assert (np.diff(units) >= 0).all()
    out: list[list[list[int]]] = [[] for _ in range(len(batch))]
    last = (-1, -1)
    for position, unit in zip(positions.tolist(), units.tolist(), strict=True):
        row = int(batch.tokens.rows[position])
        if (row, unit) != last:
            assert unit != last[1], "a unit in two samples"
            out[row].append([])
        last = (row, unit)
        out[row][-1].append(int(batch.tokens.positions[position]))
    return out


def inserts_by_row(selection: Selection, batch: TokenBatch) -> list[list[int]]:
    out: list[list[int]] = [[] for _ in range(len(batch))]
    for position in [] if selection.inserts is None else selection.inserts.tolist():
        out[int(batch.tokens.rows[position])].append(int(batch.tokens.positions[position]))
    return out


def select(
    select: Select, batch: TokenBatch, draw: Draw, vocabulary: Vocabulary = FEW
) -> list[list[list[int]]]:
    return units_by_row(select(batch, vocabulary, draw), batch)


def agrees(one: Select, batch: TokenBatch, draw: Draw, function: Any, *settings: Any) -> None:
    """The select against its reference, bit for bit."""
    expected = [function(s, *settings) for s in reference.samples(batch, FEW, draw)]
    assert select(one, batch, draw) == expected


def elastic(one: Select, batch: TokenBatch, draw: Draw, rows: list[int]) -> None:
    """Law 2: the selection of a sample is the same in any batch."""
    whole = one(batch, FEW, draw)
    part_batch, part_draw = take(batch, draw, rows)
    part = one(part_batch, FEW, part_draw)
    units = units_by_row(whole, batch)
    assert units_by_row(part, part_batch) == [units[row] for row in rows]
    inserts = inserts_by_row(whole, batch)
    assert inserts_by_row(part, part_batch) == [inserts[row] for row in rows]
