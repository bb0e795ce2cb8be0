"""Arithmetic on what is known of a block: a range of integers, and what may and what must hold.

An `Interval` stands for every integer of a block at once, a `Certainty` for every answer. They
have the operators of tensors, so that a rule written once, on coordinates, also says what it
does to whole blocks. Everything here is conservative: an answer that may occur is never left
out, and what must hold does hold; a rule that names the same coordinate twice may get a wider
answer than is true.

Source: Moore, "Interval Analysis", 1966.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Certainty:
    """Truth over a block: ``may``, for some of it perhaps; ``must``, for all of it surely.

    Both are Boolean tensors of one shape, or of shapes that broadcast; ``must`` implies ``may``.
    """

    may: Tensor
    must: Tensor

    def __and__(self, other: Certainty) -> Certainty:
        return Certainty(self.may & other.may, self.must & other.must)

    def __or__(self, other: Certainty) -> Certainty:
        return Certainty(self.may | other.may, self.must | other.must)

    def __invert__(self) -> Certainty:
        return Certainty(~self.must, ~self.may)


@dataclass(frozen=True, eq=False)
class Interval:
    """The integers ``low`` to ``high``, both included; int64 tensors of one shape."""

    low: Tensor
    high: Tensor

    def __neg__(self) -> Interval:
        return Interval(-self.high, -self.low)

    def __add__(self, other: Interval | int) -> Interval:
        if isinstance(other, Interval):
            return Interval(self.low + other.low, self.high + other.high)
        return Interval(self.low + other, self.high + other)

    __radd__ = __add__

    def __sub__(self, other: Interval | int) -> Interval:
        return self + -other

    def __rsub__(self, other: int) -> Interval:
        return -self + other

    def __mul__(self, factor: int | Tensor) -> Interval:
        """By a whole number, or by a tensor of them of which none is negative."""
        if not isinstance(factor, Tensor) and factor < 0:
            return -self * -factor
        return Interval(self.low * factor, self.high * factor)

    __rmul__ = __mul__

    def __floordiv__(self, divisor: int | Tensor) -> Interval:
        """By a whole number above 0, or by a tensor of them."""
        return Interval(self.low // divisor, self.high // divisor)

    def __mod__(self, divisor: int) -> Interval:
        one_turn = self.low // divisor == self.high // divisor
        return Interval(
            torch.where(one_turn, self.low % divisor, 0),
            torch.where(one_turn, self.high % divisor, divisor - 1),
        )

    def __abs__(self) -> Interval:
        inside = (self.low <= 0) & (self.high >= 0)
        ends = self.low.abs(), self.high.abs()
        return Interval(torch.where(inside, 0, torch.minimum(*ends)), torch.maximum(*ends))

    def __le__(self, other: Interval | int) -> Certainty:
        low, high = _ends(other)
        return Certainty(self.low <= high, self.high <= low)

    def __lt__(self, other: Interval | int) -> Certainty:
        low, high = _ends(other)
        return Certainty(self.low < high, self.high < low)

    def __ge__(self, other: Interval | int) -> Certainty:
        return ~(self < other)

    def __gt__(self, other: Interval | int) -> Certainty:
        return ~(self <= other)

    def __eq__(self, other: Interval | int) -> Certainty:  # type: ignore[override]
        low, high = _ends(other)
        meet = (self.low <= high) & (low <= self.high)
        return Certainty(meet, meet & (self.low == self.high) & (low == high))

    def __ne__(self, other: Interval | int) -> Certainty:  # type: ignore[override]
        return ~(self == other)


def _ends(value: Interval | int) -> tuple[Tensor | int, Tensor | int]:
    return (value.low, value.high) if isinstance(value, Interval) else (value, value)
