"""A window around the diagonal of target and source, for what runs in step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from maskwright.attention.axis import Axis
from maskwright.attention.coordinates import Coordinates
from maskwright.attention.pattern import Pattern
from maskwright.attention.rules.relative import check_count
from maskwright.attention.rules.streaming import as_rate, fraction


@dataclass(frozen=True, repr=False)
class MonotonicWindow(Pattern):
    """Source tokens near the diagonal; of `monotonic_window`."""

    left: int
    right: int
    rate: int | float | None = None
    spelled: ClassVar[str] = "monotonic_window"

    def __post_init__(self) -> None:
        check_count(self.spelled, "left", self.left)
        check_count(self.spelled, "right", self.right)
        if self.rate is not None:
            object.__setattr__(self, "rate", as_rate(self.spelled, self.rate))

    def bound(self, q: Axis, kv: Axis) -> Pattern:
        # each axis counts its tokens once, and keeps them: not inside a kernel
        _ = q.ranks, kv.ranks
        return self

    def allowed(self, q: Coordinates, kv: Coordinates) -> Any:
        if self.rate is None:
            # the middle of the query's share of the source: (t + 1/2) * source / target
            key = kv.rank
            centre = (q.rank * 2 + 1) * kv.count // (q.count * 2).clamp(min=1)
        else:
            over, under = fraction(self.rate)
            key = kv.position
            centre = (q.position * 2 + 1) * over // (2 * under)
        distance = key - centre
        return (distance >= -self.left) & (distance <= self.right)

    def _source(self) -> str:
        if self.left != self.right or self.rate is not None:
            return super()._source()
        return f"{self.spelled}({self.left})"


def monotonic_window(left: int, right: int | None = None, rate: float | None = None) -> Pattern:
    """Source tokens near the diagonal, for languages or speech that run in step.

    The token ``t`` of a target of ``T`` tokens stands at source token ``(2t + 1) * S // 2T`` of
    ``S``, and may attend from ``left`` tokens before that to ``right`` behind it, both included.
    ``S`` and ``T`` are those of each sample: where an axis has ``valid``, padding counts for
    nothing, at either end. Padding itself is where the token before it is; add ``& padding``.

    While generating, the length of the target is unknown: give ``rate``, and positions are
    compared instead of ranks; the centre is then ``(2t + 1) * rate // 2``.

    Args:
        left: source tokens before the diagonal, 0 or more.
        right: source tokens behind it; as many as ``left`` unless given.
        rate: source tokens for each target token; of each sample's lengths unless given.

    Raises:
        PatternError: a number outside its range.

    Source: the diagonal prior of Dyer et al., "A Simple, Fast, and Effective Reparameterization
    of IBM Model 2", 2013, as a hard window; windows of local attention in Luong et al., "Effective
    Approaches to Attention-based Neural Machine Translation", 2015 (arXiv:1508.04025).

    >>> from maskwright.attention import Axis
    >>> monotonic_window(0, 1).dense(Axis(2), Axis(4))[0, 0].int().tolist()
    [[0, 1, 1, 0], [0, 0, 0, 1]]
    """
    return MonotonicWindow(left, left if right is None else right, rate)
