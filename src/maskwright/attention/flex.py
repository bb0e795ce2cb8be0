"""Patterns for FlexAttention: the same rule on index tensors, and its block map as a BlockMask.

Source: Dong et al., "Flex Attention: A Programming Model for Generating Optimized Attention
Kernels", 2024, arXiv:2412.05496.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from maskwright.attention import coordinates
from maskwright.attention.axis import Axis
from maskwright.attention.blocks import EMPTY, FULL, PARTIAL

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

    from maskwright.attention.pattern import Pattern


def mask_mod(
    pattern: Pattern, q: Axis, kv: Axis
) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """``mask_mod(batch, head, q_index, kv_index)``: the pattern on these axes."""
    pattern = pattern.bound(q, kv)

    def allowed(batch: Tensor, head: Tensor, q_index: Tensor, kv_index: Tensor) -> Tensor:
        return pattern.allowed(*coordinates.scalars(q, kv, batch, head, q_index, kv_index))

    return allowed


def block_mask(pattern: Pattern, q: Axis, kv: Axis, size: tuple[int, int]) -> BlockMask:
    """The ``BlockMask`` of a pattern, built from intervals instead of all pairs."""
    from torch.nn.attention.flex_attention import BlockMask

    found = pattern.blocks(q, kv, size)
    states = found.states.clone()
    # FlexAttention checks no bounds in a full block: one that is cut short stays partial
    if q.length % size[0]:
        states[..., -1, :].clamp_(max=PARTIAL)
    if kv.length % size[1]:
        states[..., :, -1].clamp_(max=PARTIAL)
    partial, whole = states == PARTIAL, states == FULL
    assert ((states == EMPTY) | partial | whole).all()
    return BlockMask.from_kv_blocks(
        *_ordered(partial),
        *_ordered(whole),
        BLOCK_SIZE=size,
        mask_mod=mask_mod(pattern, q, kv),
        seq_lengths=(q.length, kv.length),
    )


def _ordered(chosen: Tensor) -> tuple[Tensor, Tensor]:
    """How many blocks of each row are chosen, and their numbers first, in order."""
    counts = chosen.sum(-1, dtype=torch.int32)
    numbers = chosen.to(torch.int8).argsort(dim=-1, descending=True, stable=True)
    return counts, numbers.to(torch.int32).contiguous()
