"""One side of an attention: how many tokens it has, and what is known of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from maskwright.errors import AxisError


class Axis:
    """The queries or the keys of an attention.

    Every column is ``(length,)``, or ``(batch, length)`` where the samples of a batch differ. An
    axis never changes; whoever changes a tensor that it was given changes the result.

    Args:
        length: how many tokens.
        positions: integers, the order in time that `causal`, `window` and their like compare;
            counted from 0 unless given. Of packed documents, let them run on through the row
            (see `packed`): where they start anew in each document, `causal` alone would let a
            document see the beginning of a later one.
        segments: integers: tokens of one document, question, turn have the same.
        valid: Boolean, False at padding.
        channels: integers or Booleans under names of your own, for `same`, `marked` and your
            patterns.

    Raises:
        AxisError: a column has another shape, or values of another kind.

    >>> Axis(4, segments=[0, 0, 1, 1])
    Axis(4, segments=[0, 0, 1, 1])
    """

    __slots__ = ("_columns", "_ranks", "batch", "device", "length")

    batch: int | None
    device: torch.device
    length: int
    _ranks: tuple[Tensor, Tensor] | None

    def __init__(
        self,
        length: int,
        positions: Any = None,
        segments: Any = None,
        valid: Any = None,
        **channels: Any,
    ) -> None:
        if isinstance(length, bool) or not isinstance(length, int) or length < 0:
            raise AxisError(f"length={length!r} of an axis: it is a whole number, 0 or more.")
        given = {"positions": positions, "segments": segments, "valid": valid, **channels}
        columns = {
            name: _column(name, values, length)
            for name, values in given.items()
            if values is not None
        }
        sizes = {name: len(column) for name, column in columns.items() if column.ndim == 2}
        if len(set(sizes.values())) > 1:
            raise AxisError(f"The columns of one axis differ in batch: {sizes}.")
        devices = {column.device for column in columns.values()}
        if len(devices) > 1:
            raise AxisError(f"The columns of one axis are on several devices: {devices}.")
        set_ = object.__setattr__
        set_(self, "length", length)
        set_(self, "batch", next(iter(sizes.values()), None))
        set_(self, "device", next(iter(devices), torch.device("cpu")))
        set_(self, "_columns", MappingProxyType(columns))
        set_(self, "_ranks", None)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"An Axis never changes; make another one with that {name}.")

    def __reduce__(self) -> tuple[Any, ...]:
        return _axis, (self.length, dict(self._columns))

    @classmethod
    def packed(cls, lengths: Iterable[int], **columns: Any) -> Axis:
        """Documents of these lengths, one behind the other, numbered from 0.

        >>> Axis.packed([2, 1])
        Axis(3, segments=[0, 0, 1])
        """
        sizes = torch.as_tensor(list(lengths), dtype=torch.int64)
        segments = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
        return cls(len(segments), segments=segments, **columns)

    @classmethod
    def padded(cls, attention_mask: Tensor, **columns: Any) -> Axis:
        """From the ``(batch, length)`` mask of a tokenizer: 1 at tokens, 0 at padding."""
        return cls(attention_mask.shape[-1], valid=attention_mask.bool(), **columns)

    @property
    def columns(self) -> Mapping[str, Tensor]:
        """Every column that was given, by name."""
        return self._columns

    @property
    def plain(self) -> bool:
        """Whether nothing is known but the length."""
        return not self._columns

    @property
    def ranks(self) -> tuple[Tensor, Tensor]:
        """Which token of its sample each one is, from 0, and how many tokens each sample has.

        ``(length,)`` and ``()``, or ``(batch, length)`` and ``(batch,)``, int64. Padding does not
        count: it has the rank of the token before it, or 0.
        """
        if self._ranks is None:
            valid = self._columns.get("valid")
            if valid is None:
                valid = torch.ones(self.length, dtype=torch.bool, device=self.device)
            found = (valid.cumsum(-1) - 1).clamp(min=0), valid.sum(-1)
            object.__setattr__(self, "_ranks", found)
        assert self._ranks is not None
        return self._ranks

    def to(self, device: torch.device | str) -> Axis:
        """The same axis with its columns on another device."""
        return Axis(self.length, **{name: c.to(device) for name, c in self._columns.items()})

    @property
    def key(self) -> tuple:
        """What tells axes apart: length, and which tensors (by identity, not by value)."""
        return (self.length, *((name, id(column)) for name, column in self._columns.items()))

    def __repr__(self) -> str:
        shown = "".join(f", {name}={_brief(c)}" for name, c in self._columns.items())
        return f"Axis({self.length}{shown})"


def _axis(length: int, columns: dict[str, Tensor]) -> Axis:
    """What pickle calls."""
    return Axis(length, **columns)


def _column(name: str, values: Any, length: int) -> Tensor:
    column = torch.as_tensor(values)
    if isinstance(values, list | tuple) and not column.numel():
        # torch takes an empty list for floating-point numbers
        column = column.to(torch.bool if name == "valid" else torch.int64)
    if column.shape[-1:] != (length,) or column.ndim > 2:
        raise AxisError(
            f"{name} of an axis of length {length} has shape {tuple(column.shape)}; "
            f"it is ({length},) or (batch, {length})."
        )
    if name == "valid":
        if column.dtype != torch.bool:
            raise AxisError(
                f"valid of an axis is {column.dtype}; it is Boolean, True at tokens "
                "(of a tokenizer's attention_mask: Axis.padded(attention_mask))."
            )
        return column
    if column.is_floating_point() or column.is_complex():
        raise AxisError(f"{name} of an axis is {column.dtype}; it is of integers or Booleans.")
    if column.dtype == torch.bool:
        if name in ("positions", "segments"):
            raise AxisError(f"{name} of an axis is Boolean; it is of integers.")
        return column
    return column.to(torch.int64)


def _brief(column: Tensor) -> str:
    if column.numel() <= 16:
        return str(column.tolist())
    return f"<{'×'.join(map(str, column.shape))}>"
