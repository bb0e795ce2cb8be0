"""Who may attend to whom, as a value: rules, and their algebra.

A pattern is a tree of frozen values over two axes. It knows nothing of lengths; those come with
the axes, so that one pattern serves every batch, training and generation. True means may attend.

>>> from maskwright.attention import causal, documents, window
>>> pattern = causal & (window(2) | ~documents)
>>> print(pattern)
causal & (window(2) | ~documents)
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from maskwright.attention import coordinates
from maskwright.attention.axis import Axis
from maskwright.attention.blocks import BlockMap, as_size, block_map
from maskwright.attention.coordinates import Coordinates
from maskwright.attention.table import Table
from maskwright.errors import AxisError, PatternError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.nn.attention.flex_attention import BlockMask

# Rows of queries that are worked out at once: integers of one block of rows stay in the cache.
_ROWS = 256


class Pattern(ABC):
    """A rule of who may attend to whom. Patterns combine: ``a & b``, ``a | b``, ``~a``."""

    spelled: ClassVar[str]
    """The name of the rule in source."""

    @abstractmethod
    def allowed(self, q: Coordinates, kv: Coordinates) -> Any:
        """The rule, in integer arithmetic and comparisons on coordinates.

        What comes in decides what comes out: a Boolean tensor for tensors, a `Certainty` for
        blocks. So only ``+ - * // % abs``, comparisons, ``& | ~`` and `Table.at` are used, and
        factors and divisors are plain integers.
        """

    @property
    def sizes(self) -> tuple[int | None, int | None]:
        """For how many samples and heads this rule has data of its own; None: for any."""
        for one in fields(self):  # type: ignore[arg-type]  # every pattern is a dataclass
            value = getattr(self, one.name)
            if isinstance(value, Table):
                return value.batch, value.heads
        return None, None

    def check(self, q: Axis, kv: Axis) -> None:  # noqa: B027 (most rules fit any axes)
        """Raises `AxisError` where these axes do not fit the data of this rule.

        Called before the rule itself, on every rule of an expression.
        """

    def bound(self, q: Axis, kv: Axis) -> Pattern:
        """The same rule for these axes only, with what it works out from them worked out.

        A kernel that traces `allowed` must not find more than arithmetic there.
        """
        return self

    # ------------------------------------------------------------------ algebra

    def __and__(self, other: Pattern) -> Pattern:
        return _combine(And, self, other)

    def __or__(self, other: Pattern) -> Pattern:
        return _combine(Or, self, other)

    def __invert__(self) -> Pattern:
        return self.pattern if isinstance(self, Not) else Not(self)

    def __bool__(self) -> bool:
        raise PatternError(
            f"The pattern `{self}` is not true or false by itself: `and`, `or`, `not` and `if` do "
            "not combine patterns. Write & for and, | for or, ~ for not (and mind parentheses: "
            "& binds tighter than |)."
        )

    # ------------------------------------------------------------------- values

    def dense(self, q: Axis, kv: Axis | None = None) -> Tensor:
        """The mask itself: ``(batch or 1, heads or 1, q, kv)`` Boolean, True = may attend.

        Args:
            q: the queries.
            kv: the keys; in self-attention, leave it out.

        Raises:
            AxisError: the axes lack a column that the pattern needs, or differ in batch.
        """
        kv = q if kv is None else kv
        shape = extent(self, q, kv)
        out = torch.empty(shape, dtype=torch.bool, device=coordinates.common_device(q, kv))
        for start in range(0, q.length, _ROWS):
            rows = slice(start, min(start + _ROWS, q.length))
            out[:, :, rows] = part(self, q, kv, rows, slice(0, kv.length))
        return out

    def blocks(
        self, q: Axis, kv: Axis | None = None, size: int | tuple[int, int] = 128
    ) -> BlockMap:
        """Which blocks have work in them, by interval arithmetic: never an array of all pairs.

        Args:
            q, kv: as in `dense`.
            size: tokens of a block, on both axes or on each.

        Raises:
            AxisError: as `dense`.
            PatternError: the size is not one.
        """
        kv = q if kv is None else kv
        sizes = as_size(size)
        batch, heads, *lengths = extent(self, q, kv)
        counts = [-(-length // one) for length, one in zip(lengths, sizes, strict=True)]
        certainty = self.allowed(*coordinates.blocks(q, kv, sizes, heads, batch))
        return block_map(certainty, (batch, heads, *counts), q.length, kv.length, sizes)

    def mask_mod(self, q: Axis, kv: Axis | None = None) -> Callable[..., Tensor]:
        """The pattern as FlexAttention's ``mask_mod(batch, head, q_index, kv_index)``."""
        from maskwright.attention import flex

        return flex.mask_mod(self, q, q if kv is None else kv)

    def block_mask(
        self, q: Axis, kv: Axis | None = None, size: int | tuple[int, int] = 128
    ) -> BlockMask:
        """The pattern as FlexAttention's ``BlockMask``, from the same block map as `blocks`."""
        from maskwright.attention import flex

        return flex.block_mask(self, q, q if kv is None else kv, as_size(size))

    # ------------------------------------------------------------------- source

    def __str__(self) -> str:
        return self._source()

    def __repr__(self) -> str:
        return self._source()

    def _source(self) -> str:
        shown = []
        positional = True
        for one in fields(self):  # type: ignore[arg-type]  # every pattern is a dataclass
            value = getattr(self, one.name)
            if one.default is not MISSING and value == one.default:
                positional = False
                continue
            text = _literal(value)
            shown.append(text if positional else f"{one.name}={text}")
        return f"{self.spelled}({', '.join(shown)})" if shown else self._bare()

    def _bare(self) -> str:
        return f"{self.spelled}()"


class Named(Pattern):
    """A rule that is a value under its own name, and takes its options by a call.

    ``causal`` is the rule; ``causal("upper-left")`` is the rule with another option.
    """

    def __call__(self, *args: Any, **options: Any) -> Pattern:
        return type(self)(*args, **options)

    def _bare(self) -> str:
        return self.spelled


@dataclass(frozen=True, repr=False)
class Full(Named):
    """Everyone may attend to everyone."""

    spelled: ClassVar[str] = "full"

    def allowed(self, q: Coordinates, kv: Coordinates) -> Any:
        return (q.index >= 0) & (kv.index >= 0)


@dataclass(frozen=True, repr=False)
class Nothing(Named):
    """No one may attend to anyone: every row is empty, every output zero."""

    spelled: ClassVar[str] = "nothing"

    def allowed(self, q: Coordinates, kv: Coordinates) -> Any:
        return (q.index < 0) & (kv.index < 0)


full = Full()
nothing = Nothing()


@dataclass(frozen=True, repr=False)
class And(Pattern):
    """Pairs that every term allows."""

    terms: tuple[Pattern, ...]
    spelled: ClassVar[str] = "&"

    def allowed(self, q: Coordinates, kv: Coordinates) -> Any:
        result = self.terms[0].allowed(q, kv)
        for term in self.terms[1:]:
            result = result & term.allowed(q, kv)
        return result

    def bound(self, q: Axis, kv: Axis) -> Pattern:
        return And(tuple(term.bound(q, kv) for term in self.terms))

    def _source(self) -> str:
        return " & ".join(f"({t})" if isinstance(t, Or) else str(t) for t in self.terms)


@dataclass(frozen=True, repr=False)
class Or(Pattern):
    """Pairs that some term allows."""

    terms: tuple[Pattern, ...]
    spelled: ClassVar[str] = "|"

    def allowed(self, q: Coordinates, kv: Coordinates) -> Any:
        result = self.terms[0].allowed(q, kv)
        for term in self.terms[1:]:
            result = result | term.allowed(q, kv)
        return result

    def bound(self, q: Axis, kv: Axis) -> Pattern:
        return Or(tuple(term.bound(q, kv) for term in self.terms))

    def _source(self) -> str:
        return " | ".join(str(term) for term in self.terms)


@dataclass(frozen=True, repr=False)
class Not(Pattern):
    """Pairs that the pattern does not allow."""

    pattern: Pattern
    spelled: ClassVar[str] = "~"

    def allowed(self, q: Coordinates, kv: Coordinates) -> Any:
        return ~self.pattern.allowed(q, kv)

    def bound(self, q: Axis, kv: Axis) -> Pattern:
        return Not(self.pattern.bound(q, kv))

    def _source(self) -> str:
        return f"~({self.pattern})" if isinstance(self.pattern, And | Or) else f"~{self.pattern}"


@dataclass(frozen=True, repr=False)
class PerHead(Pattern):
    """A pattern for each head; of `per_head`."""

    patterns: tuple[Pattern, ...]
    spelled: ClassVar[str] = "per_head"

    @property
    def sizes(self) -> tuple[int | None, int | None]:
        return None, len(self.patterns)

    def allowed(self, q: Coordinates, kv: Coordinates) -> Any:
        first, *others = (
            (q.head == number) & pattern.allowed(q, kv)
            for number, pattern in enumerate(self.patterns)
        )
        for other in others:
            first = first | other
        return first

    def bound(self, q: Axis, kv: Axis) -> Pattern:
        return PerHead(tuple(pattern.bound(q, kv) for pattern in self.patterns))

    def _source(self) -> str:
        return f"per_head([{', '.join(map(str, self.patterns))}])"


def per_head(patterns: list[Pattern] | tuple[Pattern, ...]) -> Pattern:
    """Another pattern for every head, from the first head on.

    Raises:
        PatternError: no patterns, or something else among them.

    >>> from maskwright.attention import causal, window
    >>> print(per_head([causal, causal & window(4)]))
    per_head([causal, causal & window(4)])
    """
    patterns = tuple(patterns)
    if not patterns or not all(isinstance(one, Pattern) for one in patterns):
        raise PatternError(f"per_head takes a list of patterns, one for each head: {patterns!r}.")
    return PerHead(patterns)


def part(pattern: Pattern, q: Axis, kv: Axis, rows: slice, columns: slice) -> Tensor:
    """A rectangle of the mask: ``(batch or 1, heads or 1, rows, columns)`` Boolean."""
    batch, heads, *_ = extent(pattern, q, kv)
    allowed = pattern.allowed(*coordinates.tokens(q, kv, heads, batch, rows, columns))
    return allowed.expand(batch, heads, rows.stop - rows.start, columns.stop - columns.start)


def extent(pattern: Pattern, q: Axis, kv: Axis) -> tuple[int, int, int, int]:
    """Shape of the mask: ``(batch or 1, heads or 1, q, kv)``.

    Raises:
        AxisError: axes and rules do not agree on the batch, heads or lengths.
    """
    if q.device != kv.device and not (q.plain or kv.plain):
        raise AxisError(f"The q axis is on {q.device}, the kv axis on {kv.device}.")
    batches: list[tuple[object, int | None]] = [("the q axis", q.batch), ("the kv axis", kv.batch)]
    heads: list[tuple[object, int | None]] = []
    for atom in atoms(pattern):
        atom.check(q, kv)
        samples, several = atom.sizes
        batches.append((atom, samples))
        heads.append((atom, several))
    return _one("batch", batches), _one("heads", heads), q.length, kv.length


def atoms(pattern: Pattern) -> Iterator[Pattern]:
    """The rules in a pattern, from left to right; a `PerHead` comes before its patterns."""
    if isinstance(pattern, And | Or):
        for term in pattern.terms:
            yield from atoms(term)
    elif isinstance(pattern, Not):
        yield from atoms(pattern.pattern)
    else:
        yield pattern
        if isinstance(pattern, PerHead):
            for one in pattern.patterns:
                yield from atoms(one)


def brief(pattern: Pattern, length: int = 60) -> str:
    """The source of a pattern for a message, cut where it is long."""
    source = str(pattern)
    return f"`{source}`" if len(source) <= length else f"`{source[: length - 1]}…`"


def _one(what: str, sizes: list[tuple[object, int | None]]) -> int:
    given = [(whose, size) for whose, size in sizes if size not in (None, 1)]
    if len({size for _, size in given}) > 1:
        names = (
            (brief(whose) if isinstance(whose, Pattern) else whose, size) for whose, size in given
        )
        raise AxisError(
            f"The {what} of an attention must be one number: "
            + ", ".join(f"{name} has {size}" for name, size in dict.fromkeys(names))
            + "."
        )
    return next((size for _, size in given if size is not None), 1)


def _combine(kind: type[And] | type[Or], *patterns: Pattern) -> Pattern:
    """The terms of one kind in a row, without what changes nothing."""
    neutral, final = (full, nothing) if kind is And else (nothing, full)
    terms: dict[Pattern, None] = {}  # in order, each once
    for pattern in patterns:
        if not isinstance(pattern, Pattern):
            return NotImplemented
        terms.update(dict.fromkeys(pattern.terms if isinstance(pattern, kind) else (pattern,)))
    if final in terms:
        return final
    terms.pop(neutral, None)
    if not terms:
        return neutral
    return next(iter(terms)) if len(terms) == 1 else kind(tuple(terms))


def _literal(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
