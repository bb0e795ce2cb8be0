"""Patterns from an estimate of the attention itself: the pairs, or blocks, worth looking at."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from maskwright.attention.axis import Axis
from maskwright.attention.blocks import as_size
from maskwright.attention.coordinates import Coordinates, common_device
from maskwright.attention.pattern import Pattern
from maskwright.attention.rules.visible import check_lengths
from maskwright.attention.table import Table
from maskwright.errors import PatternError

_SHAPES = "(q, kv), (batch, q, kv) or (batch, heads, q, kv)"


@dataclass(frozen=True, repr=False)
class Threshold(Pattern):
    """Pairs, or blocks, with a score of at least ``tau``; of `threshold`."""

    table: Table
    tau: float
    size: int | tuple[int, int] = 1
    spelled: ClassVar[str] = "threshold"

    def check(self, q: Axis, kv: Axis) -> None:
        check_lengths(self, self.table, q, kv, as_size(self.size))

    def bound(self, q: Axis, kv: Axis) -> Pattern:
        return replace(self, table=self.table.to(common_device(q, kv)))

    def allowed(self, q: Coordinates, kv: Coordinates) -> Any:
        return _entries(self.table, self.size, q, kv)


@dataclass(frozen=True, repr=False)
class TopK(Pattern):
    """The ``k`` keys, or blocks of keys, of highest score; of `top_k`."""

    table: Table
    k: int
    size: int | tuple[int, int] = 1
    spelled: ClassVar[str] = "top_k"

    def check(self, q: Axis, kv: Axis) -> None:
        check_lengths(self, self.table, q, kv, as_size(self.size))

    def bound(self, q: Axis, kv: Axis) -> Pattern:
        return replace(self, table=self.table.to(common_device(q, kv)))

    def allowed(self, q: Coordinates, kv: Coordinates) -> Any:
        return _entries(self.table, self.size, q, kv)


def threshold(scores: Any, tau: float, size: int | tuple[int, int] = 1) -> Pattern:
    """Pairs whose estimated attention is at least ``tau``.

    Args:
        scores: ``(q, kv)``, ``(batch, q, kv)`` or ``(batch, heads, q, kv)``: one score for each
            pair of tokens, or of blocks where ``size`` is not 1. No gradient flows into them.
        tau: the least score that is kept.
        size: tokens of a block, on both axes or ``(q, kv)``; the last block may be shorter.

    Raises:
        PatternError: scores of another shape or with NaN, or a ``tau`` that is not finite.
        AxisError: when it meets axes of other lengths.

    >>> from maskwright.attention import Axis
    >>> threshold([[0.9, 0.1], [0.5, 0.5]], 0.5).dense(Axis(2))[0, 0].int().tolist()
    [[1, 0], [1, 1]]
    """
    number = isinstance(tau, int | float) and not isinstance(tau, bool)
    if not number or not math.isfinite(tau):
        raise PatternError(f"tau={tau!r} of threshold: it is a finite number.")
    size = _size(size)
    if isinstance(scores, Table):
        return Threshold(scores, tau, size)
    return Threshold(Table(_checked("threshold", scores) >= tau), tau, size)


def top_k(scores: Any, k: int, size: int | tuple[int, int] = 1) -> Pattern:
    """For each query, or block of queries, the ``k`` keys or blocks of highest estimated attention.

    Of equal scores the key of lower index comes first, so that the choice is the same on every
    machine. A score of minus infinity is never chosen: such a query gets fewer than ``k``.

    Args:
        scores: as of `threshold`.
        k: how many, 1 to the number of scores in a row.
        size: as of `threshold`.

    Raises:
        PatternError: scores of another shape or with NaN, or a ``k`` outside its range.
        AxisError: when it meets axes of other lengths.

    Source: Gupta et al., "Memory-efficient Transformers via Top-k Attention", 2021
    (arXiv:2106.06899); of blocks, Yuan et al., "Native Sparse Attention", 2025 (arXiv:2502.11089).

    >>> from maskwright.attention import Axis
    >>> top_k([[0.2, 0.8], [0.5, 0.5]], 1).dense(Axis(2))[0, 0].int().tolist()
    [[0, 1], [1, 0]]
    """
    size = _size(size)
    found = scores if isinstance(scores, Table) else _checked("top_k", scores)
    most = found.columns if isinstance(found, Table) else found.shape[-1]
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= most:
        raise PatternError(
            f"k={k!r} of top_k: the kv axis of its scores has {most} entries; k is a whole number "
            f"from 1 to {most}."
        )
    if isinstance(found, Table):
        return TopK(found, k, size)
    # which of equal scores torch's topk takes is left open; the value of the last one is not
    last = found.topk(k, dim=-1, sorted=True).values[..., -1:]
    better, equal = found > last, found == last
    room = k - better.sum(-1, keepdim=True)
    chosen = better | (equal & (equal.cumsum(-1) <= room))
    return TopK(Table(chosen & (found != -math.inf)), k, size)


def _entries(table: Table, size: int | tuple[int, int], q: Coordinates, kv: Coordinates) -> Any:
    rows, columns = as_size(size)
    return table.at(q, kv, q.index // rows, kv.index // columns)


def _size(size: int | tuple[int, int]) -> int | tuple[int, int]:
    """One number where both axes have the same."""
    rows, columns = as_size(size)
    return rows if rows == columns else (rows, columns)


def _checked(rule: str, scores: Any) -> Tensor:
    """Scores as a tensor without gradient.

    Raises:
        PatternError: another shape, no numbers, or NaN among them.
    """
    try:
        values = torch.as_tensor(scores).detach()
    except (RuntimeError, TypeError, ValueError) as error:
        raise PatternError(f"scores of {rule} are no tensor: {error}.") from None
    if not 2 <= values.ndim <= 4 or values.dtype == torch.bool or values.is_complex():
        raise PatternError(
            f"scores of {rule} are {values.dtype} of shape {tuple(values.shape)}; they are "
            f"numbers, {_SHAPES}."
        )
    missing = values.isnan()
    if missing.any():
        names = ("batch", "heads", "q", "kv")
        names = names[2:] if values.ndim == 2 else names[:1] + names[-(values.ndim - 1) :]
        first = ", ".join(
            f"{name} {int(at)}" for name, at in zip(names, missing.nonzero()[0], strict=True)
        )
        raise PatternError(
            f"scores of {rule} are NaN at {first} ({int(missing.sum())} in all). NaN has no order; "
            "look for a row whose every score was masked before the softmax."
        )
    return values
