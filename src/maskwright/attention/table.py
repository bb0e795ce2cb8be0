"""A Boolean matrix as a value: what a rule cannot say in arithmetic."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maskwright.attention.coordinates import Coordinates
from maskwright.attention.interval import Certainty, Interval
from maskwright.errors import PatternError


@dataclass(frozen=True, eq=False)
class Table:
    """Booleans ``(batch or 1, heads or 1, rows, columns)``; True = may attend.

    Two tables are equal where their contents are, on whatever device.

    Args:
        values: a Boolean tensor (or nested lists) of 2 dimensions, rows and columns; of 3, the
            first is the batch; of 4, batch and heads.

    Raises:
        PatternError: another type, or another number of dimensions.
    """

    values: Tensor

    def __post_init__(self) -> None:
        values = torch.as_tensor(self.values)
        if values.dtype != torch.bool or not 2 <= values.ndim <= 4:
            raise PatternError(
                f"A table of who may attend is {values.dtype} of shape {tuple(values.shape)}; it "
                "is Boolean, True = may attend, with dimensions [batch, [heads,]] q, kv."
            )
        while values.ndim < 4:
            # a missing batch comes first, then a missing heads dimension behind the batch
            values = values.unsqueeze(0 if values.ndim == 2 else 1)
        object.__setattr__(self, "values", values.detach())

    @property
    def batch(self) -> int | None:
        return self.values.shape[0] if self.values.shape[0] > 1 else None

    @property
    def heads(self) -> int | None:
        return self.values.shape[1] if self.values.shape[1] > 1 else None

    @property
    def rows(self) -> int:
        return self.values.shape[2]

    @property
    def columns(self) -> int:
        return self.values.shape[3]

    def to(self, device: torch.device) -> Table:
        """The same table on another device."""
        return self if self.values.device == device else Table(self.values.to(device))

    def at(self, q: Coordinates, kv: Coordinates, row: Any, column: Any) -> Any:
        """The entries at these rows and columns, of each sample and head of ``q``."""
        if isinstance(row, Interval):
            return self._within(q, row, column)
        sample = q.batch if self.batch else torch.zeros_like(q.batch)
        head = q.head if self.heads else torch.zeros_like(q.head)
        return self._on(row.device)[sample, head, row, column]

    def _within(self, q: Coordinates, row: Interval, column: Interval) -> Certainty:
        """What blocks of entries hold: the sum over a rectangle, from four corners of a table."""
        sums = self._sums.to(row.low.device)
        sample = q.batch if self.batch else torch.zeros_like(q.batch)
        head = q.head.low if self.heads else torch.zeros_like(q.head.low)

        def corner(r: Tensor, c: Tensor) -> Tensor:
            return sums[sample, head, r, c]

        top, bottom, left, right = row.low, row.high + 1, column.low, column.high + 1
        count = corner(bottom, right) - corner(top, right)
        count = count - corner(bottom, left) + corner(top, left)
        return Certainty(count > 0, count == (bottom - top) * (right - left))

    @cached_property
    def _sums(self) -> Tensor:
        """How many entries above and to the left of each corner are True."""
        # half the memory, where no count can be larger than an int32
        exact = torch.int32 if self.rows * self.columns < 2**31 else torch.int64
        sums = self.values.cumsum(-1, dtype=exact).cumsum(-2, dtype=exact)
        return torch.nn.functional.pad(sums, (1, 0, 1, 0))

    def _on(self, device: torch.device) -> Tensor:
        return self.values if self.values.device == device else self.values.to(device)

    def __reduce__(self) -> tuple[Any, ...]:
        # without what is worked out from the values: it may be larger than they are
        return Table, (self.values,)

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits of the contents."""
        packed = np.packbits(self.values.cpu().numpy()).tobytes()
        return hashlib.sha256(repr(tuple(self.values.shape)).encode() + packed).hexdigest()[:16]

    @property
    def name(self) -> str:
        """Shape and digest: what stands for the contents in the source of a pattern."""
        return f"{'×'.join(map(str, self.values.shape))} {self.digest}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Table) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f'table("{self.name}")'
