"""What is said of blocks holds of every pair in them, for trees over the whole library."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maskwright.attention import (
    EMPTY,
    FULL,
    Axis,
    block_diffusion,
    blockwise,
    causal,
    chunked,
    dilated,
    documents,
    full,
    global_tokens,
    nothing,
    padding,
    prefix,
    random_blocks,
    strided,
    summaries,
    window,
)
from maskwright.attention.blocks import as_size
from tests.attention.strategies import BLOCK_SIZES, attentions

quick = settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
thorough = settings(max_examples=10_000, suppress_health_check=[HealthCheck.too_slow])


def truth_of_blocks(dense, size):
    """Whether any and whether all pairs of each block may attend, by looking at every pair."""
    rows = torch.arange(dense.shape[-2]) // size[0]
    columns = torch.arange(dense.shape[-1]) // size[1]
    shape = (*dense.shape[:2], int(rows.max()) + 1, int(columns.max()) + 1)
    seen, pairs = torch.zeros(shape), torch.zeros(shape)
    index = (rows[:, None] * shape[-1] + columns[None, :]).flatten()
    seen.flatten(2).index_add_(-1, index, dense.flatten(2).float())
    pairs.flatten(2).index_add_(-1, index, torch.ones_like(dense.flatten(2), dtype=torch.float))
    return seen > 0, seen == pairs


def check_sound(pattern, q, kv, size):
    found = pattern.blocks(q, kv, size).states
    dense = pattern.dense(q, kv)
    rows, columns = as_size(size)
    assert found.shape == (*dense.shape[:2], -(-q.length // rows), -(-kv.length // columns))
    if dense.numel():
        some, every = truth_of_blocks(dense, (rows, columns))
        assert not (some & (found == EMPTY)).any(), "a false EMPTY"
        assert not (~every & (found == FULL)).any(), "a false FULL"


@quick
@given(attentions(), BLOCK_SIZES)
def test_blocks_are_sound(attention, size):
    for one in (size, 1, (3, 5)):
        check_sound(*attention, one)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@thorough
@given(attentions(leaves=10), BLOCK_SIZES)
def test_blocks_of_many_trees_are_sound(attention, size):
    check_sound(*attention, size)


@pytest.mark.parametrize("wrong", ["empty", "full"])
def test_the_check_finds_what_is_wrong(wrong, monkeypatch):
    from maskwright.attention.rules.relative import Window

    def allowed(self, q, kv):
        distance = kv.index - q.index
        near = (distance >= -self.left) & (distance <= self.right)
        if isinstance(distance, torch.Tensor):
            return near
        # a block that is said to know too much
        near = type(near)(near.may & near.must, near.must) if wrong == "empty" else near
        return type(near)(near.may, near.may) if wrong == "full" else near

    monkeypatch.setattr(Window, "allowed", allowed)
    with pytest.raises(AssertionError, match=f"a false {wrong.upper()}"):
        check_sound(window(2), Axis(12), Axis(12), 4)


EXACT = [
    full, nothing, causal, causal("upper-left"), window(3, 0), window(0), window(2, 5),
    dilated(2, 3), dilated(3, 1), strided(5), strided(1), chunked(4), chunked(7),
    blockwise(3, 1, 2), blockwise(4, None), blockwise(2, None, None), prefix(5),
    global_tokens(0, 1, 7, -1), global_tokens(0, side="kv"), global_tokens(0, -1, size=4),
    random_blocks(2, 3, seed=5), random_blocks(1, 4, heads=3), summaries(5, 2), documents, padding,
]  # fmt: skip


@pytest.mark.parametrize("pattern", EXACT, ids=str)
@pytest.mark.parametrize("size", [1, 3, (4, 5), (8, 2), 64], ids=str)
@pytest.mark.parametrize("lengths", [(24, 24), (7, 24), (17, 9)], ids=str)
def test_single_rules_are_exact_on_blocks(pattern, size, lengths):
    """No block is PARTIAL without need where positions are plain and documents packed."""
    q, kv = (Axis(n, segments=torch.arange(n) // 6, valid=torch.arange(n) < n - 3) for n in lengths)
    some, every = truth_of_blocks(pattern.dense(q, kv), as_size(size))
    found = pattern.blocks(q, kv, size).states
    assert torch.equal(found != EMPTY, some)
    assert torch.equal(found == FULL, every)


@given(st.integers(1, 9), st.integers(1, 7))
def test_block_diffusion_is_exact_where_blocks_do_not_straddle_its_middle(blocks, size):
    q = Axis(2 * blocks * size)
    some, every = truth_of_blocks(block_diffusion(size).dense(q), (size, size))
    found = block_diffusion(size).blocks(q, size=size).states
    assert torch.equal(found != EMPTY, some)
    assert torch.equal(found == FULL, every)
