"""Laws 1 to 5 of every recipe, over random ragged batches."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from maskwright import Clock, Ragged, TokenBatch
from maskwright.corruption import Action
from maskwright.errors import MaskwrightError, VocabularyError
from tests.corruption import recipes
from tests.corruption.recipes import NAMES, VOCABULARY, batches, build, sample_views
from tests.corruption.rows import subset
from tests.corruption.test_pure import states
from tests.strategies import clocks

every = pytest.mark.parametrize("name", NAMES)
few = settings(max_examples=12)


def outcome(masking: Any, batch: TokenBatch, clock: Clock, side: str = "right", **padding) -> Any:
    """Of each sample what it became, or the error that the batch raises."""
    try:
        masked = masking.emit(masking.plan(batch, clock), side=side, **padding)
    except MaskwrightError as error:
        return type(error)
    return sample_views(masked)


def selectable(batch: TokenBatch) -> np.ndarray:
    """Which tokens may be selected, said anew."""
    some = ~np.isin(batch.tokens.values, VOCABULARY.special_ids)
    return some if batch.protected is None else some & (batch.protected.values == 0)


def hidden(batch: TokenBatch) -> np.ndarray:
    """Which ordinary tokens are protected: prompts, which are read and never predicted."""
    ordinary = ~np.isin(batch.tokens.values, VOCABULARY.special_ids)
    return ordinary & ~selectable(batch)


def untouched(batch: TokenBatch) -> list[bytes]:
    columns = [batch.tokens.values, batch.tokens.offsets, batch.sample_ids]
    for column in (batch.protected, batch.scores):
        if column is not None:
            columns.append(column.values)
    return [column.tobytes() for column in columns]


@every
@few
@given(batch=batches(), clock=clocks())
def test_nothing_global_changes_and_no_input(name, batch, clock):
    masking = build(name)
    inputs, before = untouched(batch), states()
    first = outcome(masking, batch, clock)
    assert states() == before
    assert untouched(batch) == inputs
    assert outcome(masking, batch, clock) == first


@every
@few
@given(batch=batches(min_rows=1), clock=clocks(), data=st.data())
def test_a_sample_does_not_see_the_others_nor_the_padding(name, batch, clock, data):
    masking = build(name)
    alone = [outcome(masking, subset(batch, [row]), clock) for row in range(len(batch))]
    order = data.draw(st.permutations(range(len(batch))))
    chosen = order[: data.draw(st.integers(1, len(order)))]
    side = data.draw(st.sampled_from(["left", "right"]))
    padding = data.draw(st.sampled_from([{}, {"multiple": 8}, {"length": 600}]))
    seen = outcome(masking, subset(batch, chosen), clock, side, **padding)
    assert seen == [alone[row][0] for row in chosen]


@every
@few
@given(batch=batches(), clock=clocks())
def test_protected_means_protected(name, batch, clock):
    plan = build(name).plan(batch, clock)
    allowed = selectable(batch)
    assert allowed[plan.positions].all()
    assert (np.diff(plan.positions) > 0).all()
    drawn = plan.replacements[plan.actions == Action.RANDOM]
    assert not np.isin(drawn, [*VOCABULARY.special_ids, *VOCABULARY.unused_ids]).any()
    masks = plan.replacements[np.isin(plan.actions, [Action.MASK, Action.INFILL])]
    assert set(masks.tolist()) <= {-1, VOCABULARY.mask_id}
    assert set(plan.inserted.tolist()) <= {VOCABULARY.mask_id}
    marked = plan.replacements[plan.actions == Action.SENTINEL]
    assert np.isin(marked[marked >= 0], VOCABULARY.sentinels).all()
    # what may not be selected is still there, in its order
    if not allowed.all():
        kept = plan.corrupted
        for row in range(len(batch)):
            here = slice(*batch.tokens.offsets[row : row + 2])
            own = batch.tokens.values[here][~allowed[here]]
            places = np.flatnonzero(~allowed[here])
            left = kept[row][np.isin(plan.origin[row], places)]
            np.testing.assert_array_equal(left, own)


def expected_noise(many: int, rate: float) -> int:
    """T5's number of noise tokens."""
    return 0 if many < 2 or not rate else min(max(round(many * rate), 1), many - 1)


EXACT = ("electra", "mass", "prefix-lm", "fim", "cmlm", "sparse")
UP_TO = ("whole-word", "spanbert", "pmi", "bart")


@pytest.mark.parametrize("name", EXACT + UP_TO)
@given(batch=batches(), clock=clocks())
def test_budgets_are_exact_or_never_exceeded(name, batch, clock):
    masking = build(name)
    plan = masking.plan(batch, clock)
    many = np.bincount(batch.tokens.rows[selectable(batch)], minlength=len(batch))
    taken = np.bincount(batch.tokens.rows[plan.positions], minlength=len(batch))
    for row in range(len(batch)):
        share = plan.rates[row] * many[row]
        least = min(masking.at_least, many[row])
        assert taken[row] <= max(least, math.ceil(share - 1e-9))
        if name in EXACT:
            assert taken[row] >= max(least, math.floor(share + 1e-9))


@pytest.mark.parametrize("name", ["t5", "ul2"])
@given(batch=batches(), clock=clocks())
def test_noise_is_as_much_as_t5_counts(name, batch, clock):
    masking = build(name)
    plan = masking.plan(batch, clock)
    many = np.bincount(batch.tokens.rows[selectable(batch)], minlength=len(batch))
    taken = np.bincount(batch.tokens.rows[plan.positions], minlength=len(batch))
    for row in range(len(batch)):
        if plan.rates[row] == 0.25:  # UL2's suffix: stochastic rounding
            share = 0.25 * many[row]
            assert math.floor(share) <= taken[row] <= math.ceil(share)
        else:
            assert taken[row] == expected_noise(many[row], plan.rates[row])


@given(batch=batches(), seed=st.integers(0, 99), cycle=st.integers(0, 5))
def test_coverage_predicts_each_token_once_in_seven_epochs(batch, seed, cycle):
    masking, times = build("coverage"), np.zeros(len(batch.tokens.values), int)
    for epoch in range(7 * cycle, 7 * cycle + 7):
        times[masking.plan(batch, Clock(seed, epoch)).positions] += 1
    np.testing.assert_array_equal(times, selectable(batch).astype(int))


@given(batch=batches(), seed=st.integers(0, 99), start=st.integers(0, 20))
def test_sliding_stays_in_its_window_and_goes_all_the_way(batch, seed, start):
    all_of_it, some = build("sliding", rate=1.0), build("sliding")
    lengths = np.repeat(batch.tokens.lengths, batch.tokens.lengths)
    seen = np.zeros(len(lengths), bool)
    for epoch in range(start, start + 4):  # (513 - 256) / 128 and one
        inside = (batch.tokens.positions - 128 * epoch) % np.maximum(lengths, 1) < 256
        whole = all_of_it.plan(batch, Clock(seed, epoch)).positions
        wanted = np.flatnonzero(inside & selectable(batch))
        np.testing.assert_array_equal(whole, wanted)
        assert np.isin(some.plan(batch, Clock(seed, epoch)).positions, whole).all()
        seen[whole] = True
    np.testing.assert_array_equal(seen, selectable(batch))


@every
@few
@given(batch=batches(min_rows=1), clock=clocks())
def test_labels_are_the_tokens_that_were_there(name, batch, clock):
    """Whatever the emit: each label can be traced to its token."""
    masking = build(name)
    views = outcome(masking, batch, clock)
    assume(not isinstance(views, type))
    plan = masking.plan(batch, clock)
    for row, view in enumerate(views):
        own = batch.tokens[row].tolist()
        labels = [label for label in view["labels"] if label != -100]
        if name == "bart":
            assert labels == own
        elif name in ("t5", "ul2"):
            chosen = np.flatnonzero(plan.selected[row])
            told = [i for i in labels if i not in VOCABULARY.sentinel_ids]
            ending = own[-1:] if own and own[-1] in VOCABULARY.special_ids else []
            ending = [i for i in ending if i not in VOCABULARY.sentinel_ids]
            assert told == [own[i] for i in chosen] + ending
        elif name == "fim":
            for place, label in zip(view["origin"], view["labels"], strict=True):
                assert place < 0 or label in (own[place], -100)
        elif name == "word-dropout":
            for token, label in zip(own, view["labels"], strict=True):
                assert label in (token, -100)
        elif name != "prefix-lm":
            assert labels == [own[i] for i in np.flatnonzero(plan.selected[row])]


@pytest.mark.parametrize("name", ["prefix-lm", "fim", "word-dropout"])
@given(batch=batches(min_rows=1), clock=clocks())
def test_every_token_of_a_free_text_is_a_label_and_none_of_a_prompt(name, batch, clock):
    """Where tokens are predicted one after another: from the first one of the target on."""
    views = outcome(build(name), batch, clock)
    prompt, free = batch.tokens.like(hidden(batch)), batch.tokens.like(selectable(batch))
    for row, view in enumerate(views):
        places = range(len(view["labels"])) if name == "word-dropout" else view["origin"]
        for place, label in zip(places, view["labels"], strict=True):
            if place >= 0 and prompt[row][place]:
                assert label == -100
            elif place >= view.get("prefix", 0) and free[row][place]:
                assert label == batch.tokens[row][place]


EDGES = {
    "no sample": [],
    "one empty sample": [[]],
    "empty samples around one": [[], [recipes.FIRST], []],
    "one special token": [[recipes.CLS]],
    "special tokens only": [[recipes.CLS, recipes.SEP], [recipes.PAD] * 40],
    "a token between marks": [[recipes.CLS, 11, recipes.SEP]],
}


@every
@pytest.mark.parametrize("kind", EDGES)
def test_the_edges_emit(name, kind):
    rows = EDGES[kind]
    batch = TokenBatch(Ragged.from_lists(rows), np.arange(len(rows)))
    masking = build(name)
    masked = masking.emit(masking.plan(batch, Clock(3, total_steps=10)))
    assert len(masked.input_ids) == len(masked.labels) == len(rows)
    everything = replace(batch, protected=batch.tokens.like(np.ones(len(batch.tokens.values), int)))
    plan = masking.plan(everything, Clock(3, total_steps=10))
    assert not len(plan.positions)
    assert not len(plan.inserts)
    masking.emit(plan)


@pytest.mark.parametrize("name", ["t5", "ul2"])
def test_too_few_sentinels_is_an_error_that_says_so(name):
    masking = build(name, recipes.vocabulary(1000, 2))
    with pytest.raises(VocabularyError, match="2 sentinels"):
        masking.emit(masking.plan(recipes.text(8, 300)))


@pytest.mark.timeout(60)  # a quadratic step would take hours
@every
def test_a_million_tokens_in_one_sample(name):
    known = recipes.vocabulary(401_000, 400_000)
    size = 401_000
    masking = build(name, known)
    small = recipes.text(2, 50)
    masking.emit(masking.plan(small, Clock(1, total_steps=10)))  # kernels are compiled
    values = 10 + np.random.default_rng(0).integers(0, 900, 1_000_000)
    batch = TokenBatch(Ragged(values, np.array([0, len(values)])), np.array([7]))
    began = time.perf_counter()
    masked = masking.emit(masking.plan(batch, Clock(1, total_steps=10)))
    assert time.perf_counter() - began < 10
    assert len(masked.plan.positions)
    assert masked.input_ids.max() < size
