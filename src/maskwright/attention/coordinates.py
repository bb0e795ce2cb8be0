"""What a rule sees of an axis: coordinates, one by one, block by block, or inside a kernel.

A rule is written once, as integer arithmetic and comparisons on the coordinates of ``q`` and
``kv``. Which kind of coordinates it gets decides what comes out: single tokens give the mask
itself, blocks give `Certainty`, and the index tensors of FlexAttention give its ``mask_mod``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from maskwright.attention.axis import Axis
from maskwright.attention.interval import Certainty, Interval
from maskwright.errors import AxisError


@dataclass(frozen=True, eq=False)
class Coordinates:
    """One axis, as a rule sees it.

    Attributes:
        name: "q" or "kv", for messages.
        axis: the axis itself, for its length and for which columns it has.
        index: 0 to length - 1.
        batch: number of the sample; a tensor, exact in every kind.
        head: number of the head.
        take: a column of the axis as coordinates.
    """

    name: str
    axis: Axis
    index: Any
    batch: Tensor
    head: Any
    take: Callable[[Tensor], Any]

    @property
    def length(self) -> int:
        return self.axis.length

    @property
    def position(self) -> Any:
        """``positions`` of the axis, or the index."""
        return self.channel("positions") if "positions" in self.axis.columns else self.index

    @property
    def segment(self) -> Any:
        """``segments`` of the axis.

        Raises:
            AxisError: it has none.
        """
        return self.channel("segments")

    @property
    def valid(self) -> Any:
        """Whether this is a token; where the axis does not say, everything is."""
        return self.channel("valid") if "valid" in self.axis.columns else self.index >= 0

    @property
    def rank(self) -> Any:
        """Which token of its sample this is, counted from 0 without padding."""
        return self.take(self.axis.ranks[0])

    @property
    def count(self) -> Tensor:
        """How many tokens the sample has, without padding; exact in every kind."""
        counts = self.axis.ranks[1]
        return counts[self.batch] if counts.numel() != 1 else counts.reshape(())

    def channel(self, name: str) -> Any:
        """A column by its name.

        Raises:
            AxisError: the axis has no such column.
        """
        column = self.axis.columns.get(name)
        if column is None:
            known = ", ".join(self.axis.columns) or "none"
            raise AxisError(
                f"The pattern asks for {name} of the {self.name} axis, which has no such column "
                f"(it has: {known}). Give it: Axis(length, {name}=...)."
            )
        return self.take(column)


def tokens(
    q: Axis,
    kv: Axis,
    heads: int = 1,
    batch: int = 1,
    rows: slice = slice(None),
    columns: slice = slice(None),
) -> tuple[Coordinates, Coordinates]:
    """Coordinates of single tokens: values broadcast to ``(batch, heads, rows, columns)``."""
    device = common_device(q, kv)
    sample, head = _outer(batch, heads, device)

    def side(name: str, axis: Axis, part: slice, along: int) -> Coordinates:
        def take(column: Tensor) -> Tensor:
            return _spread(column[..., part], along)

        # of this part only: a part of a long axis costs no more than one of a short axis
        index = _spread(torch.arange(*part.indices(axis.length), device=device), along)
        return Coordinates(name, axis, index, sample, head, take)

    return side("q", q, rows, -1), side("kv", kv, columns, -2)


def blocks(
    q: Axis, kv: Axis, size: tuple[int, int], heads: int = 1, batch: int = 1
) -> tuple[Coordinates, Coordinates]:
    """Coordinates of blocks: ranges that broadcast to ``(batch, heads, q blocks, kv blocks)``.

    The last block of an axis is as long as what is left.
    """
    device = common_device(q, kv)
    sample, head = _outer(batch, heads, device)

    def side(name: str, axis: Axis, step: int, along: int) -> Coordinates:
        def take(column: Tensor) -> Interval | Certainty:
            parts = _blocked(column, step)
            if column.dtype == torch.bool:
                return Certainty(_spread(parts.any(-1), along), _spread(parts.all(-1), along))
            return Interval(_spread(parts.amin(-1), along), _spread(parts.amax(-1), along))

        starts = _spread(torch.arange(0, axis.length, step, device=device), along)
        index = Interval(starts, (starts + (step - 1)).clamp(max=axis.length - 1))
        return Coordinates(name, axis, index, sample, Interval(head, head), take)

    return side("q", q, size[0], -1), side("kv", kv, size[1], -2)


def scalars(
    q: Axis, kv: Axis, batch: Tensor, head: Tensor, q_index: Tensor, kv_index: Tensor
) -> tuple[Coordinates, Coordinates]:
    """Coordinates from index tensors of any shape, as FlexAttention hands them to a mask_mod."""

    def side(name: str, axis: Axis, index: Tensor) -> Coordinates:
        def take(column: Tensor) -> Tensor:
            if column.ndim == 2 and len(column) != 1:
                return column[batch, index]
            return column.reshape(-1)[index]

        return Coordinates(name, axis, index, batch, head, take)

    return side("q", q, q_index), side("kv", kv, kv_index)


def _blocked(column: Tensor, size: int) -> Tensor:
    """``(batch or nothing, blocks, size)``; what the last block lacks repeats its last token."""
    missing = -column.shape[-1] % size
    if missing:
        tail = column[..., -1:].expand(*column.shape[:-1], missing)
        column = torch.cat((column, tail), -1)
    return column.unflatten(-1, (-1, size))


def common_device(q: Axis, kv: Axis) -> torch.device:
    """The device of the columns of both axes; of plain axes, the CPU."""
    return kv.device if q.plain else q.device


def _outer(batch: int, heads: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Numbers of the samples and of the heads, spread over the first two dimensions."""
    sample = torch.arange(batch, device=device).view(batch, 1, 1, 1)
    return sample, torch.arange(heads, device=device).view(1, heads, 1, 1)


def _spread(column: Tensor, along: int) -> Tensor:
    """``(n,)`` or ``(batch, n)`` to four dimensions, of which ``along`` of the last two is 1."""
    if column.ndim == 1:
        column = column.unsqueeze(0)
    return column.unsqueeze(1).unsqueeze(-1 if along == -1 else -2)
