"""What a pattern is on given axes: normalised, then recognised.

Nothing here looks at pairs. A term that holds everywhere, or nowhere, shows itself on one block
as large as the attention (see `interval`); documents and padding show themselves in the columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from maskwright.attention import coordinates
from maskwright.attention.axis import Axis
from maskwright.attention.interval import Interval
from maskwright.attention.pattern import And, Pattern, extent, full, nothing
from maskwright.attention.rules.relative import Causal, Window, ahead
from maskwright.attention.rules.tokens import Documents, Marked, Padding, Same


@dataclass(frozen=True)
class Recognised:
    """A pattern on its axes, as terms that must all hold.

    Attributes:
        pattern: equal to the one that was asked for on these axes, and simpler where it can be.
        alike: columns in which query and key must be the same, as in `documents`.
        q_marks, kv_marks: columns that must be True at the query, at the key, as in `padding`.
        flag: whether all other terms together are what kernels call causal: key index at most
            query index, both counted from 0.
        rest: all other terms.
    """

    pattern: Pattern
    alike: tuple[str, ...]
    q_marks: tuple[str, ...]
    kv_marks: tuple[str, ...]
    flag: bool
    rest: tuple[Pattern, ...]

    @property
    def everything(self) -> bool:
        """Whether every query may attend to every key."""
        return self.pattern == full

    @property
    def nothing(self) -> bool:
        """Whether no query may attend to any key."""
        return self.pattern == nothing

    @property
    def parted(self) -> bool:
        """Whether columns say that some stretches of tokens do not see others."""
        return bool(self.alike or self.q_marks or self.kv_marks)

    @property
    def causal(self) -> bool:
        """Whether this is the causal mask of the kernels and nothing else."""
        return self.flag and not self.parted

    @property
    def keys_only(self) -> bool:
        """Whether the mask is the same for every query."""
        return bool(self.kv_marks) and not (self.alike or self.q_marks or self.rest)


def recognise(pattern: Pattern, q: Axis, kv: Axis) -> Recognised:
    """The pattern in its simplest terms on these axes.

    Raises:
        AxisError: the axes lack a column that the pattern needs, or do not fit each other.
    """
    pattern = normalise(pattern, q, kv)
    alike: list[str] = []
    marks: dict[str, list[str]] = {"q": [], "kv": []}
    rest: list[Pattern] = []
    for term in terms(pattern):
        if isinstance(term, Documents | Same):
            alike.append(term.channel if isinstance(term, Same) else "segments")
        elif isinstance(term, Padding | Marked):
            channel = term.channel if isinstance(term, Marked) else "valid"
            for side, axis in (("q", q), ("kv", kv)):
                if term.side in (side, "both") and channel in axis.columns:
                    marks[side].append(channel)
        elif term != full:
            rest.append(term)
    return Recognised(
        pattern=pattern,
        alike=tuple(alike),
        q_marks=tuple(marks["q"]),
        kv_marks=tuple(marks["kv"]),
        flag=bool(rest) and all(_is_flag(term, q, kv) for term in rest),
        rest=tuple(rest),
    )


def terms(pattern: Pattern) -> tuple[Pattern, ...]:
    """What must all hold."""
    return pattern.terms if isinstance(pattern, And) else (pattern,)


def normalise(pattern: Pattern, q: Axis, kv: Axis) -> Pattern:
    """The same mask in fewer terms.

    A term that holds for every pair of these axes goes; one that holds for none makes all of it
    `nothing`; a window whose ends are out of reach is `causal`, or `full`. Without queries or
    keys, there is nothing.

    Raises:
        AxisError: as `recognise`.
    """
    extent(pattern, q, kv)
    if not (q.length and kv.length):
        return nothing
    result = full
    for term in terms(pattern):
        kept = _simplify(term, q, kv)
        if kept == nothing:
            return nothing
        result = result & kept
    return result


def _simplify(term: Pattern, q: Axis, kv: Axis) -> Pattern:
    if term in (full, nothing):
        return term
    if isinstance(term, Window):
        return _reach(term, q, kv)
    states = term.blocks(q, kv, (q.length, kv.length)).states
    low, high = (int(end) for end in states.aminmax())
    return full if low == 2 else nothing if high == 0 else term


def _reach(term: Window, q: Axis, kv: Axis) -> Pattern:
    """A window without the ends that no pair can reach."""
    batch, heads, *_ = extent(term, q, kv)
    sides = coordinates.blocks(q, kv, (q.length, kv.length), heads, batch)
    distance: Interval = ahead(*sides, term.align)
    low, high = int(distance.low.min()), int(distance.high.max())
    if low > term.right or high < -term.left:
        return nothing
    behind, before = low >= -term.left, high <= term.right
    if behind and before:
        return full
    return Causal(term.align) if behind and term.right == 0 else term


def _is_flag(term: Pattern, q: Axis, kv: Axis) -> bool:
    """Whether a term is the causal mask that kernels have: from the upper left, by index."""
    if not isinstance(term, Causal):
        return False
    positions = (q.columns.get("positions"), kv.columns.get("positions"))
    if positions == (None, None):
        return term.align == "upper-left" or q.length == kv.length
    if q.length != kv.length:
        return False
    return all(_consecutive(column) for column in positions) and _equal(*positions)


def _consecutive(column: Any) -> bool:
    return column is not None and bool((column[..., 1:] - column[..., :-1] == 1).all())


def _equal(left: Any, right: Any) -> bool:
    return left is right or (left.device == right.device and bool(torch.eq(left, right).all()))
