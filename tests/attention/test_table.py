"""Tables: shapes, equality by contents, and what they know of rectangles."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maskwright.attention import Axis, coordinates
from maskwright.attention.table import Table
from maskwright.errors import PatternError
from tests.attention.strategies import SEEDS


def drawn(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < 0.5


def test_missing_dimensions_are_batch_and_heads():
    assert Table(drawn(2, 3)).values.shape == (1, 1, 2, 3)
    batch = Table(drawn(4, 2, 3))
    assert batch.values.shape == (4, 1, 2, 3)
    assert (batch.batch, batch.heads, batch.rows, batch.columns) == (4, None, 2, 3)
    heads = Table(drawn(1, 5, 2, 3))
    assert (heads.batch, heads.heads) == (None, 5)


@pytest.mark.parametrize(
    "values", [torch.zeros(2, 2), drawn(3), drawn(1, 1, 1, 1, 1), torch.zeros(2, 2).int()]
)
def test_other_types_and_shapes(values):
    with pytest.raises(PatternError, match="A table of who may attend is"):
        Table(values)


def test_equal_contents_are_equal():
    one, other = Table(drawn(3, 4)), Table(drawn(3, 4).clone())
    assert one == other
    assert hash(one) == hash(other)
    assert one != Table(~drawn(3, 4))
    # eight entries are one byte, and here the same byte: the shape tells them apart
    assert Table(torch.ones(2, 4) > 0) != Table(torch.ones(4, 2) > 0)
    assert repr(one) == f'table("1×1×3×4 {one.digest}")'


@given(SEEDS, st.integers(1, 9), st.integers(1, 9), st.integers(1, 5), st.integers(1, 5))
def test_rectangles_by_counting(seed, rows, columns, high, wide):
    table = Table(drawn(2, 3, rows, columns, seed=seed))
    q, kv = coordinates.blocks(Axis(rows), Axis(columns), (high, wide), heads=3, batch=2)
    found = table.at(q, kv, q.index, kv.index)
    for i in range(found.may.shape[-2]):
        for j in range(found.may.shape[-1]):
            part = table.values[:, :, i * high : (i + 1) * high, j * wide : (j + 1) * wide]
            assert torch.equal(found.may[:, :, i, j], part.flatten(2).any(-1))
            assert torch.equal(found.must[:, :, i, j], part.flatten(2).all(-1))


def test_copies_carry_the_values_only():
    """What is worked out from a table is larger than the table, and is worked out again."""
    table = Table(drawn(64, 64))
    size = len(pickle.dumps(table))
    q, kv = coordinates.blocks(Axis(64), Axis(64), (8, 8))
    table.at(q, kv, q.index, kv.index)
    assert len(pickle.dumps(table)) == size
    assert pickle.loads(pickle.dumps(table)) == copy.deepcopy(table) == table
