"""Average lagging: the cases that are known, and one by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskwright.errors import DataError
from maskwright.evaluation.translation import average_lagging


def wait_k(k, source, target):
    return [min(k + t, source) for t in range(target)]


@given(st.integers(1, 20), st.integers(1, 20))
def test_wait_k_on_equal_lengths_gives_k(k, length):
    k = min(k, length)
    assert average_lagging([wait_k(k, length, length)], [length]) == pytest.approx([k])


def test_reading_all_first_lags_by_the_whole_source():
    assert average_lagging([[7] * 4, [3]], [7, 3]).tolist() == [7.0, 3.0]


def test_by_hand():
    # |x| = 4, |y| = 8, r = 2: (1 − 0) + (2 − 1/2) + (3 − 1) + (4 − 3/2), over τ = 4
    assert average_lagging([[1, 2, 3, 4, 4, 4, 4, 4]], [4]) == pytest.approx([7 / 4])
    # it ends before the source does: τ is its length
    assert average_lagging([[1, 2]], [4]) == pytest.approx([(1 + (2 - 2)) / 2])
    # against a reference of 4 tokens, r = 1: (1 − 0) + (2 − 1), over 2
    assert average_lagging([[1, 2]], [4], [4]) == pytest.approx([1.0])
    # writing before reading is ahead of the speaker
    assert average_lagging([[0, 0, 0]], [3]) == pytest.approx([-1.0])


def test_sentences_of_a_corpus_are_told_apart():
    found = average_lagging([np.array([2, 3]), [], [1]], np.array([3, 5, 1]), np.array([2, 0, 1]))
    assert found.shape == (3,)
    assert np.isnan(found[1])
    assert found[2] == 1


@pytest.mark.parametrize(
    "delays, sources, targets, message",
    [
        ([[1], [1]], [2], None, "2 sentences, with 1 source"),
        ([[1]], [2], [1, 1], "and 2 target lengths"),
        ([[1]], [0], None, "Sentence 0 has 0 source"),
        ([[1]], [1], [0], "and 0 target tokens"),
        ([[1], [3]], [2, 2], None, "sentence 1 are .*from 0 to its 2"),
        ([[2, 1]], [2], None, "never fall"),
        ([[-1, 1]], [2], None, "never fall"),
    ],
)
def test_bad_requests(delays, sources, targets, message):
    with pytest.raises(DataError, match=message):
        average_lagging(delays, sources, targets)
