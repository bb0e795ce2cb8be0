"""FlexAttention gets the same mask: pair by pair, mapped as it maps, and block by block."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from torch.nn.attention.flex_attention import create_block_mask, create_mask, flex_attention

from maskwright.attention import (
    Axis,
    bigbird,
    block_diffusion,
    causal,
    documents,
    full,
    padding,
    per_head,
    random_blocks,
    window,
)
from maskwright.attention.blocks import as_size
from tests.attention.matrices import grid
from tests.attention.strategies import BLOCK_SIZES, attentions


@settings(max_examples=150)
@given(attentions())
def test_mask_mod_on_every_index(attention):
    pattern, q, kv = attention
    dense = pattern.dense(q, kv)
    found = grid(pattern.mask_mod(q, kv), *dense.shape)
    assert found.dtype == torch.bool
    assert torch.equal(found, dense)


@settings(max_examples=30)
@given(attentions(empty=False))
def test_mask_mod_mapped_as_flex_maps_it(attention):
    pattern, q, kv = attention
    dense = pattern.dense(q, kv)
    assert torch.equal(create_mask(pattern.mask_mod(q, kv), *dense.shape, device="cpu"), dense)


def unfolded(mask, dense, size):
    """The mask that a BlockMask stands for: full blocks, and the pairs of its partial blocks."""
    rows = torch.arange(dense.shape[-2]) // size[0]
    columns = torch.arange(dense.shape[-1]) // size[1]

    def chosen(counts, numbers):
        found = torch.zeros(*numbers.shape[:3], int(columns.max()) + 1, dtype=torch.bool)
        for place in numpy_index(counts):
            found[place][numbers[place][: counts[place]].long()] = True
        return found[:, :, rows][..., columns]

    partial = chosen(mask.kv_num_blocks, mask.kv_indices)
    whole = chosen(mask.full_kv_num_blocks, mask.full_kv_indices)
    assert not (partial & whole).any()
    return whole | (partial & dense), partial | whole


def numpy_index(counts):
    return [tuple(place) for place in torch.ones_like(counts).nonzero().tolist()]


@settings(max_examples=60)
@given(attentions(empty=False), BLOCK_SIZES)
def test_block_mask_stands_for_the_mask(attention, size):
    pattern, q, kv = attention
    dense = pattern.dense(q, kv)
    sizes = as_size(size)
    mask = pattern.block_mask(q, kv, size)
    assert sizes == mask.BLOCK_SIZE
    assert mask.seq_lengths == (q.length, kv.length)
    meaning, touched = unfolded(mask, dense, sizes)
    assert torch.equal(meaning, dense)
    theirs = create_block_mask(
        pattern.mask_mod(q, kv), *dense.shape, device="cpu", BLOCK_SIZE=sizes
    )
    meaning, least = unfolded(theirs, dense, sizes)
    assert torch.equal(meaning, dense)
    # ours may look at more blocks than need be, never at fewer
    assert not (least & ~touched).any()


def test_blocks_that_are_cut_short_are_never_full():
    """FlexAttention checks no bounds in a full block."""
    mask = full.block_mask(Axis(5), Axis(6), size=(2, 4))
    assert mask.full_kv_num_blocks.tolist() == [[[1, 1, 0]]]
    assert mask.full_kv_indices[0, 0, :2, 0].tolist() == [0, 0]
    assert mask.kv_num_blocks.tolist() == [[[1, 1, 2]]]


@pytest.mark.parametrize(
    "pattern",
    [causal & window(7), documents & causal, bigbird(8, 2), random_blocks(2, 8, 1, 2),
     per_head([causal, ~causal]), block_diffusion(4), padding & causal],
    ids=str,
)  # fmt: skip
def test_flex_attention_gives_what_the_mask_gives(pattern):
    n = 48
    axis = Axis(n, segments=torch.arange(n) // 20, valid=torch.arange(n) < 40)
    generator = torch.Generator().manual_seed(1)
    query, key, value = (torch.randn(1, 2, n, 16, generator=generator) for _ in range(3))
    found = flex_attention(query, key, value, block_mask=pattern.block_mask(axis, size=16))
    expected = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=pattern.dense(axis)
    )
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
