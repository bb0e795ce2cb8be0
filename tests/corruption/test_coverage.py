"""How often each token is selected: a coverage refresh takes each once a cycle."""

from __future__ import annotations

import functools
import operator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskwright import Clock, Masking, Ragged, TokenBatch, schedule
from maskwright.corruption.coverage import coverage
from maskwright.corruption.refresh import Coverage
from maskwright.corruption.selection import eligible
from maskwright.errors import ConfigError, PolicyError, ScheduleError
from tests.corruption.rows import WORDS
from tests.strategies import token_batches

RATES = st.sampled_from([0.15, 0.3, 0.5, 1.0, 1 / 3, 0.07])


def covering(rate: float, **settings: object) -> Masking:
    return Masking(rate=rate, refresh=Coverage(rate), **settings).bind(WORDS)


@given(token_batches(WORDS), RATES, st.booleans(), st.integers(0, 9), st.integers(0, 2))
def test_each_maskable_token_once_a_cycle(batch, rate, exact, seed, cycles):
    masking = covering(rate, exact=exact)
    turns = Coverage(rate).turns
    counts = coverage(masking, batch, turns * cycles, seed=seed)
    np.testing.assert_array_equal(counts.values, eligible(batch, WORDS) * cycles)


@given(token_batches(WORDS), RATES, st.integers(1, 5))
def test_each_once_with_at_least_too(batch, rate, at_least):
    masking = covering(rate, exact=True, at_least=at_least)
    counts = coverage(masking, batch, Coverage(rate).turns)
    np.testing.assert_array_equal(counts.values, eligible(batch, WORDS))


def test_a_part_of_a_cycle_is_a_part_of_the_tokens():
    batch = TokenBatch(Ragged.from_lists([list(range(5, 205))]), np.array([1]))
    counts = coverage(covering(0.15, exact=True), batch, 3)
    assert counts.values.sum() == 90
    assert counts.values.max() == 1


@pytest.mark.parametrize("exact", [False, True])
def test_cycles_differ(exact):
    batch = TokenBatch(Ragged.from_lists([list(range(5, 305))]), np.array([1]))
    masking = covering(0.15, exact=exact)
    cycles = [
        [masking.plan(batch, Clock(0, cycle * 7 + turn)).positions.tolist() for turn in range(7)]
        for cycle in range(2)
    ]
    assert all(one != two for one, two in zip(*cycles, strict=True))
    assert (
        sorted(functools.reduce(operator.iadd, cycles[0], []))
        == sorted(functools.reduce(operator.iadd, cycles[1], []))
        == list(range(300))
    )


def test_without_coverage_some_are_never_seen():
    batch = TokenBatch(Ragged.from_lists([list(range(5, 305))]), np.array([1]))
    counts = coverage(Masking(rate=0.15).bind(WORDS), batch, 7).values
    assert counts.min() == 0
    assert counts.max() > 1
    static = coverage(Masking(rate=0.15, refresh="static").bind(WORDS), batch, 7).values
    assert set(static.tolist()) == {0, 7}


def test_no_epoch_counts_nothing():
    batch = TokenBatch(Ragged.from_lists([[5], []]), np.array([1, 2]))
    assert coverage(Masking().bind(WORDS), batch, 0).to_lists() == [[0], []]
    with pytest.raises(ConfigError, match="at least 0 epochs, got -1"):
        coverage(Masking().bind(WORDS), batch, -1)


def test_what_an_epoch_does_not_say():
    batch = TokenBatch(Ragged.from_lists([[5]]), np.array([1]))
    masking = Masking(refresh="every-10-steps").bind(WORDS)
    with pytest.raises(PolicyError, match="needs the optimizer step"):
        coverage(masking, batch, 1)
    with pytest.raises(ScheduleError):
        coverage(replace(masking, refresh="dynamic", rate=schedule.Linear(0.1, 0.2)), batch, 1)
