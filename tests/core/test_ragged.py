"""Ragged: its form, its rows, lists and padding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maskwright import Ragged
from maskwright.errors import BatchError
from maskwright.ragged import offsets_of
from tests.strategies import rows_of_ints


@given(rows_of_ints())
def test_lists_come_back(rows):
    ragged = Ragged.from_lists(rows)
    assert ragged.to_lists() == rows
    assert len(ragged) == len(rows)
    assert [row.tolist() for row in ragged] == rows
    assert ragged.lengths.tolist() == [len(row) for row in rows]


@given(rows_of_ints())
def test_rows_and_positions_name_each_value(rows):
    ragged = Ragged.from_lists(rows)
    named = zip(ragged.rows, ragged.positions, ragged.values, strict=True)
    assert all(rows[row][position] == value for row, position, value in named)
    assert len(ragged.rows) == sum(map(len, rows))


@given(rows_of_ints(), st.data())
def test_take_is_indexing(rows, data):
    ragged = Ragged.from_lists(rows)
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=8)) if rows else []
    taken = ragged.take(chosen)
    assert taken.to_lists() == [rows[row] for row in chosen]
    assert not np.shares_memory(taken.values, ragged.values)


@given(rows_of_ints(low=1), st.sampled_from(["left", "right"]), st.integers(0, 3))
def test_padded_comes_back(rows, side, extra):
    ragged = Ragged.from_lists(rows)
    length = max(map(len, rows), default=0) + extra
    padded = ragged.to_padded(0, side=side, length=length)
    assert padded.shape == (len(rows), length)
    assert padded.dtype == torch.int64
    assert Ragged.from_padded(padded, padded != 0) == ragged


def test_padding_literally():
    ragged = Ragged.from_lists([[5, 6, 7], [], [8]])
    right, left = ragged.to_padded(0), ragged.to_padded(-1, side="left", length=4)
    assert right.tolist() == [[5, 6, 7], [0, 0, 0], [8, 0, 0]]
    assert left.tolist() == [[-1, 5, 6, 7], [-1, -1, -1, -1], [-1, -1, -1, 8]]


def test_a_mask_with_holes():
    ragged = Ragged.from_padded(np.array([[1, 2, 3], [4, 5, 6]]), [[1, 0, 1], [0, 0, 0]])
    assert ragged.to_lists() == [[1, 3], []]


def test_nothing_is_truncated_in_silence():
    ragged = Ragged.from_lists([[1], [1, 2, 3]])
    with pytest.raises(BatchError, match=r"row 1 has 3 values, more than length=2"):
        ragged.to_padded(0, length=2)


@pytest.mark.parametrize(
    "values, offsets, message",
    [
        (np.zeros((2, 2)), np.array([0, 4]), r"one axis, got shape \(2, 2\)"),
        (np.zeros(2), np.array([], np.int64), r"shape \(B \+ 1,\)"),
        (np.zeros(2), np.array([[0, 2]]), r"shape \(B \+ 1,\)"),
        (np.zeros(2), np.array([1, 2]), "rise from 0 to 2"),
        (np.zeros(2), np.array([0, 1]), "rise from 0 to 2"),
        (np.zeros(2), np.array([0, 2, 1, 2]), "rise from 0 to 2"),
    ],
)
def test_malformed_offsets(values, offsets, message):
    with pytest.raises(BatchError, match=message):
        Ragged(values, offsets)


def test_narrow_offsets_are_widened():
    assert Ragged(np.zeros(2), np.array([0, 2], np.int32)).offsets.dtype == np.int64


def test_other_errors_of_form():
    with pytest.raises(BatchError, match=r"row 1 has shape \(1, 1\)"):
        Ragged.from_lists([[1], [[2]]])
    with pytest.raises(BatchError, match=r"\(2, 2\) and \(2, 3\)"):
        Ragged.from_padded(np.zeros((2, 2)), np.zeros((2, 3)))
    with pytest.raises(BatchError, match=r"row 3 is outside 0 … 1"):
        Ragged.from_lists([[1], [2]]).take([0, 3])
    with pytest.raises(BatchError, match=r"row -1 is outside"):
        Ragged.from_lists([[1], [2]]).take([-1])


def test_indexing_like_a_list():
    ragged = Ragged.from_lists([[1], [2, 3]])
    assert ragged[-1].tolist() == [2, 3]
    assert np.shares_memory(ragged[1], ragged.values)
    for row in (2, -3):
        with pytest.raises(IndexError, match=f"row {row}"):
            ragged[row]


def test_equality_is_of_rows_and_values():
    ragged = Ragged.from_lists([[1, 2], [3]])
    assert ragged == Ragged.from_lists([[1, 2], [3]], np.uint16)
    assert ragged != Ragged.from_lists([[1], [2, 3]])
    assert ragged != Ragged.from_lists([[1, 2], [4]])
    assert ragged != [[1, 2], [3]]
    with pytest.raises(TypeError, match="unhashable"):
        hash(ragged)


def test_like_keeps_the_rows():
    ragged = Ragged.from_lists([[1, 2], [3]])
    assert ragged.like(np.array([7, 8, 9])).to_lists() == [[7, 8], [9]]
    with pytest.raises(BatchError, match="number of values"):
        ragged.like(np.array([7]))


def test_dtypes_are_kept():
    assert Ragged.from_lists([[1]], np.uint16).to_padded(0).dtype == torch.uint16
    assert Ragged.from_lists([], np.int32).values.dtype == np.int32
    assert Ragged.from_lists([torch.tensor([1, 2]), np.array([3])]).to_lists() == [[1, 2], [3]]
    assert repr(Ragged.from_lists([[1], [2, 3]])) == "Ragged(2 rows, 3 values of int64)"


def test_offsets_of():
    assert offsets_of(np.array([3, 0, 1])).tolist() == [0, 3, 3, 4]
    assert offsets_of(np.array([], np.int64)).tolist() == [0]
