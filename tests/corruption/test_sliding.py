"""A window that moves with the epoch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskwright import Clock, Masking, Tokens
from maskwright.corruption import reference_structure as reference
from maskwright.corruption.coverage import coverage
from maskwright.corruption.selection import eligible
from maskwright.corruption.sliding import Sliding
from maskwright.errors import PolicyError
from tests.corruption.structure_rows import (
    FEW,
    agrees,
    batch_of,
    draw_of,
    drawn_batches,
    elastic,
    select,
    structured_batches,
)

SIZES = st.tuples(st.integers(1, 40), st.integers(1, 40)).map(lambda s: (max(s), min(s)))


@given(drawn_batches(), SIZES)
def test_sliding_is_its_reference(drawn, sizes):
    batch, draw = drawn
    agrees(Sliding(*sizes), batch, draw, reference.sliding, *sizes, draw.clock.epoch)


def test_windows_literally():
    batch = batch_of([6] * 7, [1, 6])
    seen = [select(Sliding(3, 2), batch, draw_of(batch, epoch=epoch)) for epoch in range(4)]
    assert [[p for (p,) in rows[0]] for rows in seen] == [
        [0, 1, 2], [2, 3, 4], [4, 5, 6], [0, 1, 6],
    ]  # fmt: skip
    assert all(rows[1] == [[1]] for rows in seen)


@given(structured_batches(), SIZES)
def test_every_token_is_inside_within_a_cycle(batch, sizes):
    one = Sliding(*sizes)
    cycle = one.cycle(int(batch.tokens.lengths.max(initial=0)))
    counts = coverage(Masking(one, rate=1.0).bind(FEW), batch, cycle)
    allowed = eligible(batch, FEW)
    assert (counts.values[allowed] >= 1).all()
    assert not counts.values[~allowed].any()


def test_a_cycle_is_no_longer_than_it_must_be():
    batch = batch_of([6] * 10)
    one = Sliding(4, 3)
    assert one.cycle(10) == 3
    assert one.cycle(3) == 1
    counts = coverage(Masking(one, rate=1.0).bind(FEW), batch, 2)
    assert (counts.values == 0).any()


@given(drawn_batches(min_rows=1), st.data())
def test_any_batch_of_the_same_samples(drawn, data):
    rows = data.draw(st.lists(st.integers(0, len(drawn[0]) - 1), max_size=6))
    elastic(Sliding(5, 3), *drawn, rows)


def test_tokens_of_the_window():
    batch = batch_of([6] * 400)
    masking = Masking(Tokens() & Sliding(100, 50), rate=0.5).bind(FEW)
    first, third = (masking.plan(batch, Clock(1, epoch)).positions for epoch in (0, 2))
    assert first.max() < 100
    assert 20 < len(first) < 80
    assert third.min() >= 100
    assert third.max() < 200
    whole = Masking(rate=0.5).bind(FEW).plan(batch, Clock(1, 0)).positions
    np.testing.assert_array_equal(first, whole[whole < 100])


@pytest.mark.parametrize("sizes", [(3, 4), (3, 0), (0, 0)])
def test_settings_are_checked(sizes):
    with pytest.raises(PolicyError, match="stride must be from 1 to size"):
        Sliding(*sizes)


def test_without_an_epoch_it_is_refused():
    batch = batch_of([6])
    with pytest.raises(PolicyError, match="window of 2 moving by 1 needs the epoch"):
        select(Sliding(2, 1), batch, draw_of(batch, epoch=None))
