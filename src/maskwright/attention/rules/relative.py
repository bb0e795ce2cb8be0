"""Rules about how far apart query and key are, with the alignment of axes of unequal length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from maskwright.attention.coordinates import Coordinates
from maskwright.attention.pattern import Named, Pattern
from maskwright.errors import PatternError

Alignment = Literal["bottom-right", "upper-left"]


def places(q: Coordinates, kv: Coordinates, align: Alignment) -> tuple[Any, Any]:
    """Where queries and keys stand on one line of positions.

    Positions that an axis was given are taken as they are. Where neither axis has any, keys count
    from 0, and so do queries with ``upper-left``; with ``bottom-right`` the last query stands at
    the last key, as where queries continue a cache of keys.
    """
    if align == "bottom-right" and not placed(q, kv):
        return q.index + (kv.length - q.length), kv.index
    return q.position, kv.position


def ahead(q: Coordinates, kv: Coordinates, align: Alignment) -> Any:
    """How far the key is ahead of the query, in positions; negative behind it."""
    query, key = places(q, kv, align)
    return key - query


def placed(q: Coordinates, kv: Coordinates) -> bool:
    """Whether an axis was given positions."""
    return "positions" in q.axis.columns or "positions" in kv.axis.columns


def check_alignment(rule: str, align: str) -> None:
    """Raises `PatternError` for a word that is not an alignment."""
    if align not in ("bottom-right", "upper-left"):
        raise PatternError(f'align={align!r} of {rule}: it is "bottom-right" or "upper-left".')


def check_count(rule: str, name: str, value: object, least: int = 0) -> None:
    """Raises `PatternError` where a setting is not a whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise PatternError(f"{name}={value!r} of {rule}: it is a whole number, {least} or more.")


@dataclass(frozen=True, repr=False)
class Causal(Named):
    """A query may attend to keys at its own position and before.

    Args:
        align: where queries and keys differ in number and have no positions: ``bottom-right``
            (the default) puts the last query at the last key, as generation with a cache and
            FlashAttention do; ``upper-left`` puts the first query at the first key, as
            ``scaled_dot_product_attention(is_causal=True)`` does.
    """

    align: Alignment = "bottom-right"
    spelled: ClassVar[str] = "causal"

    def __post_init__(self) -> None:
        check_alignment(self.spelled, self.align)

    def allowed(self, q: Coordinates, kv: Coordinates) -> Any:
        return ahead(q, kv, self.align) <= 0


causal = Causal()


@dataclass(frozen=True, repr=False)
class Window(Pattern):
    """A query may attend to keys near it; of `window`."""

    left: int
    right: int
    align: Alignment = "bottom-right"
    spelled: ClassVar[str] = "window"

    def __post_init__(self) -> None:
        check_count(self.spelled, "left", self.left)
        check_count(self.spelled, "right", self.right)
        check_alignment(self.spelled, self.align)

    def allowed(self, q: Coordinates, kv: Coordinates) -> Any:
        distance = ahead(q, kv, self.align)
        return (distance >= -self.left) & (distance <= self.right)

    def _source(self) -> str:
        if self.left != self.right or self.align != "bottom-right":
            return super()._source()
        return f"{self.spelled}({self.left})"


def window(left: int, right: int | None = None, align: Alignment = "bottom-right") -> Pattern:
    """Keys from ``left`` positions before the query to ``right`` behind it, both included.

    A window of 0 is the query's own position. Where a model's configuration counts the query
    itself (``sliding_window=W`` of Mistral and Gemma sees ``W`` keys), that is
    ``window(W - 1, 0)``.

    Args:
        left: positions before the query, 0 or more.
        right: positions behind it; as many as ``left`` unless given.
        align: as of `Causal`.

    Raises:
        PatternError: a negative width, or another alignment.

    >>> print(window(256), window(255, 0))
    window(256) window(255, 0)
    """
    return Window(left, left if right is None else right, align)
