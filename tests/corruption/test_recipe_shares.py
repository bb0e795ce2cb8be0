"""The numbers that the papers state, counted.

Inputs are fixed; over their choice a right implementation fails one of these checks with a chance
of at most 1e-6.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from transformers import DataCollatorForLanguageModeling

from maskwright import Clock, Ragged, TokenBatch, recipe
from maskwright.corruption import Action
from maskwright.corruption.phrases import learn_phrases
from tests.core import tokenizers
from tests.corruption import recipes
from tests.corruption.recipes import CLS, MASK, SEP, SINGLE, build, text
from tests.corruption.test_shares import outcome

FALSE_ALARM = 1e-6
# 2,000 samples of 101 tokens: no rate below times 101 is whole, so that budgets are rounded.
SAMPLES, LENGTH = 2000, 101
TEXT = text(SAMPLES, LENGTH)


def counts(plan) -> np.ndarray:
    """Selected tokens of each sample."""
    return np.bincount(plan.batch.tokens.rows[plan.positions], minlength=len(plan.batch))


def unit_lengths(plan) -> np.ndarray:
    assert plan.units is not None
    return np.bincount(plan.units)


def first_units(plan) -> tuple[np.ndarray, np.ndarray]:
    """Of each sample that has some: where its first unit begins, and its length."""
    starts = plan.positions[np.flatnonzero(np.diff(plan.units, prepend=-1))]
    rows = plan.batch.tokens.rows[starts]
    _, first = np.unique(rows, return_index=True)
    return plan.batch.tokens.positions[starts][first], unit_lengths(plan)[first]


def likely(count: int, trials: int, share: float) -> bool:
    return stats.binomtest(int(count), int(trials), share).pvalue > FALSE_ALARM


def uniform_on(values: np.ndarray, choices: int) -> bool:
    seen = np.bincount(values, minlength=choices)
    return len(seen) == choices and bool(stats.chisquare(seen).pvalue > FALSE_ALARM)


# ---------------------------------------------------------------------------------- rates


@pytest.mark.parametrize(
    "name, rate",
    [("bert", 0.15), ("roberta", 0.15), ("high-rate", 0.40), ("word-dropout", 0.30),
     ("coverage", 0.15)],
)  # fmt: skip
def test_rates_of_independent_draws(name, rate):
    plan = build(name).plan(TEXT, Clock(1))
    assert likely(len(plan.positions), SAMPLES * LENGTH, rate)
    assert not likely(len(plan.positions), SAMPLES * LENGTH, rate + 0.01)
    # each sample's number is binomial: their variance is that of chance
    spread = stats.chi2(SAMPLES).interval(1 - FALSE_ALARM)
    deviations = (counts(plan) - rate * LENGTH) ** 2 / (LENGTH * rate * (1 - rate))
    assert spread[0] * 0.9 < deviations.sum() < spread[1] * 1.1


@pytest.mark.parametrize("name, rate", [("electra", 0.15), ("sparse", 0.15), ("mass", 0.5)])
def test_rates_of_exact_budgets(name, rate):
    seen = counts(build(name).plan(TEXT, Clock(1)))
    low = int(rate * LENGTH)
    assert set(seen) == {low, low + 1}
    assert likely((seen == low + 1).sum(), SAMPLES, rate * LENGTH - low)


@pytest.mark.parametrize("name, rate", [("spanbert", 0.15), ("bart", 0.30)])
def test_rates_of_spans_of_single_tokens(name, rate):
    """Where every token is a word, a budget of spans is spent to the last token."""
    seen = counts(build(name, SINGLE).plan(TEXT, Clock(1)))
    low = int(rate * LENGTH)
    assert set(seen) == {low, low + 1}
    assert likely((seen == low + 1).sum(), SAMPLES, rate * LENGTH - low)


@pytest.mark.parametrize("name", ["whole-word", "spanbert", "pmi"])
def test_rates_of_words_miss_by_less_than_a_word(name):
    """Words have at most 20 tokens here, nearly all at most 4."""
    seen = counts(build(name).plan(TEXT, Clock(1)))
    assert seen.max() <= 16
    assert 0.14 < seen.sum() / (SAMPLES * LENGTH) <= 0.15 + 5e-3


@pytest.mark.parametrize("step, rate", [(0, 0.30), (500, 0.225), (1000, 0.15)])
def test_the_rate_decays_from_30_to_15_percent(step, rate):
    plan = build("rate-decay").plan(TEXT, Clock(1, 0, step, 1000))
    assert plan.rates == pytest.approx(np.full(SAMPLES, rate))
    assert likely(len(plan.positions), SAMPLES * LENGTH, rate)


def test_sliding_masks_15_percent_of_a_window():
    long = text(300, 1000, specials=False)
    plan = build("sliding").plan(long, Clock(1, 2))
    places = long.tokens.positions[plan.positions]
    assert places.min() >= 256
    assert places.max() < 512
    assert likely(len(places), 300 * 256, 0.15)


def test_sparse_takes_one_of_each_stratum():
    long = text(500, 200, specials=False)
    plan = build("sparse").plan(long, Clock(1))
    places = long.tokens.positions[plan.positions].reshape(500, 30)  # 0.15 * 200
    edges = np.arange(31) * 200 // 30
    assert (places >= edges[:-1]).all()
    assert (places < edges[1:]).all()
    assert uniform_on(places[:, 0], 6)


# ----------------------------------------------------------------------------------- acts


@pytest.mark.parametrize(
    "name",
    ["bert", "roberta", "high-rate", "mass", "sliding", "coverage", "sparse", "whole-word", "pmi",
     "spanbert", "rate-decay"],
)  # fmt: skip
def test_80_10_10_by_unit(name):
    plan = build(name).plan(TEXT, Clock(2, 0, 0, 10))
    units = np.arange(len(plan.positions)) if plan.units is None else plan.units
    first = np.flatnonzero(np.diff(units, prepend=-1))
    assert (plan.actions == plan.actions[first][units]).all()
    if name in ("whole-word", "pmi", "spanbert"):
        assert len(first) < len(units)
    seen = np.bincount(plan.actions[first], minlength=4)[1:]
    assert len(seen) == 3
    assert stats.chisquare(seen, np.array([0.8, 0.1, 0.1]) * len(first)).pvalue > FALSE_ALARM
    # of some 3,000 drawn tokens, all are ids from 8 to 397
    drawn = plan.replacements[plan.actions == Action.RANDOM]
    assert drawn.min() < 12
    assert 390 < drawn.max() < min(recipes.VOCABULARY.unused_ids)
    assert drawn.min() > recipes.MID


@pytest.mark.parametrize(
    "name, action",
    [("electra", Action.MASK), ("cmlm", Action.MASK), ("mdlm", Action.MASK),
     ("word-dropout", Action.MASK), ("t5", Action.SENTINEL), ("ul2", Action.SENTINEL),
     ("bart", Action.INFILL), ("prefix-lm", Action.KEEP), ("fim", Action.KEEP)],
)  # fmt: skip
def test_recipes_of_one_act(name, action):
    plan = build(name).plan(TEXT, Clock(2))
    assert set(plan.actions) == {action}


# ---------------------------------------------------------------------------------- spans


def test_spanberts_spans_are_geometric_with_mean_3_8():
    """A sample of 20,000 words has about 790 spans, of which the budget cuts one, by less than 10;
    few meet an obstacle."""
    long = text(100, 20_000, specials=False)
    lengths = unit_lengths(build("spanbert", SINGLE).plan(long, Clock(3)))
    weights = 0.2 * 0.8 ** np.arange(10)
    weights /= weights.sum()
    mean = weights @ np.arange(1, 11)
    assert mean == pytest.approx(3.8, abs=0.01)
    error = np.sqrt(weights @ (np.arange(1, 11) - mean) ** 2 / len(lengths))
    # 5 standard errors are 5.7e-7; a cut span lacks fewer than 10 of its tokens
    assert abs(lengths.mean() - mean) < 5 * error + 10 * 100 / len(lengths)
    assert lengths.max() == 10
    for length, share in enumerate(weights, 1):
        seen, slack = (lengths == length).sum(), 5 * np.sqrt(len(lengths) * share) + 100
        assert abs(seen - share * len(lengths)) < slack


def test_t5_has_15_percent_noise_in_spans_of_3():
    batch = text(SAMPLES, 512)
    plan = build("t5").plan(batch, Clock(4))
    assert set(counts(plan)) == {77}  # round(0.15 * 512)
    assert len(unit_lengths(plan)) == 26 * SAMPLES  # round(77 / 3)
    # every composition of 77 in 26 parts, and of the other 435, is as likely: the first part is 1
    # where the other 25 share 76
    starts, lengths = first_units(plan)
    assert likely((lengths == 1).sum(), SAMPLES, 25 / 76)
    assert likely((starts - 1 == 1).sum(), SAMPLES, 25 / 434)
    assert (starts > 1).all()  # what stays comes first, behind CLS
    masked = build("t5").emit(plan)
    sentinels = recipes.VOCABULARY.sentinel_ids
    row = masked.labels[0][masked.labels[0] != -100].tolist()
    assert [i for i in row if i in sentinels] == list(sentinels[:27])
    assert len(row) == 77 + 27 + 1


def test_t5_ends_with_noise_so_that_a_single_span_is_always_the_end():
    """As its algorithm says: then the mask is the same in every epoch."""
    for length, same in ((20, True), (40, False)):
        batch = text(50, length, specials=False)
        flags = [build("t5").plan(batch, Clock(4, epoch)).selected.values for epoch in (0, 1)]
        assert (flags[0] == flags[1]).all() == same
        assert flags[0].reshape(50, length)[:, -1].all()


def test_bart_masks_30_percent_in_poisson_spans_some_of_them_empty():
    """Each of the 60 samples has about 600 spans, of which the budget cuts one."""
    long = text(60, 6000, specials=False)
    plan = build("bart", SINGLE).plan(long, Clock(5))
    assert set(counts(plan)) == {1800}
    lengths = np.concatenate([unit_lengths(plan), np.zeros(len(plan.inserts), int)])
    # 5 standard errors are 5.7e-7; Poisson(3) has variance 3; a cut loses fewer than 15 tokens
    many = len(lengths)
    assert abs(lengths.mean() - 3) < 5 * np.sqrt(3 / many) + 15 * 60 / many
    for length in range(8):
        share = stats.poisson(3).pmf(length)
        slack = 5 * np.sqrt(many * share) + 60
        assert abs((lengths == length).sum() - share * many) < slack
    # one mask for each span, the empty ones too
    masks = plan.corrupted.values == MASK
    assert masks.sum() == many
    assert set(plan.inserted) == {MASK}
    masked = build("bart", SINGLE).emit(plan)
    assert masked.labels.tolist() == long.tokens.values.reshape(60, 6000).tolist()


def test_bart_shuffles_sentences():
    row = [CLS, *(i for first in (20, 30, 40) for i in (first, first + 1, recipes.ENDS[0])), SEP]
    batch = TokenBatch(Ragged.from_lists([row] * 3000), np.arange(3000))
    plan = build("bart", SINGLE, rate=0.0).plan(batch, Clock(6))
    rows = plan.corrupted.values.reshape(3000, 11)
    assert (rows[:, 0] == CLS).all()
    assert (rows[:, -1] == SEP).all()
    orders = rows[:, 1] // 10 * 10 + rows[:, 4] // 10
    kinds, seen = np.unique(orders, return_counts=True)
    assert kinds.tolist() == [23, 24, 32, 34, 42, 43]
    assert stats.chisquare(seen).pvalue > FALSE_ALARM


def test_the_seven_denoisers_of_ul2_share_alike():
    batch = text(7000, 512, specials=False)
    mixture = build("ul2")
    chosen = mixture.choose(batch, Clock(7))
    assert uniform_on(chosen, 7)
    plan = mixture.plan(batch, Clock(7))
    # rate, noise tokens and spans of each, as T5's rounding has them for 512 tokens
    table = [(0.15, 77, 26), (0.15, 77, 10), (0.50, 256, 85), (0.50, 256, 32), (0.15, 77, 1),
             (0.50, 256, 4), (0.25, 128, 1)]  # fmt: skip
    starts = np.flatnonzero(np.diff(plan.units, prepend=-1))
    spans = np.bincount(batch.tokens.rows[plan.positions[starts]], minlength=7000)
    seen = set(zip(chosen, plan.rates, counts(plan), spans, strict=True))
    assert seen == {(i, *row) for i, row in enumerate(table)}
    suffix = plan.selected.values.reshape(7000, 512)[chosen == 6]
    assert suffix[:, 384:].all()
    assert not suffix[:, :384].any()


def test_mass_takes_one_span_at_a_uniform_place():
    batch = text(SAMPLES, 20, specials=False)
    plan = build("mass").plan(batch, Clock(8))
    assert set(counts(plan)) == {10}
    places = batch.tokens.positions[plan.positions].reshape(SAMPLES, 10)
    assert (np.diff(places) == 1).all()
    assert uniform_on(places[:, 0], 11)
    masked = build("mass").emit(plan)
    assert (masked.labels.numpy() == batch.tokens.values.reshape(SAMPLES, 20)[
        np.arange(SAMPLES)[:, None], places]).all()  # fmt: skip


# ----------------------------------------------------------------------- cuts, numbers, times


def test_a_prefix_language_model_is_cut_anywhere():
    batch = text(SAMPLES, 9)
    plan = build("prefix-lm").plan(batch, Clock(9))
    assert uniform_on(counts(plan), 10)
    masked = build("prefix-lm").emit(plan)
    # CLS is given too; without a target all 11 are given
    given = np.where(counts(plan) > 0, 10 - counts(plan), 11)
    assert masked.prefix_lengths is not None
    assert masked.prefix_lengths.tolist() == given.tolist()


def test_fill_in_the_middle_is_cut_at_two_uniform_places():
    """The lesser of two uniforms is Beta(1, 2), the greater Beta(2, 1)."""
    batch = text(SAMPLES, 1000, specials=False)
    plan = build("fim").plan(batch, Clock(10))
    many = counts(plan)
    some = np.flatnonzero(many)
    assert len(some) > SAMPLES - 20  # an empty middle has a chance of about 1 in 1000
    ends = np.cumsum(many)[some] - 1
    stop = batch.tokens.positions[plan.positions[ends]] + 1
    start = stop - many[some]
    noise = np.random.default_rng(0).uniform(0, 1e-3, (2, len(some)))  # between two tokens
    for cut, shape in ((start, (1, 2)), (stop - 1, (2, 1))):
        spread = cut / 1000 + noise[0]
        assert stats.kstest(spread, stats.beta(*shape).cdf).pvalue > FALSE_ALARM
        assert stats.kstest(spread, stats.uniform.cdf).pvalue < FALSE_ALARM


def test_cmlm_masks_any_number_from_one():
    batch = text(SAMPLES, 10)
    seen = counts(build("cmlm").plan(batch, Clock(11)))
    assert seen.min() == 1
    assert uniform_on(seen - 1, 10)


def test_mdlm_draws_times_and_weighs_by_one_over_them():
    masking = build("mdlm")
    plan = masking.plan(TEXT, Clock(12))
    times = plan.rates
    assert stats.kstest(times, stats.uniform.cdf).pvalue > FALSE_ALARM
    # given the times, the numbers are binomial
    z = (counts(plan) - times * LENGTH).sum() / np.sqrt((times * (1 - times)).sum() * LENGTH)
    assert 2 * stats.norm.sf(abs(z)) > FALSE_ALARM
    masked = masking.emit(plan)
    weights = masked.loss_weights.numpy()
    wanted = np.where(masked.labels != -100, 1 / np.maximum(times, 1e-3)[:, None], 0)
    np.testing.assert_allclose(weights, wanted, rtol=1e-6)


def test_word_dropout_keeps_every_label():
    masking = build("word-dropout")
    masked = masking.emit(masking.plan(TEXT, Clock(13)))
    tokens = TEXT.tokens.values.reshape(SAMPLES, LENGTH + 2)
    assert (masked.labels.numpy() == tokens).all()
    read = masked.input_ids.numpy()
    assert (read[:, 0] == CLS).all()
    assert ((read[:, 1:] == tokens[:, :-1]) | (read[:, 1:] == MASK)).all()


# ------------------------------------------------------------------------------ collocations


def test_planted_collocations_are_masked_whole():
    """Three words that always come together, in a text of others."""
    rng = np.random.default_rng(1)
    rows = rng.integers(50, 300, (3000, 400))
    places = rng.integers(1, 396, 3000)
    here = np.arange(3000)[:, None], places[:, None] + np.arange(3)
    rows[here] = np.array([21, 22, 23])
    tokens = Ragged.from_lists(list(rows))
    learnt = learn_phrases(tokens, SINGLE)
    batch = TokenBatch(tokens, np.arange(3000))
    plan = recipe("pmi", SINGLE, phrases=learnt).plan(batch, Clock(14))
    hit = plan.selected.values.reshape(3000, 400)[here].sum(1)
    assert set(hit) == {0, 3}
    alone = recipe("whole-word", SINGLE).plan(batch, Clock(14))
    assert {1, 2} <= set(alone.selected.values.reshape(3000, 400)[here].sum(1))
    # of a budget of 60 it must come before the last 2 tokens: a little less often than one word
    masked = (hit == 3).sum()
    assert not likely(masked, 3000, 0.19)
    assert not likely(masked, 3000, 0.11)
    assert likely(masked, 3000, 0.145)


# ------------------------------------------------------------------------------ transformers


def pieces() -> tuple[list[dict], np.ndarray]:
    """Texts of the WordPiece tokenizer for the collator of transformers, and which tokens begin a
    word."""
    tokenizer = tokenizers.wordpiece()
    line = "the quickly brownest fox jumped overly words modelling guesses long mask " * 2
    sample = tokenizer(line, return_offsets_mapping=True, return_special_tokens_mask=True)
    sample = {name: sample[name] for name in
              ("input_ids", "offset_mapping", "special_tokens_mask", "attention_mask")}  # fmt: skip
    names = tokenizer.convert_ids_to_tokens(sample["input_ids"])
    return [sample] * 3000, np.array([not name.startswith("##") for name in names])


def theirs(tokenizer, samples, **changes) -> tuple[np.ndarray, np.ndarray]:
    collator = DataCollatorForLanguageModeling(tokenizer, **changes)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        batch = collator([dict(sample) for sample in samples])
    return batch["input_ids"].numpy(), batch["labels"].numpy()


def test_whole_words_are_those_of_transformers():
    tokenizer, (samples, begins) = tokenizers.wordpiece(), pieces()
    ids = np.array(samples[0]["input_ids"])
    assert 10 < begins.sum() < len(begins) - 10
    # with whole words it knows masks only
    only = {"mask_replace_prob": 1.0, "random_replace_prob": 0.0}
    _, labels = theirs(tokenizer, samples, whole_word_mask=True, mlm_probability=0.15, **only)
    word = np.cumsum(begins) - 1
    flags = labels != -100  # they take whole words too
    assert (flags == flags[:, begins][:, word]).all()
    batch = TokenBatch(
        Ragged(np.tile(ids, len(samples)), np.arange(len(samples) + 1) * len(ids)),
        np.arange(len(samples)),
    )
    several = words_drawn(labels.ravel() != -100, begins)
    for rate, same in ((0.15, True), (0.17, False)):
        # theirs draws words independently
        plan = recipe("whole-word", tokenizer, exact=False, rate=rate).plan(batch, Clock(15))
        flags = plan.selected.values != 0
        rows = flags.reshape(-1, len(begins))
        assert (rows == rows[:, begins][:, word]).all()
        seen = words_drawn(flags, begins)
        assert (stats.chi2_contingency([several, seen]).pvalue > FALSE_ALARM) == same


def words_drawn(flags: np.ndarray, begins: np.ndarray) -> list[int]:
    """How many words were left, and how many were selected."""
    drawn = flags.reshape(-1, len(begins))[:, begins]
    return [int((~drawn).sum()), int(drawn.sum())]


@pytest.mark.parametrize("name", ["bert", "roberta", "sparse", "high-rate"])
def test_token_masks_are_those_of_transformers(name):
    tokenizer = tokenizers.words()
    row = [2, *range(5, 100), 3]
    policy = recipe(name, tokenizer)
    inputs, labels = theirs(tokenizer, [{"input_ids": row}] * 1000, mlm_probability=policy.rate)
    original = np.tile(row, (1000, 1))
    batch = TokenBatch(Ragged.from_lists([row] * 1000), np.arange(1000))
    plan = policy.plan(batch, Clock(16))
    seen = outcome(original.ravel(), plan.corrupted.values, plan.labels().values, 4)
    assert stats.chi2_contingency([outcome(original, inputs, labels, 4), seen]).pvalue > FALSE_ALARM
