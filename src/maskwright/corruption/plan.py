"""MaskPlan: the choice for one batch, before it is applied."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from maskwright.batch import TokenBatch
from maskwright.clock import Clock
from maskwright.ragged import Ragged

if TYPE_CHECKING:
    from maskwright.corruption.diff import PlanDiff
    from maskwright.corruption.masking import Masking
    from maskwright.corruption.mixture import MixedMasking
    from maskwright.corruption.show import Shown


class Action(IntEnum):
    """What was done at a selected position."""

    MASK = 1
    RANDOM = 2
    KEEP = 3
    DELETE = 4
    SENTINEL = 5
    INFILL = 6


# Actions that leave one token for one token.
IN_PLACE = (Action.MASK, Action.RANDOM, Action.KEEP)
# Actions after which one token stands for a whole unit.
JOINING = (Action.SENTINEL, Action.INFILL)

_NONE = np.empty(0, np.int64)


@dataclass(frozen=True, eq=False)
class MaskPlan:
    """Which tokens of a batch must be guessed, and what stands in their place.

    Args:
        batch: what the plan is for; ``B`` samples, ``N`` tokens in all.
        masking: the policy.
        clock: the moment.
        positions: ``(K,)`` int64, rising: the selected tokens, counted through the whole batch.
        actions: ``(K,)`` uint8, an `Action` each.
        replacements: ``(K,)`` int64: the id that stands at each selected position, or -1 where
            nothing stands any more.
        rates: ``(B,)`` float64: the mask rate that was asked for in each sample.
        units: ``(K,)`` int64, never falling: which tokens were selected together; ``None``: each
            token is a unit.
        inserts: ``(I,)`` int64, never falling: tokens before which a token was put in.
        inserted: ``(I,)`` int64: the ids that were put in.
        order: ``(N,)`` int64: the tokens in the order in which they are read after a
            rearrangement, within their samples; ``None``: as they stand.
    """

    batch: TokenBatch
    masking: Masking | MixedMasking
    clock: Clock
    positions: np.ndarray
    actions: np.ndarray
    replacements: np.ndarray
    rates: np.ndarray
    units: np.ndarray | None = None
    inserts: np.ndarray = field(default_factory=lambda: _NONE)
    inserted: np.ndarray = field(default_factory=lambda: _NONE)
    order: np.ndarray | None = None

    @property
    def in_place(self) -> bool:
        """Whether every token stands where it stood, so that inputs and targets are aligned."""
        gone = len(self.replacements) and self.replacements.min() < 0
        return self.order is None and not len(self.inserts) and not gone

    @cached_property
    def selected(self) -> Ragged:
        """1 where a token was selected, uint8."""
        flags = np.zeros(len(self.batch.tokens.values), np.uint8)
        flags[self.positions] = 1
        return self.batch.tokens.like(flags)

    @property
    def corrupted(self) -> Ragged:
        """The tokens that the model sees, int64; as many as there were only if `in_place`."""
        return self._applied[0]

    @property
    def origin(self) -> Ragged:
        """For each token of `corrupted`, its place in the sample before; -1 if it was put in."""
        return self._applied[1]

    @cached_property
    def _applied(self) -> tuple[Ragged, Ragged]:
        from maskwright.corruption import kernels

        tokens = self.batch.tokens
        if self.in_place:
            values = tokens.values.astype(np.int64)
            values[self.positions] = self.replacements
            return tokens.like(values), tokens.like(tokens.positions)
        size = len(tokens.values) + len(self.inserts)
        values, origin = np.empty(size, np.int64), np.empty(size, np.int64)
        offsets = np.empty(len(tokens) + 1, np.int64)
        order = _NONE if self.order is None else self.order
        size = kernels.corrupt(
            tokens.values, tokens.offsets, order, self.positions, self.replacements,
            self.inserts, self.inserted, values, origin, offsets,
        )  # fmt: skip
        return Ragged(values[:size], offsets), Ragged(origin[:size], offsets)

    @property
    def targets(self) -> np.ndarray:
        """The ids to predict, ``(K,)`` int64: the tokens, or the user's labels where given."""
        source = self.batch.labels or self.batch.tokens
        return source.values[self.positions].astype(np.int64)

    def labels(self, ignore: int = -100) -> Ragged:
        """The id to predict at each selected position and ``ignore`` elsewhere, int64."""
        values = np.full(len(self.batch.tokens.values), ignore, np.int64)
        values[self.positions] = self.targets
        return self.batch.tokens.like(values)

    def __repr__(self) -> str:
        found = [(int((self.actions == action).sum()), action.name.lower()) for action in Action]
        counts = ", ".join(f"{count} {name}" for count, name in found if count)
        return (
            f"MaskPlan({len(self.positions)} of {len(self.batch.tokens.values)} tokens in "
            f"{len(self.batch)} samples: {counts or 'none'}; {self.masking.refresh} at epoch "
            f"{self.clock.epoch}, step {self.clock.step})"
        )

    # -- to look at, compare and keep ------------------------------------------------------

    def show(self, tokenizer: Any = None, rows: int = 8) -> Shown:
        """The first ``rows`` samples as text, in colour; a notebook shows it as HTML.

        Without a tokenizer, tokens are shown as ids.
        """
        from maskwright.corruption.show import show

        return show(self, tokenizer, rows)

    def _repr_html_(self) -> str:
        return self.show()._repr_html_()

    def diff(self, other: MaskPlan) -> PlanDiff:
        """Where it differs from another plan of the same batch.

        Raises:
            BatchError: the other is of another batch.
        """
        from maskwright.corruption.diff import diff

        return diff(self, other)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes it to one ``.npz`` file, whole or not at all.

        Raises:
            SaveError: it cannot be written.
        """
        from maskwright.corruption.serialise import save

        return save(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> MaskPlan:
        """Reads what `save` wrote; its policy is known by name only.

        Raises:
            CacheError: there is no such file, it is damaged, or it is of another version.
        """
        from maskwright.corruption.serialise import load

        return load(path)
