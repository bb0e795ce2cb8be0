"""Sentences shuffled, words shuffled nearby, documents rotated."""

from __future__ import annotations

import functools
import operator
from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from maskwright.corruption import reference_structure as reference
from maskwright.corruption.arrange import Arrange, Rotate, ShuffleSentences, ShuffleWindow, Then
from maskwright.corruption.selection import eligible
from maskwright.errors import BatchError, PolicyError
from tests.corruption.structure_rows import (
    ENDS,
    FEW,
    batch_of,
    draw_of,
    structured_batches,
    take,
)

FALSE_ALARM = 1e-6
KEYS = st.integers(0, 2**64 - 1)
ARRANGEMENTS = [
    ShuffleSentences(ENDS),
    ShuffleWindow(4),
    ShuffleWindow(3, words=True),
    Rotate(),
    Then(ShuffleSentences(ENDS), ShuffleWindow(3)),
]


def orders(arrange, batch, key=7):
    """The order of each sample, as positions in it."""
    order = arrange(batch, FEW, key)
    assert order.dtype == np.int64
    offsets = batch.tokens.offsets
    return [(batch.tokens.like(order)[row] - offsets[row]).tolist() for row in range(len(batch))]


def read(arrange, batch, key=7):
    """The tokens of each sample as they are read then."""
    values = batch.tokens.values[arrange(batch, FEW, key)]
    return batch.tokens.like(values).to_lists()


@pytest.mark.parametrize(
    "arrange, function, settings",
    [
        (ShuffleSentences(ENDS), reference.shuffle_sentences, (ENDS,)),
        (ShuffleWindow(4), reference.shuffle_window, (4, False)),
        (ShuffleWindow(3, words=True), reference.shuffle_window, (3, True)),
        (Rotate(), reference.rotate, ()),
    ],
)
@given(batch=structured_batches(), key=KEYS)
def test_arrangements_are_their_references(arrange, function, settings, batch, key):
    samples = reference.samples(batch, FEW, draw_of(batch, key=key))
    assert orders(arrange, batch, key) == [function(sample, *settings) for sample in samples]


@pytest.mark.parametrize("arrange", ARRANGEMENTS, ids=str)
@given(batch=structured_batches(), key=KEYS)
def test_a_permutation_that_leaves_special_and_protected_tokens(arrange, batch, key):
    assert isinstance(arrange, Arrange)
    for order in orders(arrange, batch, key):
        assert sorted(order) == list(range(len(order)))
    order, stays = arrange(batch, FEW, key), ~eligible(batch, FEW)
    np.testing.assert_array_equal(order[stays], np.flatnonzero(stays))
    # nothing moves past what stays
    np.testing.assert_array_equal(np.cumsum(stays)[order], np.cumsum(stays))


@pytest.mark.parametrize("arrange", ARRANGEMENTS, ids=str)
@given(batch=structured_batches(min_rows=1), data=st.data())
def test_any_batch_of_the_same_samples(arrange, batch, data):
    rows = data.draw(st.lists(st.integers(0, len(batch) - 1), max_size=6))
    whole = orders(arrange, batch)
    part, _ = take(batch, draw_of(batch), rows)
    assert orders(arrange, part) == [whole[row] for row in rows]


def test_sentences_literally():
    row = [1, 6, 7, 4, 8, 4, 9, 9, 9, 5, 2]
    batch = batch_of(*[row] * 3000)
    parts = [[6, 7, 4], [8, 4], [9, 9, 9, 5]]
    every = [[1, *functools.reduce(operator.iadd, order, []), 2] for order in permutations(parts)]
    seen = Counter(map(tuple, read(ShuffleSentences(ENDS), batch)))
    assert set(seen) == set(map(tuple, every))
    assert stats.chisquare(list(seen.values())).pvalue > FALSE_ALARM


def test_sentences_stay_on_their_side_of_a_special_token():
    batch = batch_of(*[[1, 6, 4, 7, 4, 2, 8, 4, 9, 4]] * 200)
    for row in read(ShuffleSentences(ENDS), batch):
        assert row[0] == 1
        assert row[5] == 2
        assert sorted(row[1:5]) == [4, 4, 6, 7]
        assert row[2] == row[4] == 4
        assert sorted(row[6:]) == [4, 4, 8, 9]


@pytest.mark.parametrize("size", [1, 2, 3])
def test_no_token_moves_by_the_window_or_more(size):
    (order,) = orders(ShuffleWindow(size), batch_of([6] * 2000))
    moved = np.abs(np.array(order) - np.arange(2000))
    assert moved.max() == size - 1


def test_window_2_swaps_neighbours_in_an_eighth_of_cases():
    """``1 + 2v < 2u`` for independent uniforms has the probability 1/8."""
    batch = batch_of(*[[6, 7]] * 5000)
    swapped = sum(row == [7, 6] for row in read(ShuffleWindow(2), batch))
    assert stats.binomtest(swapped, 5000, 1 / 8).pvalue > FALSE_ALARM


def test_words_move_whole():
    row = [6, 7, 8, 9, 10, 11]
    batch = batch_of(*[row] * 500, word_starts=[[1, 0, 1, 1, 0, 0]] * 500)
    seen = set(map(tuple, read(ShuffleWindow(3, words=True), batch)))
    words = [(6, 7), (8,), (9, 10, 11)]
    assert seen == {sum(order, ()) for order in permutations(words)}


def test_words_need_word_starts():
    with pytest.raises(BatchError, match=r"has no word_starts. .* ShuffleWindow\(3\)"):
        ShuffleWindow(3, words=True)(batch_of([6]), FEW, 1)


def test_rotation_is_uniform():
    batch = batch_of(*[[1, 6, 7, 8, 9, 2]] * 4000)
    seen = Counter(map(tuple, read(Rotate(), batch)))
    assert set(seen) == {
        (1, 6, 7, 8, 9, 2), (1, 7, 8, 9, 6, 2), (1, 8, 9, 6, 7, 2), (1, 9, 6, 7, 8, 2),
    }  # fmt: skip
    assert stats.chisquare(list(seen.values())).pvalue > FALSE_ALARM


def test_then_reads_the_second_after_the_first():
    batch = batch_of(
        *[[6, 4, 7, 8, 5]] * 300,
        word_starts=[[1, 1, 1, 0, 1]] * 300, marks=[[1, 0, 0, 0, 0]] * 300,
        protected=[[0] * 5] * 300, labels=[[6, 4, 7, 8, 5]] * 300,
    )  # fmt: skip
    both = Then(ShuffleSentences(ENDS), ShuffleWindow(3, words=True))
    # the words that were together still are
    for row in read(both, batch):
        assert row[row.index(7) + 1] == 8
    assert str(both) == "sentences shuffled, then words shuffled within 3"


def test_each_part_of_then_has_a_key_of_its_own():
    keys = []

    class Spy:
        def __call__(self, batch, vocabulary, run_key):
            keys.append(run_key)
            return np.arange(len(batch.tokens.values))

    spy = Spy()
    Then(Then(spy, spy), Then(Then(spy, spy), spy))(batch_of([6]), FEW, 7)
    assert len(set(keys)) == len(keys) == 5


def test_settings_are_checked():
    with pytest.raises(PolicyError, match="size must be at least 1"):
        ShuffleWindow(0)
    with pytest.raises(PolicyError, match="Find them: sentence_ends"):
        ShuffleSentences(())
