"""A rule that follows the links of a word alignment."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from maskwright.attention.axis import Axis
from maskwright.attention.coordinates import Coordinates, common_device
from maskwright.attention.interval import Interval
from maskwright.attention.pattern import Pattern, brief
from maskwright.attention.rules.relative import check_count
from maskwright.errors import AxisError, PatternError

Pair = tuple[int, int]
# Beyond every position of a source.
_FAR = 2**62


@dataclass(frozen=True, repr=False)
class Aligned(Pattern):
    """Source tokens that a word alignment links to the target token; of `aligned`."""

    links: tuple[Pair, ...] | tuple[tuple[Pair, ...], ...]
    radius: int = 0
    unaligned: Literal["all", "nothing"] = "all"
    spelled: ClassVar[str] = "aligned"

    @property
    def sizes(self) -> tuple[int | None, int | None]:
        return (len(self.links) if self._per_sample else None), None

    def check(self, q: Axis, kv: Axis) -> None:
        for number, (name, axis) in enumerate((("q", q), ("kv", kv))):
            # an axis with positions is a part of its sequence: a link may lie outside it
            if "positions" in axis.columns or self._reach[number] < axis.length:
                continue
            sample, pair = next(
                (sample, pair)
                for sample, links in enumerate(self._samples)
                for pair in links
                if pair[number] >= axis.length
            )
            raise AxisError(
                f"Link {pair} of sample {sample} in {brief(self)}: its "
                f"{('target', 'source')[number]} token {pair[number]} is not on the {name} axis, "
                f"which has the length {axis.length}. Links are (target, source), counted from 0; "
                "cut them where you cut the sequences."
            )

    def bound(self, q: Axis, kv: Axis) -> Pattern:
        device = common_device(q, kv)
        return _Runs(tuple((low.to(device), high.to(device)) for low, high in self._runs.ends))

    def allowed(self, q: Coordinates, kv: Coordinates) -> Any:
        return self._runs.allowed(q, kv)

    @property
    def _per_sample(self) -> bool:
        return bool(self.links) and (not self.links[0] or not isinstance(self.links[0][0], int))

    @property
    def _samples(self) -> tuple[tuple[Pair, ...], ...]:
        return self.links if self._per_sample else (self.links,)  # type: ignore[return-value]

    @cached_property
    def _reach(self) -> Pair:
        """The last target and the last source token of any link; -1 without links."""
        pairs = [pair for links in self._samples for pair in links]
        return max((t for t, _ in pairs), default=-1), max((s for _, s in pairs), default=-1)

    @cached_property
    def _runs(self) -> _Runs:
        """The links as runs of source tokens."""
        rows = self._reach[0] + 2
        # from beyond one end of the source to beyond the other; turned round, it holds nothing
        none = (-_FAR, _FAR) if self.unaligned == "all" else (_FAR, -_FAR)
        found: list[list[list[Pair]]] = [[[] for _ in range(rows)] for _ in self._samples]
        for sample, links in enumerate(self._samples):
            for target, source in sorted(links):
                runs = found[sample][target]
                low, high = source - self.radius, source + self.radius
                if runs and low <= runs[-1][1] + 1:
                    runs[-1] = (runs[-1][0], high)
                else:
                    runs.append((low, high))
        most = max(1, max(len(runs) for sample in found for runs in sample))
        for runs in (runs for sample in found for runs in sample):
            last = runs[-1] if runs else none
            runs.extend([last] * (most - len(runs)))
        spread = torch.tensor(found, dtype=torch.int64)
        return _Runs(tuple((spread[:, :, i, 0], spread[:, :, i, 1]) for i in range(most)))


@dataclass(frozen=True, repr=False, eq=False)
class _Runs(Pattern):
    """The source tokens of each target token as runs: first and last of each.

    Tensors ``(samples, last linked target token + 2)``; the last entry is for every target token
    after that. A token with fewer runs than others repeats its last one.
    """

    ends: tuple[tuple[Tensor, Tensor], ...]
    spelled: ClassVar[str] = "aligned"

    def allowed(self, q: Coordinates, kv: Coordinates) -> Any:
        first, *others = (
            (kv.position >= _along(low, q)) & (kv.position <= _along(high, q))
            for low, high in self.ends
        )
        for other in others:
            first = first | other
        return first


def _along(ends: Tensor, q: Coordinates) -> Any:
    """The ends of runs for every query, in coordinates of its kind."""
    last = ends.shape[1] - 1

    def at(sample: Tensor, position: Tensor) -> Tensor:
        found = ends.to(position.device)
        if len(ends) == 1:
            return found[0][_row(position, last)]
        return found[sample, _row(position, last)]

    if not isinstance(q.index, Interval):
        return at(q.batch, q.position)
    column = q.axis.columns.get("positions")
    if column is None:
        column = torch.arange(q.length, device=q.index.low.device)
    samples = torch.arange(len(ends), device=column.device).unsqueeze(1)
    return q.take(at(samples, column if column.ndim == 2 or len(ends) == 1 else column[None]))


def _row(position: Tensor, last: int) -> Tensor:
    # before the first token as behind the last: no links
    return torch.where(position < 0, last, position.clamp(max=last))


def aligned(
    links: Iterable[Any], radius: int = 0, unaligned: Literal["all", "nothing"] = "all"
) -> Pattern:
    """Cross-attention along a word alignment: a target token sees the source tokens linked to it.

    Query ``t`` is the one that writes target token ``t``: the inputs of the decoder are shifted by
    one, as those of encoder-decoder models are. A query with a position is the one of its position.

    Args:
        links: pairs ``(target, source)``, counted from 0: one list for every sample alike, or a
            list of such lists, one for each sample of the batch.
        radius: source tokens on each side of a linked one that may be seen too.
        unaligned: what a target token without any link may attend to: "all" or "nothing".

    Raises:
        PatternError: something else than pairs of whole numbers from 0, a negative radius, or
            another word.
        AxisError: when it meets its axes, a link that is on neither; it names axis and sample.

    Source: alignments as supervision of attention in Liu et al., "Neural Machine Translation with
    Supervised Attention", 2016 (arXiv:1609.04186), as a mask.

    >>> from maskwright.attention import Axis
    >>> aligned([(0, 1), (1, 0)]).dense(Axis(3), Axis(2))[0, 0].int().tolist()
    [[0, 1], [1, 0], [1, 1]]
    """
    check_count("aligned", "radius", radius)
    if unaligned not in ("all", "nothing"):
        raise PatternError(f'unaligned={unaligned!r} of aligned: it is "all" or "nothing".')
    if not isinstance(links, Iterable):
        raise PatternError(f"links={links!r} of aligned: they are a list of (target, source).")
    given = list(links)
    if any(_is_list(one) and (not one or _is_list(one[0])) for one in given):
        samples = (_pairs(one, number) for number, one in enumerate(given))
        return Aligned(tuple(samples), radius, unaligned)
    return Aligned(_pairs(given, None), radius, unaligned)


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _is_pair(value: Any) -> bool:
    whole = _is_list(value) and len(value) == 2
    return whole and all(isinstance(one, int) and not isinstance(one, bool) for one in value)


def _pairs(links: Any, sample: int | None) -> tuple[Pair, ...]:
    where = "" if sample is None else f" of sample {sample}"
    if not _is_list(links):
        raise PatternError(
            f"links of aligned has {links!r}{where}: it is a list of pairs (target, source), or "
            "one such list for each sample."
        )
    for link in links:
        if not _is_pair(link) or min(link) < 0:
            raise PatternError(
                f"Link {link!r}{where} of aligned: it is (target, source), whole numbers from 0."
            )
    return tuple((link[0], link[1]) for link in links)
