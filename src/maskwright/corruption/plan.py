"""MaskPlan: the choice for one batch, before it is applied."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from maskwright.batch import TokenBatch
from maskwright.clock import Clock
from maskwright.ragged import Ragged

if TYPE_CHECKING:
    from maskwright.corruption.masking import Masking


class Action(IntEnum):
    """What was done at a selected position."""

    MASK = 1
    RANDOM = 2
    KEEP = 3


@dataclass(frozen=True, eq=False)
class MaskPlan:
    """Which tokens of a batch must be guessed, and what stands in their place.

    Args:
        batch: what the plan is for; ``N`` tokens in all.
        masking: the policy.
        clock: the moment.
        positions: ``(K,)`` int64, rising: the selected tokens, counted through the whole batch.
        actions: ``(K,)`` uint8, an `Action` each.
        replacements: ``(K,)`` int64: the id that stands at each selected position.
        rate: the mask rate that was asked for at this moment.
    """

    batch: TokenBatch
    masking: Masking
    clock: Clock
    positions: np.ndarray
    actions: np.ndarray
    replacements: np.ndarray
    rate: float

    @cached_property
    def selected(self) -> Ragged:
        """1 where a token was selected, uint8."""
        flags = np.zeros(len(self.batch.tokens.values), np.uint8)
        flags[self.positions] = 1
        return self.batch.tokens.like(flags)

    @cached_property
    def corrupted(self) -> Ragged:
        """The tokens that the model sees, int64."""
        values = self.batch.tokens.values.astype(np.int64)
        values[self.positions] = self.replacements
        return self.batch.tokens.like(values)

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
        counts = ", ".join(
            f"{int((self.actions == action).sum())} {action.name.lower()}" for action in Action
        )
        return (
            f"MaskPlan({len(self.positions)} of {len(self.batch.tokens.values)} tokens in "
            f"{len(self.batch)} samples: {counts}; {self.masking.refresh} at epoch "
            f"{self.clock.epoch}, step {self.clock.step})"
        )
