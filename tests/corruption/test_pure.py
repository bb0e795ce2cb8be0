"""Law 1: a plan reads no global random state, writes none, and changes no input."""

from __future__ import annotations

import random

import numpy as np
import torch
from hypothesis import given

from maskwright import Clock, Masking, mlm
from tests.corruption.rows import WORDS, by_row, same_rows
from tests.strategies import draws_of_masks


def states() -> list[bytes]:
    """The global random state of Python, numpy and torch."""
    return [
        repr(random.getstate()).encode(),
        repr([str(part) for part in np.random.get_state()]).encode()
        + np.random.get_state()[1].tobytes(),
        torch.get_rng_state().numpy().tobytes(),
    ]


def plan_and_emit(masking: Masking, batch, clock: Clock):
    plan = masking.plan(batch, clock)
    plan.selected, plan.corrupted, plan.labels()
    if plan.masking.bound.pad_id is not None:
        mlm(plan)
    return plan


@given(draws_of_masks())
def test_nothing_global_changes_and_no_input(drawn):
    masking, batch, clock = drawn
    values, offsets = batch.tokens.values.copy(), batch.tokens.offsets.copy()
    ids, before = batch.sample_ids.copy(), states()
    protected = None if batch.protected is None else batch.protected.values.copy()
    plan_and_emit(masking, batch, clock)
    assert states() == before
    np.testing.assert_array_equal(batch.tokens.values, values)
    np.testing.assert_array_equal(batch.tokens.offsets, offsets)
    np.testing.assert_array_equal(batch.sample_ids, ids)
    if protected is not None:
        np.testing.assert_array_equal(batch.protected.values, protected)


def test_global_seeds_are_not_read():
    batch, masking, seen = same_rows(np.arange(5, 105), 4), Masking().bind(WORDS), []
    kept = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        for seed in (1, 2):
            random.seed(seed)
            np.random.seed(seed)
            torch.manual_seed(seed)
            seen.append(by_row(masking.plan(batch, Clock(5))))
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])
        torch.set_rng_state(kept[2])
    assert seen[0] == seen[1]
    assert any(seen[0])


def test_the_look_at_states_can_fail():
    before, kept = states(), (random.getstate(), np.random.get_state(), torch.get_rng_state())
    try:
        random.random()
        np.random.random()
        torch.rand(1)
        after = states()
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])
        torch.set_rng_state(kept[2])
    assert all(one != other for one, other in zip(before, after, strict=True))


@given(draws_of_masks())
def test_the_same_twice(drawn):
    masking, batch, clock = drawn
    assert by_row(masking.plan(batch, clock)) == by_row(masking.plan(batch, clock))
