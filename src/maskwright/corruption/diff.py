"""PlanDiff: where two plans of one batch differ."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from maskwright.corruption.plan import MaskPlan
from maskwright.errors import BatchError

_SHOWN = 5


@dataclass(frozen=True, eq=False)
class PlanDiff:
    """Where two plans of one batch differ; true if they do anywhere.

    Positions are counted through the whole batch, and rise. How tokens were grouped into units is
    no difference in itself, only what it leads to.

    Args:
        first, second: the plans.
        only_first, only_second: positions that one plan selects and the other does not.
        action: positions that both select, with different actions.
        replacement: positions with the same action, and another id in their place.
        inserts: positions before which not the same ids are put in.
        order: positions at which another token is read.
    """

    first: MaskPlan
    second: MaskPlan
    only_first: np.ndarray
    only_second: np.ndarray
    action: np.ndarray
    replacement: np.ndarray
    inserts: np.ndarray
    order: np.ndarray

    @cached_property
    def positions(self) -> np.ndarray:
        """Every position at which they differ, int64."""
        return np.unique(np.concatenate(list(self._parts.values())))

    @cached_property
    def samples(self) -> np.ndarray:
        """The ids of the samples that differ, in the order of the batch, int64."""
        offsets = self.first.batch.tokens.offsets
        # what is put in behind the last token belongs to the last sample
        rows = np.searchsorted(offsets, self.positions, side="right") - 1
        return self.first.batch.sample_ids[np.unique(np.minimum(rows, len(offsets) - 2))]

    @property
    def counts(self) -> dict[str, int]:
        """How many positions differ in each way; ways in which none does are left out."""
        return {name: len(part) for name, part in self._parts.items() if len(part)}

    @property
    def _parts(self) -> dict[str, np.ndarray]:
        return {
            "selected only in the first": self.only_first,
            "selected only in the second": self.only_second,
            "another action": self.action,
            "another replacement": self.replacement,
            "another insert": self.inserts,
            "another place": self.order,
        }

    def __bool__(self) -> bool:
        return bool(self.counts)

    def __repr__(self) -> str:
        batch = self.first.batch
        size = f"{len(batch.tokens.values)} tokens in {len(batch)} samples"
        if not self:
            return f"PlanDiff(none in {size})"
        counts = ", ".join(f"{count} {name}" for name, count in self.counts.items())
        ids = ", ".join(map(str, self.samples[:_SHOWN].tolist()))
        more = f" and {len(self.samples) - _SHOWN} more" if len(self.samples) > _SHOWN else ""
        return f"PlanDiff({counts}, of {size}; in samples {ids}{more})"


def diff(first: MaskPlan, second: MaskPlan) -> PlanDiff:
    """Where two plans of one batch differ.

    Raises:
        BatchError: they are plans of different batches.
    """
    _require_one_batch(first, second)
    _, ours, theirs = np.intersect1d(
        first.positions, second.positions, assume_unique=True, return_indices=True
    )
    common = first.positions[ours]
    acted = first.actions[ours] != second.actions[theirs]
    replaced = first.replacements[ours] != second.replacements[theirs]
    return PlanDiff(
        first,
        second,
        only_first=np.setdiff1d(first.positions, second.positions, assume_unique=True),
        only_second=np.setdiff1d(second.positions, first.positions, assume_unique=True),
        action=common[acted],
        replacement=common[replaced & ~acted],
        inserts=_other_inserts(first, second),
        order=np.flatnonzero(_order(first) != _order(second)),
    )


def _require_one_batch(first: MaskPlan, second: MaskPlan) -> None:
    one, two = first.batch, second.batch
    if not np.array_equal(one.sample_ids, two.sample_ids):
        what = f"samples {one.sample_ids[:_SHOWN]} … and {two.sample_ids[:_SHOWN]} …"
    elif one.tokens != two.tokens:
        what = "other tokens in the same samples"
    else:
        return
    raise BatchError(
        f"Only plans of one batch can be compared; these have {what}. Plan the same TokenBatch "
        "twice: masking.plan(batch, clock)."
    )


def _order(plan: MaskPlan) -> np.ndarray:
    return np.arange(len(plan.batch.tokens.values)) if plan.order is None else plan.order


def _other_inserts(first: MaskPlan, second: MaskPlan) -> np.ndarray:
    """Positions before which the ids that are put in are not the same, or not in one order."""
    if np.array_equal(first.inserts, second.inserts):
        return np.unique(first.inserts[first.inserted != second.inserted])
    ours, theirs = _by_position(first), _by_position(second)
    places = sorted(place for place in {*ours, *theirs} if ours.get(place) != theirs.get(place))
    return np.array(places, np.int64)


def _by_position(plan: MaskPlan) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for place, token in zip(plan.inserts.tolist(), plan.inserted.tolist(), strict=True):
        found.setdefault(place, []).append(token)
    return found
