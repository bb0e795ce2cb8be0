"""Recurring spans (Splinter)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from maskwright.corruption import reference_structure as reference
from maskwright.corruption.recurring import Recurring
from maskwright.corruption.selection import budgets, eligible
from maskwright.errors import PolicyError
from tests.corruption.structure_rows import (
    FEW,
    agrees,
    batch_of,
    draw_of,
    drawn_batches,
    elastic,
    select,
)


@given(drawn_batches(), st.integers(1, 4), st.integers(0, 6), st.booleans())
def test_recurring_is_its_reference(drawn, shortest, more, words):
    batch, draw = drawn
    batch = batch if words else replace(batch, word_starts=None)
    longest = shortest + more
    agrees(Recurring(longest, shortest), batch, draw, reference.recurring, longest, shortest)


@given(drawn_batches(min_rows=1), st.data())
def test_any_batch_of_the_same_samples(drawn, data):
    rows = data.draw(st.lists(st.integers(0, len(drawn[0]) - 1), max_size=6))
    elastic(Recurring(4), *drawn, rows)


def test_all_but_one_occurrence_literally():
    #                 [a b c]    [a b]    [a b c]       [a b]
    batch = batch_of([6, 7, 8, 9, 6, 7, 10, 6, 7, 8, 11, 6, 7])
    (units,) = select(Recurring(), batch, draw_of(batch, 1.0))
    longer, shorter = units[:1], units[1:]
    if len(units[0]) == 2:
        longer, shorter = [u for u in units if len(u) == 3], [u for u in units if len(u) == 2]
    assert longer in ([[0, 1, 2]], [[7, 8, 9]])
    assert shorter in ([[4, 5]], [[11, 12]])


def test_a_span_passes_over_nothing():
    """Not over a special or protected token, nor from a sample to the next."""
    batch = batch_of([6, 7, 1, 6, 2, 7], [6, 7], [6, 7])
    assert select(Recurring(), batch, draw_of(batch, 1.0)) == [[], [], []]
    batch = batch_of([6, 7, 8, 6, 7], protected=[[0, 0, 0, 0, 1]])
    assert select(Recurring(), batch, draw_of(batch, 1.0)) == [[]]


def test_occurrences_that_overlap_are_taken_from_the_left():
    batch = batch_of([6] * 5)
    (units,) = select(Recurring(2), batch, draw_of(batch, 1.0))
    assert units in ([[0, 1]], [[2, 3]])
    batch = batch_of([6, 6, 6])
    assert select(Recurring(2), batch, draw_of(batch, 1.0)) == [[]]


def test_spans_are_whole_words():
    tokens, words = [6, 7, 8, 9, 6, 7, 10], [1, 0, 1, 1, 1, 0, 0]
    batch = batch_of(tokens)
    assert select(Recurring(), batch, draw_of(batch, 1.0)) in ([[[0, 1]]], [[[4, 5]]])
    batch = batch_of(tokens, word_starts=[words])
    assert select(Recurring(), batch, draw_of(batch, 1.0)) == [[]]
    batch = batch_of(tokens, word_starts=[[1, 0, 1, 1, 1, 0, 1]])
    assert len(select(Recurring(), batch, draw_of(batch, 1.0))[0]) == 1


def test_which_occurrence_stays_is_uniform():
    batch = batch_of(*[[6, 7, 8, 6, 7, 9, 6, 7]] * 3000)
    got = select(Recurring(), batch, draw_of(batch, 1.0))
    assert all(len(units) == 2 for units in got)
    stays = [({0, 3, 6} - {u[0] for u in units}).pop() for units in got]
    assert stats.chisquare(np.bincount(stays)[[0, 3, 6]]).pvalue > 1e-6


@given(drawn_batches())
def test_the_budget_is_a_share_of_all_maskable_tokens(drawn):
    batch, draw = drawn
    wanted = budgets(draw, batch, eligible(batch, FEW))
    for units, budget in zip(select(Recurring(4), batch, draw), wanted, strict=True):
        taken = sum(map(len, units))
        assert taken <= budget or (len(units) == 1 and draw.at_least)


@pytest.mark.parametrize("longest, shortest", [(1, 2), (3, 0)])
def test_lengths_are_checked(longest, shortest):
    with pytest.raises(PolicyError, match="shortest must be from 1 to longest"):
        Recurring(longest, shortest)


def test_no_second_turn():
    batch = batch_of([6, 7])
    with pytest.raises(PolicyError, match="without replacement"):
        Recurring()(batch, FEW, draw_of(batch, 0.4, low=0.2))
