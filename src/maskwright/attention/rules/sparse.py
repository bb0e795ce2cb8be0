"""Rules with gaps: dilated windows, strides, and the summaries of the Sparse Transformer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from maskwright.attention.coordinates import Coordinates
from maskwright.attention.pattern import Pattern
from maskwright.attention.rules.relative import (
    Alignment,
    ahead,
    check_alignment,
    check_count,
    places,
)


@dataclass(frozen=True, repr=False)
class Dilated(Pattern):
    """A window with gaps; of `dilated`."""

    width: int
    dilation: int
    align: Alignment = "bottom-right"
    spelled: ClassVar[str] = "dilated"

    def __post_init__(self) -> None:
        check_count(self.spelled, "width", self.width)
        check_count(self.spelled, "dilation", self.dilation, 1)
        check_alignment(self.spelled, self.align)

    def allowed(self, q: Coordinates, kv: Coordinates) -> Any:
        distance = ahead(q, kv, self.align)
        return (abs(distance) <= self.width * self.dilation) & (distance % self.dilation == 0)


def dilated(width: int, dilation: int, align: Alignment = "bottom-right") -> Pattern:
    """Every ``dilation``-th key, ``width`` of them on each side, and the query's own position.

    The window reaches ``width * dilation`` positions to each side, the last one included;
    ``dilated(w, 1)`` is ``window(w)``. One side only: ``causal & dilated(width, dilation)``.

    Args:
        width: keys on each side, 0 or more.
        dilation: positions from one key to the next, 1 or more.
        align: as of `Causal`.

    Raises:
        PatternError: a width or a dilation below its least, or another alignment.

    Source: Beltagy, Peters, Cohan, "Longformer", 2020, arXiv:2004.05150, section 3.1.

    >>> print(dilated(128, 2))
    dilated(128, 2)
    """
    return Dilated(width, dilation, align)


@dataclass(frozen=True, repr=False)
class Strided(Pattern):
    """Keys a whole number of strides away; of `strided`."""

    stride: int
    align: Alignment = "bottom-right"
    spelled: ClassVar[str] = "strided"

    def __post_init__(self) -> None:
        check_count(self.spelled, "stride", self.stride, 1)
        check_alignment(self.spelled, self.align)

    def allowed(self, q: Coordinates, kv: Coordinates) -> Any:
        return ahead(q, kv, self.align) % self.stride == 0


def strided(stride: int, align: Alignment = "bottom-right") -> Pattern:
    """Keys whose distance to the query is a multiple of ``stride``, before and behind it.

    The query's own position (distance 0) is one. The strided attention of the Sparse Transformer
    is ``causal & (window(stride, 0) | strided(stride))``. Blocks of ``stride`` tokens and more
    all have work in them: this rule saves pairs, but no blocks.

    Args:
        stride: positions, 1 or more.
        align: as of `Causal`.

    Raises:
        PatternError: a stride below 1, or another alignment.

    Source: Child et al., "Generating Long Sequences with Sparse Transformers", 2019,
    arXiv:1904.10509, section 4.2.

    >>> print(strided(128))
    strided(128)
    """
    return Strided(stride, align)


@dataclass(frozen=True, repr=False)
class Summaries(Pattern):
    """The last keys of every stretch; of `summaries`."""

    stride: int
    count: int = 1
    spelled: ClassVar[str] = "summaries"

    def __post_init__(self) -> None:
        check_count(self.spelled, "stride", self.stride, 1)
        check_count(self.spelled, "count", self.count)

    def allowed(self, q: Coordinates, kv: Coordinates) -> Any:
        _, key = places(q, kv, "bottom-right")
        return key % self.stride >= self.stride - self.count


def summaries(stride: int, count: int = 1) -> Pattern:
    """The last ``count`` keys of every ``stride`` keys, from wherever one looks.

    Stretches are counted from position 0 of the keys, so the queries' alignment plays no part.
    The fixed attention of the Sparse Transformer is
    ``causal & (chunked(stride) | summaries(stride, count))``.

    Args:
        stride: keys of a stretch, 1 or more.
        count: how many of them everyone sees, 0 or more; from ``stride`` on, all.

    Raises:
        PatternError: a stride below 1, or a negative count.

    Source: as of `strided`.

    >>> print(summaries(128, 8))
    summaries(128, 8)
    """
    return Summaries(stride, count)
