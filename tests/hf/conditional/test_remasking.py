"""How many tokens are masked again, and which."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwright.hf.conditional.filling import without_repeats
from maskwright.hf.conditional.remasking import least_certain, repeated, still_masked


def test_the_schedule_of_the_paper():
    # 1904.09324, section 3.2: n = N · (T - t) / T
    lengths = torch.tensor([12, 5, 1])
    found = [still_masked(lengths, done, 4).tolist() for done in range(5)]
    assert found == [[12, 5, 1], [9, 3, 0], [6, 2, 0], [3, 1, 0], [0, 0, 0]]


@settings(max_examples=50)
@given(st.integers(1, 300), st.integers(1, 20))
def test_all_at_first_none_at_last_and_never_more(length, passes):
    found = [int(still_masked(torch.tensor(length), t, passes)) for t in range(passes + 1)]
    assert found[0] == length
    assert found[-1] == 0
    assert found == sorted(found, reverse=True)


def test_the_least_certain_and_of_equals_the_first():
    confidence = torch.tensor([[-0.5, -2.0, -0.5, -0.5, -9.0], [-1.0, -1.0, -1.0, -1.0, -1.0]])
    allowed = torch.tensor([[True, True, True, True, False], [False, True, True, True, True]])
    chosen = least_certain(confidence, allowed, torch.tensor([2, 3]))
    assert chosen.int().tolist() == [[1, 1, 0, 0, 0], [0, 1, 1, 1, 0]]


@settings(max_examples=50)
@given(st.data())
def test_as_sorted_one_by_one(data):
    rows = data.draw(st.integers(1, 3))
    width = data.draw(st.integers(1, 7))
    values = st.lists(st.integers(-3, 0), min_size=width, max_size=width)
    flags = st.lists(st.booleans(), min_size=width, max_size=width)
    confidence = [data.draw(values) for _ in range(rows)]
    allowed = [data.draw(flags) for _ in range(rows)]
    counts = [data.draw(st.integers(0, sum(one))) for one in allowed]
    found = least_certain(
        torch.tensor(confidence).float(), torch.tensor(allowed), torch.tensor(counts)
    )
    for row in range(rows):
        choice = [i for i in range(width) if allowed[row][i]]
        expected = sorted(choice, key=lambda i, row=row: (confidence[row][i], i))[: counts[row]]
        assert found[row].nonzero().squeeze(1).tolist() == sorted(expected)


def test_of_two_equal_neighbours_the_less_certain_one():
    tokens = torch.tensor([[7, 7, 8, 8, 8, 1, 1]])
    confidence = torch.tensor([[-1.0, -0.5, -0.1, -0.3, -0.2, -5.0, -5.0]])
    words = torch.tensor([[True] * 5 + [False] * 2])
    assert repeated(tokens, confidence, words).int().tolist() == [[1, 0, 0, 1, 0, 0, 0]]
    same = torch.zeros(1, 7)
    assert repeated(tokens, same, words).int().tolist() == [[0, 1, 0, 1, 1, 0, 0]]


def test_repeats_are_dropped_and_the_end_closes_up():
    tokens = torch.tensor([[2, 7, 7, 8, 7, 1, 0], [2, 5, 5, 5, 5, 5, 1]])
    words = torch.tensor([[0, 1, 1, 1, 1, 0, 0], [0, 1, 1, 1, 1, 1, 0]]).bool()
    found, lengths = without_repeats(tokens, words, 0)
    assert found.tolist() == [[2, 7, 8, 7, 1, 0, 0], [2, 5, 1, 0, 0, 0, 0]]
    assert lengths.tolist() == [3, 1]
