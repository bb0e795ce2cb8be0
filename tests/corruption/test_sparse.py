"""Every n-th token, tokens at a distance, stratified tokens."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from maskwright import Masking
from maskwright.corruption import reference_structure as reference
from maskwright.corruption.selection import eligible
from maskwright.corruption.sparse import EveryNth, MinDistance, Stratified
from maskwright.errors import PolicyError
from tests.corruption.rows import WORDS, same_rows
from tests.corruption.structure_rows import (
    FEW,
    agrees,
    batch_of,
    draw_of,
    drawn_batches,
    elastic,
    select,
)

FALSE_ALARM = 1e-6


# -- every n-th ------------------------------------------------------------------------------


@given(drawn_batches(), st.integers(1, 9), st.integers(0, 9))
def test_every_nth_is_its_reference(drawn, n, turn):
    batch, draw = drawn
    low = np.full(len(batch), (turn % n) / n)
    draw = replace(draw, low=low, high=low + 1 / n)
    agrees(EveryNth(n), batch, draw, reference.every_nth, n)


def test_every_third_of_the_maskable():
    batch = batch_of([1, 6, 7, 8, 9, 6, 7, 8, 2], [1, 2], [])
    got = select(EveryNth(3), batch, draw_of(batch, 1 / 3))
    assert got[0] in ([[1], [4], [7]], [[2], [5]], [[3], [6]])
    assert got[1:] == [[], []]


def test_every_nth_has_a_place_of_its_own_in_each_sample():
    plan = Masking(EveryNth(4), rate=0.25).bind(WORDS).plan(same_rows(np.arange(5, 25), 4000))
    chosen = plan.selected.values.reshape(4000, 20)
    assert (chosen.sum(1) == 5).all()
    assert stats.chisquare(chosen[:, :4].sum(0)).pvalue > FALSE_ALARM


def test_every_nth_goes_through_all_tokens_under_coverage():
    batch = batch_of([6] * 11, [7] * 4)
    masking = Masking(EveryNth(4), rate=0.25, refresh="coverage-0.25").bind(FEW)
    from maskwright.corruption.coverage import coverage

    assert (coverage(masking, batch, 4).values == 1).all()


def test_a_short_sample_gives_one_where_one_is_asked_for():
    batch = batch_of(*[[6, 7]] * 50)
    got = select(EveryNth(30), batch, draw_of(batch, 1 / 30, exact=True, at_least=1))
    assert all(len(units) == 1 for units in got)
    assert {unit for units in got for (unit,) in units} == {0, 1}


def test_every_nth_refuses_another_rate():
    batch = batch_of([6, 7])
    with pytest.raises(PolicyError, match=r"selects 0\.25 .* its rate is 0\.15. Set rate=1/4"):
        Masking(EveryNth(4)).bind(FEW).plan(batch)
    assert Masking(EveryNth(4).at(1 / 4)).bind(FEW).plan(batch)
    assert Masking(EveryNth(3), rate=0.333).bind(FEW).plan(batch)


# -- at a distance ---------------------------------------------------------------------------


@given(drawn_batches(), st.integers(1, 9))
def test_min_distance_is_its_reference(drawn, distance):
    agrees(MinDistance(distance), *drawn, reference.min_distance, distance)


@given(drawn_batches(), st.integers(1, 9))
def test_no_two_are_closer(drawn, distance):
    batch, draw = drawn
    for units in select(MinDistance(distance), batch, draw):
        assert (np.diff([p for (p,) in units]) >= distance).all()


def test_at_distance_1_the_number_is_the_budget():
    batch = batch_of([6] * 40, [1] * 5)
    assert len(select(MinDistance(1), batch, draw_of(batch, 0.25))[0]) == 10


def test_above_the_reachable_rate_a_sample_is_full():
    batch = batch_of([6] * 3000)
    (units,) = select(MinDistance(10), batch, draw_of(batch, 1.0))
    places = np.array([p for (p,) in units])
    # nothing more fits: no gap has room for another
    assert (np.diff(places) < 20).all()
    assert places[0] < 10
    assert places[-1] > 2989
    # Rényi's constant for a lattice of this distance is 0.7658; 0.02 is over 6 deviations
    assert abs(len(places) * 10 / 3000 - 0.766) < 0.03
    below = select(MinDistance(10), batch, draw_of(batch, 0.05))
    assert len(below[0]) == 150


# -- stratified ------------------------------------------------------------------------------


@given(drawn_batches())
def test_stratified_is_its_reference(drawn):
    agrees(Stratified(), *drawn, reference.stratified)


@given(drawn_batches())
def test_one_in_each_part(drawn):
    batch, draw = drawn
    allowed = eligible(batch, FEW)
    for row, units in enumerate(select(Stratified(), batch, draw)):
        start, stop = batch.tokens.offsets[row : row + 2]
        places = np.flatnonzero(allowed[start:stop])
        ranks = np.searchsorted(places, [p for (p,) in units])
        assert [rank * len(units) // len(places) for rank in ranks] == list(range(len(units))) or (
            # parts of unequal size: the floor of the bounds decides
            all(
                j * len(places) // len(units) <= rank < (j + 1) * len(places) // len(units)
                for j, rank in enumerate(ranks)
            )
        )


def test_stratified_draws_uniformly_in_a_part():
    plan = Masking(Stratified(), rate=0.1).bind(WORDS).plan(same_rows(np.arange(5, 25), 5000))
    chosen = plan.selected.values.reshape(5000, 2, 10)
    assert (chosen.sum(2) == 1).all()
    assert stats.chisquare(chosen.sum(0).ravel()).pvalue > FALSE_ALARM
    pairs = np.histogram2d(chosen[:, 0].argmax(1), chosen[:, 1].argmax(1), 10)[0]
    assert stats.chi2_contingency(pairs).pvalue > FALSE_ALARM


# -- all -------------------------------------------------------------------------------------


@pytest.mark.parametrize("one", [MinDistance(3), Stratified()])
@given(drawn=drawn_batches(min_rows=1), data=st.data())
def test_any_batch_of_the_same_samples(one, drawn, data):
    rows = data.draw(st.lists(st.integers(0, len(drawn[0]) - 1), max_size=6))
    elastic(one, *drawn, rows)


@given(drawn_batches(min_rows=1), st.data())
def test_every_nth_in_any_batch(drawn, data):
    batch, draw = drawn
    rows = data.draw(st.lists(st.integers(0, len(batch) - 1), max_size=6))
    elastic(EveryNth(3), batch, replace(draw, high=np.full(len(batch), 1 / 3)), rows)


@pytest.mark.parametrize("one", [MinDistance(3), Stratified()])
def test_no_second_turn(one):
    batch = batch_of([6, 7])
    with pytest.raises(PolicyError, match=r'without replacement.*Use refresh="dynamic"'):
        one(batch, FEW, draw_of(batch, 0.4, low=0.2))


@pytest.mark.parametrize("one", [EveryNth, MinDistance])
@pytest.mark.parametrize("value", [0, -1, 2.5])
def test_counts_are_counts(one, value):
    with pytest.raises(PolicyError, match="must be at least 1, got"):
        one(value)
