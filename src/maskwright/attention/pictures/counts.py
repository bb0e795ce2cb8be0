"""How many pairs a pattern allows, in each cell of a grid and in each row, without a mask of all.

The block map says which cells are empty and which are full; only the others are worked out, a
few at a time. So the counts are exact, and memory grows with the axes, not with their product.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from maskwright.attention.axis import Axis
from maskwright.attention.blocks import FULL, PARTIAL
from maskwright.attention.pattern import Pattern, extent, part

# Pairs that are worked out at once, of all samples and heads: few enough for torch to stay in one
# thread, and for their integers to stay in the cache.
_PAIRS = 1 << 15
# Blocks are no smaller than this, because each costs some calls, and no more than this in number.
_FINEST = 64
_BLOCKS = 1 << 20


@dataclass(frozen=True, eq=False)
class Counts:
    """Allowed pairs, exactly.

    Attributes:
        cells: ``(batch or 1, heads or 1, q cells, kv cells)`` int64, the allowed pairs of each.
        rows: ``(batch or 1, heads or 1, q)`` int64, how many keys each query may attend to.
        q_length, kv_length: tokens of each axis.
        size: tokens of a cell on the ``q`` and on the ``kv`` axis; the last may have fewer.
    """

    cells: Tensor
    rows: Tensor
    q_length: int
    kv_length: int
    size: tuple[int, int]

    @property
    def pairs(self) -> int:
        """All pairs there are, allowed or not, of every sample and head."""
        batch, heads, length = self.rows.shape
        return batch * heads * length * self.kv_length

    @property
    def allowed(self) -> float:
        """The share of all pairs that may attend, 0 to 1."""
        return float(self.rows.sum()) / self.pairs if self.pairs else 0.0

    @property
    def empty(self) -> Tensor:
        """``(batch or 1, heads or 1, q)`` Boolean: queries with nothing to attend to."""
        return self.rows == 0


def count(pattern: Pattern, q: Axis, kv: Axis, size: tuple[int, int]) -> Counts:
    """The allowed pairs of a pattern, by cells of ``size`` tokens and by rows.

    Raises:
        AxisError: as `Pattern.dense`.
    """
    batch, heads, *_ = extent(pattern, q, kv)
    rows = torch.zeros(batch, heads, q.length, dtype=torch.int64)
    if not q.length or not kv.length:
        shape = (batch, heads, -(-q.length // size[0]), -(-kv.length // size[1]))
        return Counts(torch.zeros(shape, dtype=torch.int64), rows, q.length, kv.length, size)
    fine = _finer(size, batch * heads * q.length * kv.length)
    states = pattern.blocks(q, kv, fine).states.cpu()
    # A block that is undecided in one sample or head is worked out in all of them.
    undecided = (states == PARTIAL).flatten(0, 1).any(0)
    high, wide = _lengths(q.length, fine[0]), _lengths(kv.length, fine[1])
    whole = (states == FULL) & ~undecided
    found = whole * (high[:, None] * wide[None, :])
    rows += (whole * wide).sum(-1).repeat_interleave(high, dim=-1)
    at_once = max(1, _PAIRS // (batch * heads * fine[0] * fine[1]))
    for row, first, stop in _runs(undecided, at_once):
        across = slice(row * fine[0], min((row + 1) * fine[0], q.length))
        along = slice(first * fine[1], min(stop * fine[1], kv.length))
        # numpy adds in one thread: torch's would wait for one another at each of many small sums
        mask = part(pattern, q, kv, across, along).cpu().numpy().view(np.uint8)
        rows[:, :, across] += torch.from_numpy(np.add.reduce(mask, -1, dtype=np.int64))
        sums = np.add.reduce(mask, -2, dtype=np.int64)
        starts = np.arange(0, sums.shape[-1], fine[1])
        found[:, :, row, first:stop] = torch.from_numpy(np.add.reduceat(sums, starts, -1))
    return Counts(_pooled(found, size, fine), rows, q.length, kv.length, size)


def _finer(size: tuple[int, int], pairs: int) -> tuple[int, int]:
    """A part of a cell's size at which few pairs lie in undecided blocks."""
    fine = list(size)
    for axis in (0, 1):
        while fine[axis] > _FINEST and fine[axis] % 2 == 0:
            fine[axis] //= 2
    while pairs // (fine[0] * fine[1]) > _BLOCKS and fine != list(size):
        fine = [min(2 * one, whole) for one, whole in zip(fine, size, strict=True)]
    return fine[0], fine[1]


def _pooled(found: Tensor, size: tuple[int, int], fine: tuple[int, int]) -> Tensor:
    """The sums of blocks by cells."""
    for axis, (one, whole) in enumerate(zip(fine, size, strict=True), start=2):
        factor = whole // one
        missing = -found.shape[axis] % factor
        if factor > 1:
            padding = [0, 0, 0, missing] if axis == 2 else [0, missing]
            found = torch.nn.functional.pad(found, padding)
            found = found.unflatten(axis, (-1, factor)).sum(axis + 1)
    return found


def _lengths(length: int, size: int) -> Tensor:
    """How many tokens each cell of an axis has."""
    return (length - torch.arange(0, length, size)).clamp(max=size)


def _runs(chosen: Tensor, at_once: int) -> Iterator[tuple[int, int, int]]:
    """Row, first and stop of the chosen cells that stand side by side, at most so many."""
    for row in chosen.any(-1).nonzero().flatten().tolist():
        columns = chosen[row].nonzero().flatten().tolist()
        first = previous = columns[0]
        for column in [*columns[1:], -1]:
            if column == previous + 1 and column - first < at_once:
                previous = column
                continue
            yield row, first, previous + 1
            first = previous = column
