"""Places to put noise into."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from maskwright.corruption import reference_structure as reference
from maskwright.corruption.gaps import Gaps
from tests.corruption.structure_rows import (
    FEW,
    batch_of,
    draw_of,
    drawn_batches,
    elastic,
    inserts_by_row,
)


def gaps(batch, draw):
    selection = Gaps()(batch, FEW, draw)
    assert len(selection.positions) == 0
    assert selection.inserts.dtype == np.int64
    assert (np.diff(selection.inserts) > 0).all()
    return inserts_by_row(selection, batch)


@given(drawn_batches(), st.sampled_from([0.0, 0.1, 0.35, 0.8]))
def test_gaps_are_their_reference(drawn, low):
    batch, draw = drawn
    high = np.minimum(1.0, low + draw.high)
    draw = replace(draw, low=np.full(len(batch), low), high=high)
    assert gaps(batch, draw) == [reference.gaps(s) for s in reference.samples(batch, FEW, draw)]


@given(drawn_batches(min_rows=1), st.data())
def test_any_batch_of_the_same_samples(drawn, data):
    rows = data.draw(st.lists(st.integers(0, len(drawn[0]) - 1), max_size=6))
    elastic(Gaps(), *drawn, rows)


@pytest.mark.parametrize("exact", [False, True])
def test_gaps_literally(exact):
    batch = batch_of(
        [1, 6, 7, 2, 2, 8], [], [1, 2], [6], protected=[[0] * 5 + [1], [], [0] * 2, [0]]
    )
    # before each maskable token and after the last; not at the very end of a sample
    assert gaps(batch, draw_of(batch, 1.0, exact=exact)) == [[1, 2, 3], [], [], [0]]


def test_gaps_are_drawn_with_the_rate():
    batch = batch_of(*[[1, 6, 7, 8, 2]] * 5000)
    seen = np.bincount(np.concatenate(gaps(batch, draw_of(batch, 0.2))).astype(int), minlength=5)
    assert seen[0] == 0
    for count in seen[1:]:
        assert stats.binomtest(int(count), 5000, 0.2).pvalue > 1e-6


def test_an_exact_number_of_gaps():
    batch = batch_of(*[[1] + [6] * 9 + [2]] * 100)
    assert {len(row) for row in gaps(batch, draw_of(batch, 0.3, exact=True))} == {3}
    counts = [len(row) for row in gaps(batch, draw_of(batch, 0.25, exact=True))]
    assert set(counts) == {2, 3}
    assert 20 < counts.count(2) < 80


def test_each_gap_has_its_turn():
    batch = batch_of(*[[1] + [6] * 9 + [2]] * 20)
    for exact in (False, True):
        turns = [
            gaps(batch, draw_of(batch, high, low=low, exact=exact))
            for low, high in ((0, 0.4), (0.4, 0.8), (0.8, 1.0))
        ]
        for rows in zip(*turns, strict=True):
            assert sorted(p for row in rows for p in row) == list(range(1, 11))
