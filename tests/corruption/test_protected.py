"""Law 4: special and protected positions are never selected; replacements are real tokens."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given

from maskwright import Keep, Mask, Masking, Ragged, Random, TokenBatch, Vocabulary
from maskwright.corruption import Action
from tests.corruption.rows import WORDS, same_rows
from tests.strategies import draws_of_masks


@pytest.mark.parametrize("exact", [False, True])
def test_special_and_protected_literally(exact):
    tokens = Ragged.from_lists([[2, 5, 6, 7, 3], [8, 9]])
    protected = tokens.like(np.array([0, 1, 0, 0, 0, 0, 1], np.uint8))
    batch = TokenBatch(tokens, np.array([0, 1]), protected=protected)
    plan = Masking(rate=1.0, exact=exact).bind(WORDS).plan(batch)
    assert plan.selected.to_lists() == [[0, 0, 1, 1, 0], [1, 0]]


@given(draws_of_masks(min_rows=1))
def test_special_and_protected_are_never_selected(drawn):
    masking, batch, clock = drawn
    masking = replace(masking, rate=1.0)
    plan = masking.plan(batch, clock)
    free = masking.bound.maskable[batch.tokens.values.astype(np.int64)]
    if batch.protected is not None:
        free &= batch.protected.values == 0
    # at the rate 1 the other way round too: all that may be selected is
    assert plan.positions.tolist() == np.flatnonzero(free).tolist()


@given(draws_of_masks())
def test_what_stands_at_a_selected_position(drawn):
    masking, batch, clock = drawn
    plan = masking.plan(batch, clock)
    actions, new = plan.actions, plan.replacements
    own = batch.tokens.values[plan.positions]
    assert (new[actions == Action.MASK] == masking.bound.mask_id).all()
    assert (new[actions == Action.KEEP] == own[actions == Action.KEEP]).all()
    assert np.isin(new[actions == Action.RANDOM], masking.bound.replacements).all()
    assert set(actions.tolist()) <= {act.code for share, act in masking.act.parts if share}
    rest = np.delete(plan.corrupted.values, plan.positions)
    assert rest.tolist() == np.delete(batch.tokens.values, plan.positions).tolist()


def test_every_real_token_and_no_other_is_drawn():
    vocabulary = Vocabulary(12, mask_id=4, pad_id=0, special_ids=(7, 11), unused_ids=(2, 9))
    masking = Masking(rate=1.0, act=Random()).bind(vocabulary)
    drawn = masking.plan(same_rows(np.full(100, 5), 40)).replacements
    assert sorted(set(drawn.tolist())) == [1, 3, 5, 6, 8, 10]


def test_a_policy_without_mask_token_needs_none():
    vocabulary = Vocabulary(12, pad_id=0)
    act = 0.0 * Mask() + 0.5 * Random() + 0.5 * Keep()
    plan = Masking(rate=1.0, act=act).bind(vocabulary).plan(same_rows(np.full(50, 5), 20))
    assert set(plan.actions.tolist()) == {Action.RANDOM, Action.KEEP}


def test_user_labels_are_the_targets():
    tokens = Ragged.from_lists([[5, 6, 7]])
    labels = tokens.like(np.array([50, 60, 70]))
    plan = Masking(rate=1.0).bind(WORDS).plan(TokenBatch(tokens, np.array([0]), labels=labels))
    assert plan.targets.tolist() == [50, 60, 70]
    assert plan.labels().to_lists() == [[50, 60, 70]]
