"""How often a guided select takes each token, against the exact distribution.

Inputs are fixed; over their choice a right implementation fails one of these checks with a chance
of at most 1e-6.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from scipy import stats

from maskwright import Clock, Masking
from maskwright.corruption import Above, Cautious, Tokens, Weighted
from maskwright.corruption.reference_scored import inclusion
from tests.corruption.rows import WORDS, same_rows

FALSE_ALARM = 1e-6
SAMPLES = 20_000
SCORES = np.array([0.5, 4.0, 1.0, 2.0, 0.25, 1.0])


def flags(select, rate: float, scores: np.ndarray = SCORES, seed: int = 0) -> np.ndarray:
    """Which tokens of each of many equal samples are selected, ``(samples, tokens)`` bool."""
    batch = same_rows(np.arange(5, 5 + len(scores)), SAMPLES)
    batch = replace(batch, scores=batch.tokens.like(np.tile(scores, SAMPLES)))
    plan = Masking(select, rate=rate).bind(WORDS).plan(batch, Clock(seed))
    return plan.selected.values.reshape(SAMPLES, len(scores)).astype(bool)


def agree(got: np.ndarray, wanted: list[float]) -> None:
    for count, probability in zip(got.sum(0).tolist(), wanted, strict=True):
        test = stats.binomtest(count, SAMPLES, min(probability, 1.0))
        assert test.pvalue > FALSE_ALARM / 100, (count / SAMPLES, probability)


def sets(weights: np.ndarray, many: int) -> dict[tuple[int, ...], float]:
    """The exact probability of each set of ``many``, drawn one after another by weight."""
    out: dict[tuple[int, ...], float] = {}
    for order in permutations(range(len(weights)), many):
        left, probability = weights.sum(), 1.0
        for i in order:
            probability *= weights[i] / left
            left -= weights[i]
        key = tuple(sorted(order))
        out[key] = out.get(key, 0.0) + probability
    return out


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("end, sign", [("high", 1), ("low", -1)])
@pytest.mark.parametrize("many", [1, 2, 4])
def test_each_token_is_as_likely_as_successive_sampling_says(temperature, end, sign, many):
    weights = (SCORES ** (sign / temperature)).tolist()
    agree(flags(Weighted(temperature, end), many / 6), inclusion(weights, many))


def test_each_set_of_three_is_as_likely_as_successive_sampling_says():
    got = flags(Weighted(), 0.5)
    counts: dict[tuple[int, ...], int] = {}
    for row in got:
        key = tuple(np.flatnonzero(row).tolist())
        counts[key] = counts.get(key, 0) + 1
    exact = sets(SCORES, 3)
    assert set(counts) <= set(exact)
    seen = np.array([counts.get(key, 0) for key in exact])
    wanted = np.array(list(exact.values())) * SAMPLES
    big = wanted >= 5
    seen, wanted = (np.append(x[big], x[~big].sum()) for x in (seen, wanted))
    assert stats.chisquare(seen[wanted > 0], wanted[wanted > 0]).pvalue > FALSE_ALARM


def test_the_comparison_can_fail():
    with pytest.raises(AssertionError):
        agree(flags(Weighted(), 0.5), inclusion((SCORES**1.2).tolist(), 3))


def test_equal_scores_are_chance():
    agree(flags(Weighted(), 0.5, np.ones(6)), [0.5] * 6)
    agree(flags(Weighted(0), 0.5, np.ones(6)), [0.5] * 6)
    agree(flags(Weighted(1e6), 0.5), [0.5] * 6)


def test_the_number_is_rounded_without_bias():
    taken = flags(Weighted(), 0.4).sum(1)  # 2.4 of 6
    assert set(taken.tolist()) == {2, 3}
    assert stats.binomtest(int((taken == 3).sum()), SAMPLES, 0.4).pvalue > FALSE_ALARM


@pytest.mark.parametrize("settings", [{"chance": 0.4}, {"floor": 0.2}])
def test_a_token_without_weight_keeps_exactly_its_floor(settings):
    """Its score is so low that only the part by chance can take it: the bound is met exactly."""
    scores = np.array([1e-30, 5, 5, 5, 5, 5])
    got = flags(Weighted(**settings), 0.5, scores)
    agree(got[:, :1], [0.2])
    assert (got.sum(1) == 3).all()  # and the budget is the budget


@pytest.mark.parametrize("floor", [0.05, 0.3])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_no_token_is_selected_less_often_than_its_floor(floor, temperature):
    scores = np.array([1e-30, 100, 0, 7, 1, 0.5, 3])
    got = flags(Weighted(temperature, floor=floor), 0.35, scores)
    for count in got.sum(0).tolist():
        assert stats.binomtest(count, SAMPLES, floor, "less").pvalue > FALSE_ALARM
    without = flags(Weighted(temperature), 0.35, scores)
    assert without[:, 0].sum() == 0  # the check can fail


def test_hints_are_never_selected_and_equal_ones_take_turns():
    got = flags(Weighted(hints=0.34, chance=0.5), 0.5)
    assert got[:, [1, 3]].sum() == 0
    assert (got.sum(1) == 3).all()
    # one of two equal highest is shown, by chance
    scores = np.array([1.0, 9.0, 9.0, 1.0])
    got = flags(Weighted(0, hints=0.25), 0.25, scores)
    agree(got, [0, 0.5, 0.5, 0])


def test_the_rule_has_the_probability_of_the_rate():
    got = flags(Above(0.5), 0.3)
    # ranks 0.2, 1, 0.5, 0.8, 0, 0.5: the two at 0.5 are not above
    agree(got[:, [1, 3]], [0.3, 0.3])
    assert got[:, [0, 2, 4, 5]].sum() == 0
    both = stats.binomtest(int(got[:, [1, 3]].all(1).sum()), SAMPLES, 0.09)
    assert both.pvalue > FALSE_ALARM


def test_a_floor_under_the_rule():
    got = flags(Above(0.5) | Tokens().at(0.1), 0.3)
    above = 0.1 + 0.9 * 0.3
    agree(got, [0.1, above, 0.1, above, 0.1, 0.1])


def test_tokens_without_a_score_are_as_likely_as_the_start_says():
    scores = np.array([np.nan, 4, 1, np.nan, 2, 1])
    known = inclusion([4, 1, 2, 1], 2)
    got = flags(Cautious(Weighted(), 0.1), 0.5, scores)
    agree(got, [0.1, known[0], known[1], 0.1, known[2], known[3]])
