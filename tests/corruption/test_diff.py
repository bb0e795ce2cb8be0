"""Where two plans differ, in literal cases."""

from __future__ import annotations

import numpy as np
import pytest

from maskwright import Clock, Masking
from maskwright.corruption import Action
from maskwright.errors import BatchError
from tests.corruption.rows import WORDS, same_rows
from tests.corruption.test_show import plan_of

ROWS = [[5, 6], [7, 8, 5, 6], [5]]
MASKED = [(1, Action.MASK, 4), (3, Action.RANDOM, 9), (4, Action.RANDOM, 9)]


def test_every_way_to_differ():
    first = plan_of(ROWS, MASKED, inserts=[(3, 7), (5, 8)])
    second = plan_of(
        ROWS,
        [(0, Action.MASK, 4), (3, Action.RANDOM, 8), (4, Action.KEEP, 5)],
        inserts=[(3, 7), (3, 7), (5, 8)],
        order=[0, 1, 4, 3, 2, 5, 6],
    )
    found = first.diff(second)
    assert found
    assert found.only_first.tolist() == [1]
    assert found.only_second.tolist() == [0]
    assert found.action.tolist() == [4]
    assert found.replacement.tolist() == [3]
    assert found.inserts.tolist() == [3]
    assert found.order.tolist() == [2, 4]
    assert found.positions.tolist() == [0, 1, 2, 3, 4]
    assert found.samples.tolist() == [10, 11]
    assert repr(found) == (
        "PlanDiff(1 selected only in the first, 1 selected only in the second, 1 another action, "
        "1 another replacement, 1 another insert, 2 another place, of 7 tokens in 3 samples; in "
        "samples 10, 11)"
    )


def test_the_same_plan():
    found = plan_of(ROWS, MASKED).diff(plan_of(ROWS, MASKED, order=range(7)))
    assert not found
    assert (found.counts, found.positions.tolist(), found.samples.tolist()) == ({}, [], [])
    assert repr(found) == "PlanDiff(none in 7 tokens in 3 samples)"


def test_other_inserts_at_the_same_places_and_at_the_end():
    first, second = (plan_of(ROWS, [], inserts=[(2, 7), (7, token)]) for token in (5, 6))
    found = first.diff(second)
    assert found.inserts.tolist() == [7]
    assert found.samples.tolist() == [12]


def test_empty_samples_never_differ():
    first, second = (plan_of([[], [5], [], [6]], [(i, Action.KEEP, 5 + i)]) for i in (0, 1))
    assert first.diff(second).samples.tolist() == [11, 13]
    assert not plan_of([], []).diff(plan_of([], []))


def test_two_epochs():
    batch, masking = same_rows(np.arange(5, 205), 3), Masking().bind(WORDS)
    first, again, later = (masking.plan(batch, Clock(0, epoch)) for epoch in (0, 0, 1))
    assert not first.diff(again)
    found = first.diff(later)
    assert len(found.only_first) == len(np.setdiff1d(first.positions, later.positions))
    assert set(found.counts) >= {"selected only in the first", "selected only in the second"}
    assert "in samples 0, 1, 2)" in repr(found)
    mirrored = later.diff(first)
    assert mirrored.only_second.tolist() == found.only_first.tolist()
    assert mirrored.positions.tolist() == found.positions.tolist()


def test_many_samples_are_not_all_named():
    batch, masking = same_rows(np.arange(5, 105), 9), Masking(rate=0.5).bind(WORDS)
    found = masking.plan(batch, Clock(0, 0)).diff(masking.plan(batch, Clock(0, 1)))
    assert repr(found).endswith("in samples 0, 1, 2, 3, 4 and 4 more)")


@pytest.mark.parametrize("rows", [[[5, 6], [7, 8, 5, 5], [5]], [[5, 6], [7, 8, 5], [6, 5]]])
def test_plans_of_other_tokens(rows):
    with pytest.raises(BatchError, match="other tokens in the same samples"):
        plan_of(ROWS, []).diff(plan_of(rows, []))


def test_plans_of_other_samples():
    with pytest.raises(BatchError, match=r"these have samples \[10 11 12\]"):
        plan_of(ROWS, []).diff(plan_of(ROWS[:2], []))
