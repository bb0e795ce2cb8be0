"""Whole words: where they begin, and that they are selected together.

Statistical tests have fixed inputs and a false-alarm probability of at most 1e-6.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from scipy import stats

from maskwright import Keep, Masking, Vocabulary
from maskwright.corruption import reference_spans as reference
from maskwright.corruption.words import WholeWords, mark_units
from maskwright.errors import VocabularyError
from maskwright.randomness import SELECT
from tests.core import tokenizers
from tests.corruption.rows import WORDS
from tests.corruption.units import (
    FALSE_ALARM,
    allowed_of,
    batch_of,
    cases,
    check_contract,
    draw_of,
    parts_of,
)

COVERAGE = ("static", "dynamic", "coverage-0.3", "coverage-0.5")


def marks(batch, vocabulary=WORDS):
    return mark_units(batch, vocabulary, "words").tolist()


def expected(batch, vocabulary, draw):
    out = []
    allowed = allowed_of(batch, vocabulary)
    for row, sample_id in enumerate(batch.sample_ids.tolist()):
        parts = reference.units(allowed[row], batch.word_starts[row].tolist())
        key = reference.key_of(draw.run_key, sample_id, SELECT)
        low, high = float(draw.low[row]), float(draw.high[row])
        if not draw.exact:
            out.append(reference.independent(parts, key, low, high))
            continue
        many = sum(map(len, parts))
        last = reference.budget(high, many, draw.run_key, sample_id, draw.at_least)
        first = 0
        if low:
            first = reference.budget(low, many, draw.run_key, sample_id, draw.at_least)
        if draw.covering:
            out.append(reference.turn(parts, key, first, last))
        else:
            out.append(reference.fitting(parts, key, last, draw.at_least))
    return out


@given(cases(refreshes=COVERAGE))
def test_it_is_the_reference(case):
    vocabulary, batch, draw = case
    chosen = WholeWords()(batch, vocabulary, draw)
    assert parts_of(chosen, batch) == expected(batch, vocabulary, draw)


@given(cases(refreshes=COVERAGE))
def test_the_contract_of_a_select(case):
    check_contract(WholeWords(), *case)


@given(cases())
def test_a_word_is_selected_whole_or_not_at_all(case):
    vocabulary, batch, draw = case
    words = [
        reference.units(allowed, starts.tolist())
        for allowed, starts in zip(allowed_of(batch, vocabulary), batch.word_starts, strict=True)
    ]
    chosen = parts_of(WholeWords()(batch, vocabulary, draw), batch)
    assert all(part in word for word, parts in zip(words, chosen, strict=True) for part in parts)


@pytest.mark.parametrize(
    "row, starts, protected, wanted",
    [
        ([2, 5, 6, 7, 3], [0, 1, 0, 1, 0], None, [0, 2, 1, 2, 0]),
        ([2, 5, 6, 7, 3], [0, 0, 0, 1, 0], None, [0, 2, 1, 2, 0]),  # the first begins one
        ([5, 3, 6, 7], [1, 0, 0, 0], None, [2, 0, 2, 1]),  # a special token cuts a word
        ([5, 6, 7, 8], [1, 0, 0, 0], [0, 1, 0, 0], [2, 0, 2, 1]),  # so does a protected one
        ([5, 6], [7, 0], None, [2, 1]),  # any flag but 0 is one
        ([2, 3], [1, 1], None, [0, 0]),
        ([5], [0], None, [2]),
        ([], [], None, []),
    ],
)
def test_marks_literally(row, starts, protected, wanted):
    batch = batch_of([row], [starts], protected=None if protected is None else [protected])
    assert marks(batch) == wanted


def test_marks_do_not_run_over_the_end_of_a_sample():
    assert marks(batch_of([[5, 6], [7, 8]], [[1, 0], [0, 0]])) == [2, 1, 2, 1]
    assert mark_units(batch_of([]), WORDS, "tokens").tolist() == []


@pytest.mark.parametrize("exact", [False, True])
def test_everything_and_nothing(exact):
    batch = batch_of([[2, 5, 6, 7, 3], [], [2, 3]], [[0, 1, 0, 1, 0], [], [0, 0]])
    whole = WholeWords()(batch, WORDS, draw_of(batch, 1.0, exact=exact))
    assert parts_of(whole, batch) == [[[1, 2], [3]], [], []]
    assert len(WholeWords()(batch, WORDS, draw_of(batch, 0.0, exact=exact)).positions) == 0


def test_one_act_is_drawn_for_a_word():
    batch = batch_of([list(range(5, 405))] * 20, [[1, 0, 0, 0] * 100] * 20)
    plan = Masking(WholeWords(), rate=0.5).bind(WORDS).plan(batch)
    for unit in range(plan.units[-1] + 1):
        assert len(set(plan.actions[plan.units == unit].tolist())) == 1
    assert len(set(plan.actions.tolist())) == 3


# ---------------------------------------------------------------------------- how many


def random_words(count, *, seed=0, length=200):
    rng = np.random.default_rng(seed)
    starts = (rng.random((count, length)) < 0.6).astype(int)
    starts[:, 0] = 1
    return batch_of(rng.integers(5, 900, (count, length)).tolist(), starts.tolist())


def test_each_word_is_as_likely_whatever_its_length():
    batch = batch_of([[5] * 10] * 20_000, [[1, 0, 0, 0, 1, 1, 0, 1, 1, 1]] * 20_000)
    chosen = WholeWords()(batch, WORDS, draw_of(batch, 0.2))
    places = np.bincount(batch.tokens.positions[chosen.positions], minlength=10)
    firsts = places[[0, 4, 5, 7, 8, 9]]
    assert stats.chisquare(firsts).pvalue > FALSE_ALARM
    assert stats.binomtest(int(firsts.sum()), 120_000, 0.2).pvalue > FALSE_ALARM
    assert stats.binomtest(int(firsts.sum()), 120_000, 0.21).pvalue < FALSE_ALARM


def test_a_budget_is_met_where_there_are_short_words():
    batch = random_words(300)
    chosen = WholeWords()(batch, WORDS, draw_of(batch, 0.15, exact=True))
    counts = np.bincount(batch.tokens.rows[chosen.positions], minlength=300)
    assert set(counts.tolist()) == {30}


def test_a_budget_is_never_exceeded():
    batch = batch_of([[5] * 20] * 200, [[1, 0, 0, 0, 0] * 4] * 200)
    for wanted, rate in ((0, 0.2), (5, 0.25), (5, 0.45), (10, 0.5)):
        chosen = WholeWords()(batch, WORDS, draw_of(batch, rate, exact=True))
        assert set(np.bincount(batch.tokens.rows[chosen.positions], minlength=200)) == {wanted}


def test_where_no_word_fits_at_least_takes_the_first():
    batch = batch_of([[5] * 20] * 50, [[1, 0, 0, 0, 0] * 4] * 50)
    chosen = WholeWords()(batch, WORDS, draw_of(batch, 0.1, exact=True, at_least=1))
    assert set(np.bincount(batch.tokens.rows[chosen.positions], minlength=50)) == {5}
    assert len({part[0][0] for part in parts_of(chosen, batch)}) == 4


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("rate, turns", [(0.15, 7), (0.5, 2), (0.3, 4)])
def test_coverage_gives_every_word_its_turn_once(exact, rate, turns):
    batch = random_words(20)
    seen = np.zeros(len(batch.tokens.values), int)
    for epoch in range(turns):
        draw = draw_of(batch, rate, exact=exact, refresh=f"coverage-{rate}", epoch=epoch)
        chosen = WholeWords()(batch, WORDS, draw)
        seen[chosen.positions] += 1
        if exact and epoch < turns - 1:
            counts = np.bincount(batch.tokens.rows[chosen.positions], minlength=20)
            assert abs(counts - 200 * rate).max() <= 12
    assert (seen == 1).all()


# ------------------------------------------------------------------- whose word starts


def test_a_tokenizer_whose_marks_are_not_known_is_refused():
    batch = batch_of([[5, 6, 7]])
    with pytest.raises(VocabularyError, match=r"build_table.*or give word_starts"):
        WholeWords()(batch, WORDS, draw_of(batch))


def test_a_long_sample_without_a_single_start_is_refused():
    fine, long = batch_of([[5] * 32], [[0] * 32]), batch_of([[5], [5] * 33], [[1], [0] * 33])
    assert parts_of(WholeWords()(fine, WORDS, draw_of(fine, 1.0)), fine) == [[list(range(32))]]
    with pytest.raises(VocabularyError, match=r"Sample 1 has 33 tokens and no beginning"):
        WholeWords()(long, WORDS, draw_of(long))
    one = replace(long, word_starts=long.tokens.like(np.eye(1, 34, 20, dtype=np.uint8)[0]))
    assert len(WholeWords()(one, WORDS, draw_of(one, 1.0)).positions) == 34


def test_the_column_of_the_batch_wins_over_the_marks_of_the_tokenizer():
    vocabulary = replace(WORDS, word_start=np.ones(1000, bool))
    assert marks(batch_of([[5, 6]]), vocabulary) == [2, 2]
    assert marks(batch_of([[5, 6]], [[1, 0]]), vocabulary) == [2, 1]


@pytest.mark.parametrize("make", [tokenizers.wordpiece, tokenizers.byte_level, tokenizers.unigram])
def test_words_of_real_tokenizers(make):
    tokenizer = make()
    text = "unbelievable words hides reproducibility the brown model"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    batch = batch_of([ids])
    chosen = Masking(WholeWords(), rate=1.0, act=Keep())
    plan = chosen.bind(Vocabulary.from_tokenizer(tokenizer)).plan(batch)
    words = [
        tokenizer.decode([ids[place] for place in part])
        .strip(" ▁")
        .replace("##", "")
        .replace(" ", "")
        for part in parts_of_plan(plan)
    ]
    assert words == text.split()


def parts_of_plan(plan):
    starts = np.flatnonzero(np.diff(plan.units, prepend=-1))
    return np.split(plan.positions, starts[1:])


class Stub:
    all_special_ids = (0,)
    mask_token_id = pad_token_id = None
    padding_side = "right"

    def __init__(self, *tokens):
        self.tokens = ("<s>", *tokens)

    def get_vocab(self):
        return {token: i for i, token in enumerate(self.tokens)}


@pytest.mark.parametrize(
    "tokens, starts",
    [
        (["play", "##ing", "##", ",", "##,"], [1, 0, 1, 1, 0]),
        (["Ġplay", "ing", "Ċ", "##", ",", "'s", "Ġ", "é"], [1, 0, 1, 1, 1, 1, 1, 0]),
        (["▁play", "ing", "▁", "<0x0A>", "<0xE2>", ",", "_"], [1, 0, 1, 1, 0, 1, 0]),
        (["##a", "##b", "Ġ", "x"], [0, 0, 1, 1]),  # more of WordPiece
    ],
)
def test_marks_of_tokens(tokens, starts):
    assert Vocabulary.from_tokenizer(Stub(*tokens)).word_start.tolist() == [
        False,
        *map(bool, starts),
    ]


def test_no_convention_is_not_a_guess():
    assert Vocabulary.from_tokenizer(Stub("play", "ing", "##")).word_start is None
    assert Vocabulary.from_tokenizer(tokenizers.words()).word_start is None


def test_a_table_of_another_size_is_refused():
    with pytest.raises(VocabularyError, match=r"each of the 9 ids.*\(8,\)"):
        Vocabulary(9, word_start=np.ones(8, bool))
