"""A rate drawn for each sample: its distribution, and the counts that come of it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from maskwright import Clock, Masking
from maskwright.corruption import SampledRate
from maskwright.corruption.rate import rates_of
from maskwright.errors import PolicyError
from tests.corruption.rows import WORDS, same_rows, subset

FALSE_ALARM = 1e-6


def counts_of(masking, length, samples=20_000):
    plan = masking.bind(WORDS).plan(same_rows(np.arange(5, 5 + length), samples), Clock(3))
    return plan.selected.values.reshape(samples, length).sum(1), plan


@pytest.mark.parametrize("low, high", [(0.0, 1.0), (0.2, 0.5)])
def test_rates_are_uniform(low, high):
    batch = same_rows([5], 20_000)
    rates = rates_of(SampledRate(low, high), batch, Clock(), 11)
    assert low <= rates.min()
    assert rates.max() < high
    assert stats.kstest(rates, stats.uniform(low, high - low).cdf).pvalue > FALSE_ALARM
    # and another run draws others
    other = rates_of(SampledRate(low, high), batch, Clock(), 12)
    assert abs(np.corrcoef(rates, other)[0, 1]) < 0.05


def test_a_rate_without_width_is_a_rate():
    batch = same_rows([5], 10)
    assert (rates_of(SampledRate(0.3, 0.3), batch, Clock(), 1) == 0.3).all()


def test_the_rate_of_a_sample_is_its_own():
    masking = Masking(rate=SampledRate()).bind(WORDS)
    batch = same_rows([5, 6, 7], 20)
    rows = [7, 0, 7, 19]
    whole = masking.plan(batch).rates
    np.testing.assert_array_equal(masking.plan(subset(batch, rows)).rates, whole[rows])


def test_independent_draws_have_the_rate_of_their_sample():
    counts, plan = counts_of(Masking(rate=SampledRate()), 500, 500)
    # 500 binomial counts at once: the sum of squared deviations is chi-squared
    rates = plan.rates
    inside = (rates > 0.05) & (rates < 0.95)
    deviations = (counts - 500 * rates) / np.sqrt(500 * rates * (1 - rates))
    total = (deviations[inside] ** 2).sum()
    assert FALSE_ALARM < stats.chi2(inside.sum()).sf(total) < 1 - FALSE_ALARM


@pytest.mark.parametrize("length", [1, 2, 7])
def test_counts_of_cmlm_are_uniform_from_1_to_n(length):
    masking = Masking(rate=SampledRate(), exact=True, at_least=1)
    counts, _ = counts_of(masking, length)
    seen = np.bincount(counts, minlength=length + 1)
    assert seen[0] == 0
    if length > 1:
        assert stats.chisquare(seen[1:]).pvalue > FALSE_ALARM


@pytest.mark.parametrize("length", [1, 4])
def test_counts_without_a_least_are_uniform_from_0_to_n(length):
    counts, _ = counts_of(Masking(rate=SampledRate(), exact=True), length)
    assert stats.chisquare(np.bincount(counts, minlength=length + 1)).pvalue > FALSE_ALARM


def test_a_narrower_range_is_rounded_without_bias():
    masking = Masking(rate=SampledRate(0.2, 0.4), exact=True)
    counts, plan = counts_of(masking, 7)
    assert np.abs(counts - 7 * plan.rates).max() < 1
    difference = counts - 7 * plan.rates
    assert stats.ttest_1samp(difference, 0).pvalue > FALSE_ALARM


@pytest.mark.parametrize("low, high", [(-0.1, 1), (0, 1.1), (float("nan"), 1), (0.6, 0.5)])
def test_bounds_are_checked(low, high):
    with pytest.raises(PolicyError):
        SampledRate(low, high)
