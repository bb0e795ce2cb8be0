"""Which blocks of an attention have work in them, from what is known of each block."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from maskwright.attention.interval import Certainty
from maskwright.errors import PatternError

EMPTY, PARTIAL, FULL = 0, 1, 2


@dataclass(frozen=True, eq=False)
class BlockMap:
    """The state of every block of an attention.

    Conservative: an `EMPTY` block has no pair that may attend, in a `FULL` one all may; of a
    `PARTIAL` one, nothing is promised.

    Attributes:
        states: ``(batch or 1, heads or 1, q blocks, kv blocks)`` int8, of the three constants.
        q_length, kv_length: tokens of each axis; the last block may be shorter than the others.
        size: tokens of a block on the ``q`` and on the ``kv`` axis.
    """

    states: Tensor
    q_length: int
    kv_length: int
    size: tuple[int, int]

    @property
    def touched(self) -> float:
        """The share of all pairs that lie in blocks with work in them, 0 to 1."""
        pairs = self._pairs()
        total = pairs.sum() * self.states.shape[0] * self.states.shape[1]
        return float(((self.states != EMPTY) * pairs).sum() / total) if total else 0.0

    def share(self, state: int) -> float:
        """The share of blocks in this state, 0 to 1."""
        return float((self.states == state).double().mean()) if self.states.numel() else 0.0

    def _pairs(self) -> Tensor:
        """How many pairs each block has, ``(q blocks, kv blocks)`` float64."""
        device = self.states.device
        sides = []
        for length, size in zip((self.q_length, self.kv_length), self.size, strict=True):
            starts = torch.arange(0, length, size, device=device)
            sides.append((length - starts).clamp(max=size).double())
        return sides[0][:, None] * sides[1][None, :]


def as_size(size: int | tuple[int, int]) -> tuple[int, int]:
    """A block size for each axis.

    Raises:
        PatternError: it is not one or two whole numbers above 0.
    """
    both = (size, size) if isinstance(size, int) else tuple(size)
    if len(both) != 2 or not all(isinstance(one, int) and one > 0 for one in both):
        raise PatternError(f"Block size {size!r}: it is a number above 0, or one for q and for kv.")
    return both


def block_map(
    certainty: Certainty, shape: tuple[int, ...], q: int, kv: int, size: tuple[int, int]
) -> BlockMap:
    """The map of a rule's answer on blocks, spread out to ``shape``."""
    states = certainty.may.to(torch.int8) + certainty.must.to(torch.int8)
    return BlockMap(states.expand(shape), q, kv, size)
