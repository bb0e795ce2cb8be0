"""Guided selects: literal tables, against their references, and what they refuse."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maskwright import Clock, Masking, TokenBatch, schedule
from maskwright.corruption import Above, Cautious, Diffusion, Mask, Tokens, Weighted, WholeWords
from maskwright.corruption import reference_scored as reference
from maskwright.corruption.device import mask_on_device
from maskwright.corruption.scored_kernels import logs, ordered, smallest
from maskwright.corruption.selection import eligible
from maskwright.errors import BatchError, PolicyError
from tests.corruption.rows import WORDS, same_rows
from tests.corruption.scored_rows import NAN, chosen, expected, scored, scored_batches
from tests.corruption.structure_rows import FEW, draw_of, elastic

SHARES = st.sampled_from([0.0, 0.1, 0.5, 1.0])
TEMPERATURES = st.sampled_from([0.0, 0.01, 0.5, 1.0, 2.0, 1e6])


@st.composite
def weighted(draw: st.DrawFn) -> Weighted:
    ends = st.sampled_from(["high", "low"])
    return Weighted(draw(TEMPERATURES), draw(ends), draw(SHARES), 0.0, draw(SHARES))


# -- the rule --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "scores, normalise, threshold, above",
    [
        ([1, 2, 3, 4, 5], "rank", 0.5, [3, 4]),  # 0, 0.25, 0.5, 0.75, 1: above, not at
        ([1, 2, 3, 4, 5], "rank", 0.49, [2, 3, 4]),
        ([1, 2, 3, 4, 5], "rank", 1.0, []),
        ([1, 2, 3, 4, 5], "rank", 0.0, [1, 2, 3, 4]),
        ([7, 7, 7], "rank", 0.5, []),  # equal scores share their mean rank
        ([7, 7, 7], "rank", 0.49, [0, 1, 2]),
        ([1, 9, 9, 9, 2], "rank", 0.7, [1, 2, 3]),  # ranks 2, 3, 4 of 4: 0.75
        ([1, 9, 9, 9, 2], "rank", 0.75, []),
        ([5], "rank", 0.49, [0]),
        ([5], "rank", 0.5, []),
        ([5, NAN, 4], "rank", 0.5, [0]),  # what has no score does not count
        ([NAN, NAN], "rank", 0.0, []),
        ([-math.inf, 0, math.inf], "rank", 0.4, [1, 2]),
        ([0, 0, 0, 4], "z", 1.7, [3]),  # mean 1, deviation sqrt(3): 1.732
        ([0, 0, 0, 4], "z", 1.74, []),
        ([0, 2], "z", 1.0, []),
        ([0, 2], "z", 0.0, [1]),
        ([0, 2], "z", -1.5, [0, 1]),
        ([0.1, 0.1, 0.1], "z", 0.0, []),  # all equal: 0
        ([0.1, 0.1, 0.1], "z", -0.1, [0, 1, 2]),
        ([0.25, 0.5, NAN, -1, math.inf], "none", 0.25, [1, 4]),
    ],
)
def test_what_is_above(scores, normalise, threshold, above):
    batch = scored(scores)
    assert chosen(Above(threshold, normalise), batch, draw_of(batch, 1.0)) == [above]
    # special tokens have scores too, and none of them counts
    batch = scored(scores, ends=True)
    got = chosen(Above(threshold, normalise), batch, draw_of(batch, 1.0))
    assert got == [[position + 1 for position in above]]


@given(scored_batches(), st.sampled_from(["rank", "z", "none"]), st.floats(0, 1))
def test_the_rule_is_its_reference(drawn, normalise, threshold):
    batch, draw = drawn
    draw = replace(draw, exact=False, at_least=0)
    threshold = float(np.float32(threshold))
    if normalise == "z":
        threshold += 1e-7  # exact fractions and sums of floats may differ at a tie
    got = chosen(Above(threshold, normalise), batch, draw)
    assert got == expected(batch, draw, reference.above, threshold, normalise)


@given(scored_batches(), st.floats(0, 1))
def test_the_rule_takes_from_what_chance_would(drawn, threshold):
    """The same draws as `Tokens`: a mask by chance and a guided one are comparable."""
    batch, draw = drawn
    draw = replace(draw, exact=False, at_least=0)
    free, guided = (chosen(one, batch, draw) for one in (Tokens(), Above(threshold)))
    every = chosen(Above(threshold), batch, replace(draw, high=np.ones(len(batch))))
    assert guided == [sorted(set(a) & set(b)) for a, b in zip(free, every, strict=True)]


def test_an_exact_budget_is_a_share_of_what_is_above():
    batch = scored(*[list(range(20))] * 30)
    got = chosen(Above(0.5), batch, draw_of(batch, 0.4, exact=True))
    assert {len(row) for row in got} == {4}
    assert {position for row in got for position in row} == set(range(10, 20))
    assert chosen(Above(1.0), batch, draw_of(batch, 0.4, exact=True, at_least=2)) == [[]] * 30


def test_threshold_and_probability_follow_their_schedules():
    batch = same_rows(np.arange(5, 105), 50)
    batch = replace(batch, scores=batch.tokens.like(np.tile(np.arange(100.0), 50)))
    masking = Masking(Above(schedule.Linear(0.0, 0.9)), rate=schedule.Linear(1.0, 0.5)).bind(WORDS)
    first = masking.plan(batch, Clock(0, 0, 0, 10))
    assert len(first.positions) == 50 * 99
    last = masking.plan(batch, Clock(0, 0, 10, 10))
    assert 50 * 3 < len(last.positions) < 50 * 7
    assert set((last.positions % 100).tolist()) == set(range(90, 100))


@pytest.mark.parametrize("threshold", [0.25, 0.3, 0.7])
def test_a_gpu_masks_the_same(threshold):
    rng = np.random.default_rng(3)
    batch = same_rows(np.arange(5, 305), 4)
    scores = rng.choice(np.array([0.25, 0.3, 0.5, 0.7, 0.9, np.nan], np.float32), 1200)
    batch = replace(batch, scores=batch.tokens.like(scores))
    plan = Masking(Above(threshold, "none"), rate=0.4).bind(WORDS).plan(batch, Clock(2))
    inputs, labels = mask_on_device(
        batch.tokens.to_padded(0), torch.arange(4), Masking(rate=0.4).bind(WORDS), Clock(2),
        scores=torch.from_numpy(scores.reshape(4, 300)), threshold=threshold,
    )  # fmt: skip
    assert torch.equal(inputs, plan.corrupted.to_padded(0))
    assert torch.equal(labels, plan.labels().to_padded(0))
    assert len(plan.positions) > 50


# -- by weight -------------------------------------------------------------------------------


@given(scored_batches(), weighted())
def test_weighted_is_its_reference(drawn, one):
    batch, draw = drawn
    settings = (one.temperature, one.end, one.chance, one.floor, one.hints)
    assert chosen(one, batch, draw) == expected(batch, draw, reference.weighted, *settings)


@given(scored_batches(), st.sampled_from([0.0, 0.05, 0.3]), TEMPERATURES)
def test_weighted_with_a_floor_is_its_reference(drawn, floor, temperature):
    batch, draw = drawn
    draw = replace(draw, high=np.maximum(draw.high, floor))
    got = chosen(Weighted(temperature, floor=floor), batch, draw)
    settings = (temperature, "high", 0.0, floor, 0.0)
    assert got == expected(batch, draw, reference.weighted, *settings)


@given(scored_batches(), weighted())
def test_the_number_is_the_budget(drawn, one):
    batch, draw = drawn
    known = eligible(batch, FEW) & ~np.isnan(batch.scores.values)
    many = np.bincount(batch.tokens.rows[known], minlength=len(batch))
    left = many - np.floor(one.hints * many)
    for row, own in enumerate(chosen(one, batch, draw)):
        share = draw.high[row] * many[row]
        assert len(own) <= min(max(math.ceil(share), draw.at_least), left[row])
        assert len(own) >= min(max(math.floor(share), draw.at_least), left[row])
        assert set(batch.tokens.offsets[row] + np.array(own, int)) <= set(np.flatnonzero(known))


def test_at_temperature_0_the_highest_are_taken():
    batch = scored([3, 1, 4, 1.5, 9, 2, 6, 5], ends=True)
    draw = draw_of(batch, 3 / 8)
    assert chosen(Weighted(0), batch, draw) == [[5, 7, 8]]
    assert chosen(Weighted(0, "low"), batch, draw) == [[2, 4, 6]]
    assert chosen(Weighted(0, hints=0.25), batch, draw) == [[1, 3, 8]]  # not 9 and 6
    assert chosen(Weighted(0, "low", hints=0.7), batch, draw) == [[2, 4, 6]]
    assert chosen(Weighted(0, hints=1.0), batch, draw) == [[]]


def test_no_weight_comes_last_and_at_the_low_end_first():
    batch = scored(*[[0, 5, 0, 1, 0, 2]] * 40)
    some = draw_of(batch, 0.5)
    for temperature in (0.5, 1.0, 3.0):
        assert chosen(Weighted(temperature), batch, some) == [[1, 3, 5]] * 40
        assert chosen(Weighted(temperature, "low"), batch, some) == [[0, 2, 4]] * 40
    more = chosen(Weighted(), batch, draw_of(batch, 4 / 6))
    assert {tuple(sorted({1, 3, 5} | {zero})) for zero in (0, 2, 4)} == {tuple(row) for row in more}


def test_a_score_is_a_score_in_any_precision():
    exact = scored(*[[0.5, 2, NAN, 0.125, 8]] * 9)
    half = replace(exact, scores=exact.tokens.like(exact.scores.values.astype(np.float16)))
    for one in (Above(0.5), Above(0.5, "none"), Weighted()):
        assert chosen(one, half, draw_of(half, 0.5)) == chosen(one, exact, draw_of(exact, 0.5))


@pytest.mark.parametrize("one", [Above(0.4), Above(0.1, "z"), Weighted(chance=0.3, hints=0.1)])
@given(drawn=scored_batches(min_rows=1), data=st.data())
def test_any_batch_of_the_same_samples(one, drawn, data):
    rows = data.draw(st.lists(st.integers(0, len(drawn[0]) - 1), max_size=6))
    elastic(one, *drawn, rows)


@pytest.mark.parametrize("one", [Above(0.4), Weighted(chance=0.3, hints=0.1)])
@given(drawn=scored_batches())
def test_nothing_is_written_to_the_scores(one, drawn):
    batch, draw = drawn
    before = batch.scores.values.tobytes(), batch.tokens.values.tobytes()
    chosen(one, batch, draw)
    assert (batch.scores.values.tobytes(), batch.tokens.values.tobytes()) == before


def test_they_combine():
    batch = scored(list(range(10)), list(range(10)))
    starts = batch.tokens.like(np.tile([1, 0], 10).astype(np.uint8))
    batch = replace(batch, word_starts=starts)
    words = Above(0.5) & WholeWords().at(1.0)
    assert chosen(words, batch, draw_of(batch, 1.0)) == [[5, 6, 7, 8, 9]] * 2
    floor = Above(0.5) | Tokens().at(1.0)
    assert chosen(floor, batch, draw_of(batch, 0.1)) == [list(range(10))] * 2


# -- what they are made of -------------------------------------------------------------------


@given(st.lists(st.floats(2.3e-308, 1.7e308), max_size=50))
def test_logarithms(numbers):
    own, out = np.array(numbers, float), np.empty(len(numbers))
    logs(own, out)
    wanted = np.array([math.log(number) for number in numbers])
    assert (np.abs(out - wanted) <= 1e-15 * np.maximum(1, np.abs(wanted))).all()


def test_logarithms_near_1_keep_their_bits():
    below = 1 - np.arange(1, 1000) * 2.0**-53
    out = np.empty(999)
    logs(below, out)
    np.testing.assert_allclose(out, np.log(below), rtol=5e-16)


@given(st.lists(st.integers(0, 9) | st.just(math.inf), min_size=1, max_size=60), st.data())
def test_the_number_at_a_place(numbers, data):
    which = data.draw(st.integers(0, len(numbers) - 1))
    assert ordered(np.array(numbers, float), which) == sorted(numbers)[which]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), max_size=40), st.integers(0, 45))
def test_the_smallest(pairs, many):
    keys, ties = (np.array([pair[i] for pair in pairs], float) for i in (0, 1))
    taken = np.empty(len(pairs), bool)
    smallest(keys, ties, many, np.empty(len(pairs) + 1), taken)
    order = sorted(range(len(pairs)), key=lambda i: (*pairs[i], i))
    assert np.flatnonzero(taken).tolist() == sorted(order[:many])


@pytest.mark.timeout(60)  # a quadratic step would take hours
@pytest.mark.parametrize(
    "shape", [np.ones_like, np.copy, lambda x: x[::-1].copy(), lambda x: x % 3, lambda x: x % 1000]
)
def test_a_million_scores_of_any_shape(shape):
    batch = same_rows(np.full(1_000_000, 6), 1)
    batch = replace(batch, scores=batch.tokens.like(shape(np.arange(1e6))))
    for one in (Weighted(0, chance=0.1, hints=0.1), Weighted(0, "low"), Above(0.7)):
        chosen_now = one(batch, FEW, draw_of(batch, 0.15)).positions
        assert len(chosen_now) <= 150_000


# -- what they refuse ------------------------------------------------------------------------


@pytest.mark.parametrize("one", [Above(0.5), Weighted()])
def test_a_batch_without_scores(one):
    batch = replace(scored([1, 2]), scores=None)
    with pytest.raises(BatchError, match=r"goes by scores, but the batch has none.*Cautious"):
        chosen(one, batch, draw_of(batch))


@pytest.mark.parametrize("one", [Above(0.5), Weighted()])
def test_no_second_turn(one):
    batch = scored([1, 2])
    with pytest.raises(PolicyError, match="without replacement"):
        chosen(one, batch, draw_of(batch, 0.4, low=0.2))
    with pytest.raises(PolicyError, match="without replacement"):
        Masking(one, rate=0.25, refresh="coverage-0.25").bind(FEW).plan(batch)


@pytest.mark.parametrize("bad", [-0.5, math.inf, -math.inf])
def test_scores_that_are_no_weights(bad):
    batch = scored([1, 2], [1, bad])
    with pytest.raises(BatchError, match=r"finite and at least 0 \(or NaN\); sample 1 has scores"):
        chosen(Weighted(), batch, draw_of(batch))
    special = TokenBatch(batch.tokens.like(np.array([6, 6, 6, 1])), np.arange(2))
    chosen(Weighted(), replace(special, scores=batch.scores), draw_of(batch))  # no candidate


def test_an_infinite_score_has_no_deviation():
    batch = scored([1, 2], [1, math.inf])
    with pytest.raises(BatchError, match="sample 1 has an infinite score"):
        chosen(Above(0.5, "z"), batch, draw_of(batch))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Above(1.5), "from 0 to 1 for ranks, got 1.5"),
        (lambda: Above(NAN, "none"), "must be a number, got nan"),
        (lambda: Above("0.5", "z"), "must be a number, got '0.5'"),
        (lambda: Above(schedule.Constant(-1)), "from 0 to 1 for ranks, got -1"),
        (lambda: Above(0.5, "ranks"), "Unknown normalise of Above 'ranks'. Did you mean 'rank'"),
        (lambda: Weighted(end="hihg"), "Unknown end of Weighted 'hihg'. Did you mean 'high'"),
        (lambda: Weighted(-1), "temperature must be a finite number, at least 0"),
        (lambda: Weighted(math.inf), "temperature must be a finite number"),
        (lambda: Weighted(chance=1.1), "chance is a share from 0 to 1, got 1.1"),
        (lambda: Weighted(floor=-0.1), "floor is a share from 0 to 1, got -0.1"),
        (lambda: Weighted(hints=NAN), "hints is a share from 0 to 1, got nan"),
    ],
)
def test_settings_outside_their_rules(make, message):
    with pytest.raises(PolicyError, match=message):
        make()


def test_a_schedule_that_leaves_the_ranks():
    batch = scored([1, 2, 3])
    masking = Masking(Above(schedule.Linear(0.5, 2.0))).bind(FEW)
    masking.plan(batch, Clock(0, 0, 0, 10))
    with pytest.raises(PolicyError, match=r"from 0 to 1 for ranks, got 2\.0"):
        masking.plan(batch, Clock(0, 0, 10, 10))


def test_a_floor_above_the_rate():
    batch = scored([1, 2, 3])
    with pytest.raises(PolicyError, match=r"floor=0\.2 cannot be .* at a rate of 0\.1"):
        chosen(Weighted(floor=0.2), batch, draw_of(batch, 0.1))


def test_a_select_says_whether_it_reads_scores():
    assert Above(0.5).reads_scores
    assert Weighted().reads_scores
    assert (Tokens() | Above(0.5).at(0.1)).reads_scores
    assert Cautious(Weighted()).reads_scores
    assert not (Tokens() - Tokens().at(0.1)).reads_scores


def test_diffusion_refuses_selects_that_follow_scores():
    with pytest.raises(PolicyError, match="follows scores"):
        Masking(select=Above(0.5), act=Mask(), emit=Diffusion())
