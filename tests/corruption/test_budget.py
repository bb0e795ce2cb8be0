"""Law 5: exact budgets per sample, unbiased; and independent draws without `exact`.

Inputs are fixed, so a right implementation passes for ever; over the choice of the inputs it would
fail a test with a chance of at most 1e-6.
"""

from __future__ import annotations

from math import ceil, floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from maskwright import Clock, Masking
from tests.corruption.rows import WORDS, same_rows
from tests.strategies import draws_of_masks

FALSE_ALARM = 1e-6


def counts(plan) -> np.ndarray:
    rows = plan.batch.tokens.rows[plan.positions]
    return np.bincount(rows, minlength=len(plan.batch))


@given(draws_of_masks(min_rows=1), st.sampled_from([0.0, 0.1, 0.15, 0.3, 0.5, 1.0]))
def test_each_sample_gets_its_budget(drawn, rate):
    masking, batch, clock = drawn
    for at_least in (0, 2):
        policy = Masking(rate=rate, exact=True, at_least=at_least).bind(masking.bound)
        everything = Masking(rate=1.0).bind(masking.bound).plan(batch, clock)
        for k, m in zip(counts(policy.plan(batch, clock)), counts(everything), strict=True):
            least = min(at_least, m)
            assert k in {max(floor(rate * m), least), max(ceil(rate * m), least)}


@pytest.mark.parametrize("rate, m", [(0.15, 7), (0.15, 33), (0.3, 1), (0.5, 3), (0.999, 10)])
def test_rounding_is_unbiased(rate, m):
    batch = same_rows(np.array([2, *range(5, 5 + m), 3]), 20_000)
    plan = Masking(rate=rate, exact=True).bind(WORDS).plan(batch, Clock(4))
    up = int((counts(plan) == floor(rate * m) + 1).sum())
    assert (counts(plan) >= floor(rate * m)).all()
    test = stats.binomtest(up, 20_000, rate * m - floor(rate * m))
    assert test.pvalue > FALSE_ALARM


def test_a_whole_budget_is_not_rounded():
    batch = same_rows(np.arange(5, 25), 2000)
    plan = Masking(rate=0.5, exact=True).bind(WORDS).plan(batch)
    assert set(counts(plan).tolist()) == {10}


def test_a_rate_far_below_one_token_still_selects_at_least_one():
    batch = same_rows(np.array([2, 5, 6, 3]), 500)
    policy = Masking(rate=0.01, exact=True, at_least=1).bind(WORDS)
    assert set(counts(policy.plan(batch)).tolist()) == {1}


@pytest.mark.parametrize("exact", [False, True])
def test_each_position_is_as_likely(exact):
    batch = same_rows(np.arange(5, 25), 10_000)
    plan = Masking(rate=0.2, exact=exact).bind(WORDS).plan(batch, Clock(8))
    places = np.bincount(batch.tokens.positions[plan.positions], minlength=20)
    assert stats.chisquare(places).pvalue > FALSE_ALARM


@pytest.mark.parametrize("rate", [0.01, 0.15, 0.4, 0.9])
def test_independent_draws_are_binomial(rate):
    batch = same_rows(np.arange(5, 25), 10_000)
    per_sample = counts(Masking(rate=rate).bind(WORDS).plan(batch, Clock(2)))
    assert stats.binomtest(int(per_sample.sum()), 200_000, rate).pvalue > FALSE_ALARM
    # not only the mean: the number per sample is distributed as a binomial
    expected = stats.binom.pmf(np.arange(21), 20, rate) * 10_000
    seen = np.bincount(per_sample, minlength=21)
    common = expected >= 5
    observed = np.append(seen[common], seen[~common].sum())
    wanted = np.append(expected[common], expected[~common].sum())
    assert stats.chisquare(observed, wanted).pvalue > FALSE_ALARM


def test_the_tests_can_see_a_biased_rate():
    batch = same_rows(np.arange(5, 25), 10_000)
    taken = len(Masking(rate=0.16).bind(WORDS).plan(batch).positions)
    assert stats.binomtest(taken, 200_000, 0.15).pvalue < FALSE_ALARM


def test_a_sample_of_a_million_tokens():
    row = np.full(1_000_000, 5, np.uint16)
    row[::1000] = 2
    batch = same_rows(row, 1, first_id=2**62)
    exact = Masking(rate=0.15, exact=True).bind(WORDS).plan(batch)
    assert len(exact.positions) in {149_850, 149_851}
    free = Masking(rate=0.15).bind(WORDS).plan(batch)
    assert stats.binomtest(len(free.positions), 999_000, 0.15).pvalue > FALSE_ALARM
    assert (batch.tokens.values[free.positions] == 5).all()
    assert (np.diff(free.positions) > 0).all()
    assert (np.diff(exact.positions) > 0).all()
