"""Ragged: a batch of sequences as flat values and offsets, with no padding.

Row ``i`` is ``values[offsets[i] : offsets[i + 1]]``. This is Arrow's list layout and the
``cu_seqlens`` of packed attention, so going to and from Arrow copies no value, and padding
exists only where somebody asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from maskwright.errors import BatchError, MissingExtra

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

Side = Literal["left", "right"]


@dataclass(frozen=True, eq=False)
class Ragged:
    """A batch of ``B`` sequences with ``N`` values in all.

    Args:
        values: ``(N,)``, any dtype.
        offsets: ``(B + 1,)`` int64, from 0 to ``N``, never falling.

    Raises:
        BatchError: the offsets are not such a sequence.

    >>> ragged = Ragged.from_lists([[5, 6, 7], [], [8]])
    >>> ragged.lengths.tolist(), ragged.to_lists()
    ([3, 0, 1], [[5, 6, 7], [], [8]])
    """

    values: np.ndarray
    offsets: np.ndarray

    def __post_init__(self) -> None:
        if self.values.ndim != 1:
            raise BatchError(f"Ragged values must have one axis, got shape {self.values.shape}.")
        offsets = self.offsets
        if offsets.ndim != 1 or len(offsets) == 0:
            raise BatchError(
                f"Ragged offsets must have shape (B + 1,), got {offsets.shape}: "
                "an empty batch has the one offset 0."
            )
        if offsets.dtype != np.int64:
            object.__setattr__(self, "offsets", offsets.astype(np.int64))
        if offsets[0] != 0 or offsets[-1] != len(self.values) or (np.diff(offsets) < 0).any():
            raise BatchError(
                f"Ragged offsets must rise from 0 to {len(self.values)} (the number of values), "
                f"got {offsets[0]} … {offsets[-1]}."
            )

    # -- as a sequence of rows ------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        """Row ``row`` as a view, ``(lengths[row],)``."""
        if not -len(self) <= row < len(self):
            raise IndexError(f"row {row} of a Ragged with {len(self)} rows")
        row %= len(self)
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[row] for row in range(len(self)))

    def __eq__(self, other: object) -> bool:
        """Equal rows with equal values; the dtypes of the values may differ."""
        if not isinstance(other, Ragged):
            return NotImplemented
        return np.array_equal(self.offsets, other.offsets) and np.array_equal(
            self.values, other.values
        )

    __hash__ = None  # type: ignore[assignment]  # holds arrays

    def __repr__(self) -> str:
        return f"Ragged({len(self)} rows, {len(self.values)} values of {self.values.dtype})"

    @cached_property
    def lengths(self) -> np.ndarray:
        """``(B,)`` int64."""
        return np.diff(self.offsets)

    @property
    def rows(self) -> np.ndarray:
        """The row of each value, ``(N,)`` int64."""
        return np.repeat(np.arange(len(self)), self.lengths)

    @property
    def positions(self) -> np.ndarray:
        """The position of each value in its row, ``(N,)`` int64."""
        return np.arange(len(self.values)) - np.repeat(self.offsets[:-1], self.lengths)

    def like(self, values: np.ndarray) -> Ragged:
        """The same rows with other values, ``(N,)``."""
        return Ragged(values, self.offsets)

    def take(self, rows: Sequence[int] | np.ndarray) -> Ragged:
        """The given rows in the given order, copied."""
        rows = np.asarray(rows, dtype=np.int64)
        if len(rows) and (rows.min() < 0 or rows.max() >= len(self)):
            raise BatchError(
                f"Ragged.take: row {rows.max() if rows.max() >= len(self) else rows.min()} "
                f"is outside 0 … {len(self) - 1}."
            )
        lengths = self.lengths[rows]
        offsets = offsets_of(lengths)
        source = np.repeat(self.offsets[rows] - offsets[:-1], lengths) + np.arange(offsets[-1])
        return Ragged(self.values[source], offsets)

    # -- lists ----------------------------------------------------------------------------

    @classmethod
    def from_lists(cls, rows: Sequence[Any], dtype: Any = np.int64) -> Ragged:
        """From a list of lists, arrays or 1-D tensors."""
        arrays = [np.asarray(row, dtype=dtype) for row in rows]
        for number, array in enumerate(arrays):
            if array.ndim != 1:
                raise BatchError(
                    f"Ragged.from_lists: row {number} has shape {array.shape}; "
                    "each row must have one axis."
                )
        offsets = offsets_of(np.fromiter(map(len, arrays), np.int64, len(arrays)))
        return cls(np.concatenate(arrays) if arrays else np.empty(0, dtype), offsets)

    def to_lists(self) -> list[list[Any]]:
        return [row.tolist() for row in self]

    # -- Arrow ----------------------------------------------------------------------------

    @classmethod
    def from_arrow(cls, array: pa.Array) -> Ragged:
        """From an Arrow ``list`` or ``large_list`` array without nulls.

        The values are never copied. The offsets are not copied either when they are 64-bit
        (``large_list``); those of a ``list`` are widened, 8 bytes a row.
        """
        # a list view has offsets too, but of another meaning: it keeps sizes beside them
        listlike = hasattr(array, "offsets") and not hasattr(array, "sizes")
        if not listlike or array.null_count or array.values.null_count:
            raise BatchError(
                f"Ragged.from_arrow takes a list or large_list array without nulls, got "
                f"{array.type} with {array.null_count} nulls. Drop the nulls first."
            )
        offsets = array.offsets.to_numpy(zero_copy_only=True)
        values = array.values.to_numpy(zero_copy_only=True)
        # a slice of an Arrow array keeps the whole buffer and starts its offsets elsewhere
        values = values[offsets[0] : offsets[-1]]
        if offsets[0] != 0:
            offsets = offsets - offsets[0]
        return cls(values, offsets)

    def to_arrow(self) -> pa.LargeListArray:
        """An Arrow ``large_list`` array over the same memory."""
        try:
            import pyarrow as pa
        except ImportError:
            raise MissingExtra("pyarrow", "hf") from None
        return pa.LargeListArray.from_arrays(pa.array(self.offsets), pa.array(self.values))

    # -- padded ---------------------------------------------------------------------------

    @classmethod
    def from_padded(cls, padded: torch.Tensor | np.ndarray, mask: Any) -> Ragged:
        """The values where ``mask`` is nonzero, row by row.

        Args:
            padded: ``(B, S)``.
            mask: ``(B, S)``; an attention mask, of left or right padding or with holes.
        """
        padded, mask = np.asarray(padded), np.asarray(mask).astype(bool)
        if padded.ndim != 2 or mask.shape != padded.shape:
            raise BatchError(
                "Ragged.from_padded takes two arrays of one shape (B, S), got "
                f"{padded.shape} and {mask.shape}."
            )
        return cls(padded[mask], offsets_of(mask.sum(axis=1)))

    def to_padded(
        self, fill: Any, *, side: Side = "right", length: int | None = None
    ) -> torch.Tensor:
        """A ``(B, length)`` tensor, padded with ``fill`` on ``side``.

        ``length`` is the longest row unless given; a row longer than it is a `BatchError`
        (nothing is truncated in silence).
        """
        import torch

        lengths = self.lengths
        longest = int(lengths.max(initial=0))
        length = longest if length is None else length
        if longest > length:
            raise BatchError(
                f"Ragged.to_padded: row {int(lengths.argmax())} has {longest} values, more than "
                f"length={length}. Truncate the samples when they are tokenised."
            )
        out = np.full((len(self), length), fill, dtype=self.values.dtype)
        columns = self.positions
        if side == "left":
            columns = columns + np.repeat(length - lengths, lengths)
        out[self.rows, columns] = self.values
        return torch.from_numpy(out)


def offsets_of(lengths: np.ndarray) -> np.ndarray:
    """``(B,)`` lengths → ``(B + 1,)`` int64 offsets."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets
