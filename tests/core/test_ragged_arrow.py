"""Ragged to and from Arrow, without a copy."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskwright import Ragged
from maskwright.errors import BatchError
from tests.strategies import rows_of_ints

KINDS = [pa.list_, pa.large_list]


@given(rows_of_ints(), st.sampled_from(KINDS), st.data())
def test_arrow_comes_back_sliced_or_not(rows, kind, data):
    array = pa.array(rows, kind(pa.int64()))
    start = data.draw(st.integers(0, len(rows)))
    stop = data.draw(st.integers(start, len(rows)))
    ragged = Ragged.from_arrow(array[start:stop])
    assert ragged.to_lists() == rows[start:stop]
    assert ragged.to_arrow().to_pylist() == rows[start:stop]


@pytest.mark.parametrize("kind", KINDS)
def test_values_are_the_memory_of_arrow(kind):
    array = pa.array([[1, 2], [3, 4, 5], [6]], kind(pa.int32()))
    buffer = np.frombuffer(array.values.buffers()[1], np.int32)
    whole, part = Ragged.from_arrow(array), Ragged.from_arrow(array[1:])
    assert np.shares_memory(whole.values, buffer)
    assert np.shares_memory(part.values, buffer)
    assert part.values.ctypes.data == array.values.buffers()[1].address + 2 * 4
    assert part.values.dtype == np.int32


def test_offsets_of_a_large_list_are_the_memory_of_arrow():
    array = pa.array([[1, 2], [3]], pa.large_list(pa.int64()))
    assert Ragged.from_arrow(array).offsets.ctypes.data == array.buffers()[1].address
    narrow = pa.array([[1, 2], [3]], pa.list_(pa.int64()))
    assert Ragged.from_arrow(narrow).offsets.dtype == np.int64


def test_to_arrow_copies_nothing():
    ragged = Ragged.from_lists([[1, 2], [], [3]])
    array = ragged.to_arrow()
    assert array.type == pa.large_list(pa.int64())
    assert array.values.buffers()[1].address == ragged.values.ctypes.data
    assert array.buffers()[1].address == ragged.offsets.ctypes.data


@pytest.mark.parametrize(
    "array",
    [
        pa.array([[1], None], pa.list_(pa.int64())),
        pa.array([[1, None]], pa.list_(pa.int64())),
        pa.array([1, 2]),
        pa.chunked_array([pa.array([[1]])]),
        pa.array([[1, 2]], pa.list_(pa.int64(), 2)),
        pa.array([[1, 2], [3]], pa.list_view(pa.int64())),
    ],
    ids=["null row", "null value", "no list", "chunked", "fixed size", "view"],
)
def test_what_is_no_list_without_nulls_is_refused(array):
    with pytest.raises(BatchError, match="list or large_list array without nulls"):
        Ragged.from_arrow(array)
