"""Rules about what the tokens are: padding, documents, and columns of your own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch

from maskwright.attention.coordinates import Coordinates
from maskwright.attention.pattern import Named, Pattern
from maskwright.errors import AxisError, PatternError

Side = Literal["kv", "q", "both"]


def check_side(rule: str, side: str) -> None:
    """Raises `PatternError` for a word that is not a side of an attention."""
    if side not in ("kv", "q", "both"):
        raise PatternError(f'side={side!r} of {rule}: it is "kv", "q" or "both".')


def check_name(rule: str, channel: object) -> None:
    """Raises `PatternError` where the name of a channel is not a word."""
    if not isinstance(channel, str) or not channel:
        raise PatternError(f"channel={channel!r} of {rule}: it is the name of a column, a string.")


def truth(rule: Pattern, side: Coordinates, channel: str) -> Any:
    """A Boolean column of an axis.

    Raises:
        AxisError: the axis has no such column, or it holds integers.
    """
    if _boolean(side, channel) is False:
        raise AxisError(
            f"`{rule}` reads {channel} of the {side.name} axis as true or false, but it holds "
            f"integers. Give Booleans: Axis(length, {channel}=values == ...)."
        )
    return side.channel(channel)


def number(rule: Pattern, side: Coordinates, channel: str) -> Any:
    """A column of integers of an axis.

    Raises:
        AxisError: the axis has no such column, or it holds Booleans.
    """
    if _boolean(side, channel):
        raise AxisError(
            f"`{rule}` reads {channel} of the {side.name} axis as integers, but it holds Booleans. "
            f"Give integers: Axis(length, {channel}=values.long())."
        )
    return side.channel(channel)


def _boolean(side: Coordinates, channel: str) -> bool | None:
    column = side.axis.columns.get(channel)
    return None if column is None else column.dtype == torch.bool


@dataclass(frozen=True, repr=False)
class Padding(Named):
    """Keys that are tokens: ``kv.valid``. Queries at padding attend like any other.

    Args:
        side: ``kv`` (the default) keeps everyone from attending to padding; ``both`` also keeps
            padding from attending, so that its rows are empty and its outputs zero; ``q`` does
            only that.
    """

    side: Side = "kv"
    spelled: ClassVar[str] = "padding"

    def __post_init__(self) -> None:
        check_side(self.spelled, self.side)

    def allowed(self, q: Coordinates, kv: Coordinates) -> Any:
        if self.side == "both":
            return q.valid & kv.valid
        return kv.valid if self.side == "kv" else q.valid


@dataclass(frozen=True, repr=False)
class Documents(Named):
    """Query and key of one segment: packed documents do not see one another."""

    spelled: ClassVar[str] = "documents"

    def allowed(self, q: Coordinates, kv: Coordinates) -> Any:
        return q.segment == kv.segment


padding = Padding()
documents = Documents()


@dataclass(frozen=True, repr=False)
class Same(Pattern):
    """Query and key alike in a channel; of `same`."""

    channel: str
    spelled: ClassVar[str] = "same"

    def __post_init__(self) -> None:
        check_name(self.spelled, self.channel)

    def allowed(self, q: Coordinates, kv: Coordinates) -> Any:
        if _boolean(q, self.channel) is True or _boolean(kv, self.channel) is True:
            query, key = truth(self, q, self.channel), truth(self, kv, self.channel)
            return (query & key) | (~query & ~key)
        return q.channel(self.channel) == kv.channel(self.channel)


def same(channel: str) -> Pattern:
    """Query and key with the same value in a column of their axes.

    ``same("segments")`` is ``documents``.

    Args:
        channel: name of a column that both axes have, of integers or of Booleans.

    Raises:
        PatternError: that is no name.
        AxisError: (where the pattern meets axes) one lacks the column, or only one is Boolean.

    >>> print(same("speaker"))
    same("speaker")
    """
    return Same(channel)


@dataclass(frozen=True, repr=False)
class Marked(Pattern):
    """Tokens that a channel marks; of `marked`."""

    channel: str
    side: Side = "kv"
    spelled: ClassVar[str] = "marked"

    def __post_init__(self) -> None:
        check_name(self.spelled, self.channel)
        check_side(self.spelled, self.side)

    def allowed(self, q: Coordinates, kv: Coordinates) -> Any:
        if self.side == "both":
            return truth(self, q, self.channel) & truth(self, kv, self.channel)
        return truth(self, kv if self.side == "kv" else q, self.channel)


def marked(channel: str, side: Side = "kv") -> Pattern:
    """Keys that are True in a column of their axis; or queries, or both.

    Args:
        channel: name of a Boolean column.
        side: whose column: the keys' (``kv``), the queries' (``q``); ``both`` must be True.

    Raises:
        PatternError: that is no name, or no side.
        AxisError: (where the pattern meets axes) the column is missing, or holds integers.

    >>> print(marked("evidence"), marked("summary", side="q"))
    marked("evidence") marked("summary", "q")
    """
    return Marked(channel, side)
