"""A conservative start for guided selects: chance, until there are scores to go by."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from maskwright.batch import TokenBatch
from maskwright.corruption.rate import check_rate, check_setting, rate_at
from maskwright.corruption.select import Select, Tokens, union
from maskwright.corruption.selection import Draw, Selection, eligible
from maskwright.corruption.structure import require_one_turn
from maskwright.errors import PolicyError
from maskwright.schedule import Schedule
from maskwright.vocabulary import Vocabulary


@dataclass(frozen=True)
class Cautious(Select):
    """Tokens without a score by chance, at a low rate of their own; the others as ``select`` does.

    What a new model attends to, or finds hard, says little. So single tokens are drawn by chance at
    ``start_rate``, as `Tokens` draws them: all of a sample while the run is in its ``warmup``, and
    where a sample or the batch has no scores; later the tokens that have none. ``select`` sees only
    those that have one: its budgets are shares of them. With ``exact``, so is the number drawn by
    chance of the others; ``at_least`` is asked of it only in samples without any score.

    `MaskPlan.rates` says the policy's rate, as with `Select.at`.

    Args:
        select: a select that goes by scores, or a combination with one.
        start_rate: a share, or a schedule of it.
        warmup: share of the run, 0 to 1. Above 0 it needs a clock that knows the run's length.

    Raises:
        PolicyError: a setting is outside its rule.
        ScheduleError: when called: there is a warmup, and the clock does not know the progress.
    """

    select: Select
    start_rate: float | Schedule = 0.05
    warmup: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.select, Select):
            raise PolicyError(f"Cautious.select got {self.select!r}, which is no select.")
        check_setting(self.start_rate)
        if not 0 <= self.warmup <= 1:
            raise PolicyError(
                f"Cautious.warmup is a share of the run, from 0 to 1; got {self.warmup!r}."
            )
        if not isinstance(self.start_rate, Schedule):
            check_rate(self.start_rate)

    def __call__(self, batch: TokenBatch, vocabulary: Vocabulary, draw: Draw) -> Selection:
        require_one_turn(draw, self)
        start = np.full(len(batch), rate_at(self.start_rate, draw.clock))
        by_chance = replace(draw, low=np.zeros(len(batch)), high=start)
        early = self.warmup > 0 and draw.clock.progress < self.warmup
        if batch.scores is None or early:
            return Tokens()(batch, vocabulary, by_chance)
        allowed = eligible(batch, vocabulary)
        scored = allowed & ~np.isnan(batch.scores.values)
        known = self.select(_only(batch, scored), vocabulary, draw)
        unscored = allowed & ~scored
        if not unscored.any():
            return known
        # One key for both parts: they share no token, and so no draw.
        rows = batch.tokens.rows
        begun = (np.bincount(rows[scored], minlength=len(batch)) > 0)[rows]
        for where, least in ((unscored & begun, 0), (unscored & ~begun, draw.at_least)):
            if where.any():
                some = Tokens()(_only(batch, where), vocabulary, replace(by_chance, at_least=least))
                known = union(known, some)
        return known

    def __str__(self) -> str:
        warmup = f" for {self.warmup:g} of the run" if self.warmup else ""
        return f"{self.select}, from {self.start_rate} by chance{warmup}"


def _only(batch: TokenBatch, where: np.ndarray) -> TokenBatch:
    """The batch with all other tokens protected."""
    return replace(batch, protected=batch.tokens.like((~where).view(np.uint8)))
