"""Rules that name who sees whom outright: a matrix, pairs of segments, or marks on the source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from maskwright.attention.axis import Axis
from maskwright.attention.coordinates import Coordinates, common_device
from maskwright.attention.pattern import Named, Pattern, brief
from maskwright.attention.rules.tokens import check_name, documents, number, truth
from maskwright.attention.table import Table
from maskwright.errors import AxisError, PatternError


def check_lengths(
    pattern: Pattern, table: Table, q: Axis, kv: Axis, size: tuple[int, int] = (1, 1)
) -> None:
    """Raises `AxisError` where a table has not one entry for each pair of tokens, or of blocks."""
    for name, axis, has, one in (("q", q, table.rows, size[0]), ("kv", kv, table.columns, size[1])):
        needed = -(-axis.length // one)
        if has != needed:
            side = "rows" if name == "q" else "columns"
            blocks = f" and so {needed} blocks of {one}" if one > 1 else ""
            raise AxisError(
                f"{brief(pattern)} has {has} {side}; the {name} axis has the length "
                f"{axis.length}{blocks}. A table is for axes of its own lengths."
            )


@dataclass(frozen=True, repr=False)
class Visible(Pattern):
    """Whom a matrix says; of `visible`."""

    table: Table
    spelled: ClassVar[str] = "visible"

    def check(self, q: Axis, kv: Axis) -> None:
        check_lengths(self, self.table, q, kv)

    def bound(self, q: Axis, kv: Axis) -> Pattern:
        return Visible(self.table.to(common_device(q, kv)))

    def allowed(self, q: Coordinates, kv: Coordinates) -> Any:
        return self.table.at(q, kv, q.index, kv.index)


def visible(matrix: Any) -> Pattern:
    """Any visible matrix: knowledge graphs, tables, trees, whatever no rule says in arithmetic.

    Where rows and columns of a table are channels of the axis, ``same("row") | same("column")``
    says the same for every length, without a matrix.

    Args:
        matrix: ``(q, kv)``, ``(batch, q, kv)`` or ``(batch, heads, q, kv)``, Boolean or of 0 and
            1; 1 = may attend. It fits axes of these lengths only.

    Raises:
        PatternError: other values, or another number of dimensions.
        AxisError: when it meets axes of other lengths.

    Source: the visible matrix of K-BERT (Liu et al., 2019, arXiv:1909.07606); of the tables of
    TURL (Deng et al., 2020, arXiv:2006.14806).

    >>> from maskwright.attention import Axis
    >>> visible([[1, 0], [1, 1]]).dense(Axis(2))[0, 0].int().tolist()
    [[1, 0], [1, 1]]
    """
    if isinstance(matrix, Table):
        return Visible(matrix)
    try:
        values = torch.as_tensor(matrix)
    except (RuntimeError, TypeError, ValueError) as error:
        raise PatternError(f"The matrix of visible is no matrix: {error}.") from None
    if values.dtype != torch.bool:
        if values.is_floating_point() or not ((values == 0) | (values == 1)).all():
            raise PatternError(
                f"The matrix of visible is {values.dtype} with values other than 0 and 1; it says "
                "who may attend, True or 1. Of a mask that is added to scores, give mask == 0."
            )
        values = values.bool()
    return Visible(Table(values))


@dataclass(frozen=True, repr=False)
class Segments(Pattern):
    """Keys of the segments that a query's segment may see; of `segments`."""

    pairs: tuple[tuple[int, tuple[int, ...]], ...]
    spelled: ClassVar[str] = "segments"

    def allowed(self, q: Coordinates, kv: Coordinates) -> Any:
        allowed = (q.index < 0) & (kv.index < 0)
        for asking, seen in self.pairs:
            for segment in seen:
                allowed = allowed | ((q.segment == asking) & (kv.segment == segment))
        return allowed

    def _source(self) -> str:
        shown = (f"{q}: {kv[0] if len(kv) == 1 else kv}" for q, kv in self.pairs)
        return f"{self.spelled}({{{', '.join(shown)}}})"


def segments(pairs: Mapping[int, Any] | Iterable[tuple[int, int]] | None = None) -> Pattern:
    """Which segments see which: question and passage, utterance and turn, packed pairs.

    Args:
        pairs: for each segment of queries, the segment or segments of keys it may see: ``{0: (0,
            1), 1: 1}``, or pairs ``[(0, 0), (0, 1), (1, 1)]``. Segments that are not named see
            nothing. Without it, each segment sees the one of its own number, which is `documents`.

    Raises:
        PatternError: something else than whole numbers.
        AxisError: when it meets an axis without ``segments``.

    >>> from maskwright.attention import Axis
    >>> question, passage = Axis(2, segments=[0, 1]), Axis(3, segments=[0, 1, 2])
    >>> segments({0: 0, 1: (1, 2)}).dense(question, passage)[0, 0].int().tolist()
    [[1, 0, 0], [0, 1, 1]]
    """
    if pairs is None:
        return documents
    found: dict[int, set[int]] = {}
    for asking, seen in _listed(pairs):
        for segment in seen:
            for one in (asking, segment):
                if isinstance(one, bool) or not isinstance(one, int):
                    raise PatternError(f"Segment {one!r} of segments: it is a whole number.")
            found.setdefault(asking, set()).add(segment)
    return Segments(tuple((q, tuple(sorted(kv))) for q, kv in sorted(found.items())))


def _listed(pairs: Any) -> Iterable[tuple[Any, tuple[Any, ...]]]:
    if isinstance(pairs, Mapping):
        for asking, seen in pairs.items():
            yield asking, tuple(seen) if isinstance(seen, list | tuple | set) else (seen,)
        return
    for pair in pairs if isinstance(pairs, Iterable) else (pairs,):
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise PatternError(
                f"{pair!r} of segments: give {{q segment: (kv segments)}}, or pairs (q, kv)."
            )
        yield pair[0], (pair[1],)


@dataclass(frozen=True, repr=False)
class CopyOnly(Named):
    """Source tokens that may be copied.

    Bare, ``copy_only`` asks the channel ``copy`` of the keys, Boolean: True at names, numbers, code
    identifiers, whatever the target may take over as it is (so it is ``marked("copy")``).
    ``copy_only((5, 7))`` asks the channel ``tokens`` instead, the ids of the source, for these ids.
    For keys whose token is the query's, write ``same("tokens")``.

    Args:
        ids: token ids.
        channel: another channel of the keys than these two.

    Raises:
        PatternError: ids that are no whole numbers.
        AxisError: when it meets keys without the channel, or with one of the other kind.

    Source: what the copying heads of Gu et al., "Incorporating Copying Mechanism in
    Sequence-to-Sequence Learning", 2016 (arXiv:1603.06393), may look at.
    """

    ids: tuple[int, ...] = ()
    channel: str | None = None
    spelled: ClassVar[str] = "copy_only"

    def __post_init__(self) -> None:
        ids = tuple(self.ids) if isinstance(self.ids, list | tuple) else (self.ids,)
        for one in ids:
            if isinstance(one, bool) or not isinstance(one, int):
                raise PatternError(f"Token id {one!r} of copy_only: it is a whole number.")
        object.__setattr__(self, "ids", ids)
        if self.channel is not None:
            check_name(self.spelled, self.channel)

    def allowed(self, q: Coordinates, kv: Coordinates) -> Any:
        if not self.ids:
            return truth(self, kv, self.channel or "copy")
        column = number(self, kv, self.channel or "tokens")
        first, *others = (column == one for one in self.ids)
        for other in others:
            first = first | other
        return first


copy_only = CopyOnly()
