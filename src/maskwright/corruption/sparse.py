"""Single tokens that keep apart: every n-th, at a distance, one in each part of the sample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from maskwright import randomness
from maskwright.batch import TokenBatch
from maskwright.corruption.select import Select
from maskwright.corruption.selection import Draw, Selection, budgets, eligible
from maskwright.corruption.structure import require_one_turn
from maskwright.errors import PolicyError
from maskwright.vocabulary import Vocabulary


@dataclass(frozen=True)
class EveryNth(Select):
    """Every ``n``-th maskable token, from a place that is drawn for each sample.

    The rate is ``1 / n``, whatever the policy's is: a policy that says otherwise is refused, since
    its plans would carry a rate that is not theirs. Under a coverage refresh of rate ``1 / n`` the
    place moves on by one token an epoch. With ``at_least``, a sample that is too short for its
    place still gives one token.

    Raises (when called):
        PolicyError: the rate is not ``1 / n``.
    """

    n: int

    def __post_init__(self) -> None:
        _check_count(self, "n", self.n)

    def __call__(self, batch: TokenBatch, vocabulary: Vocabulary, draw: Draw) -> Selection:
        from maskwright.corruption import structure_kernels as kernels

        # a rate that was typed in, such as 0.333, is near enough
        wrong = np.abs(draw.rates * self.n - 1) > 5e-3
        if wrong.any():
            raise PolicyError(
                f"{self} selects {1 / self.n:g} of the tokens, but its rate is "
                f"{draw.rates[wrong][0]:g}. Set rate=1/{self.n}, or in a combination "
                f"EveryNth({self.n}).at(1/{self.n})."
            )
        places = draw.keys(batch, randomness.START) + np.uint64(randomness.GAMMA)
        places = (randomness.mix_array(places) >> np.uint64(32)) * np.uint64(self.n)
        turns = np.rint(draw.low * self.n).astype(np.int64)
        phases = ((places >> np.uint64(32)).astype(np.int64) + turns) % self.n
        out = np.empty(len(batch.tokens.values), np.int64)
        count = kernels.take_every(
            eligible(batch, vocabulary), batch.tokens.offsets, phases, self.n, draw.at_least, out
        )
        return Selection(out[:count])

    def __str__(self) -> str:
        return f"every {self.n}th"


@dataclass(frozen=True)
class MinDistance(Select):
    """Single tokens by chance, never two of a sample closer than ``distance`` positions.

    ``rate`` times the sample's maskable tokens, rounded up or down by chance (with ``exact`` or
    without), are taken in the order of their draws; a token that is too close to one taken before
    is passed over. No choice can have a rate above ``1 / distance``, and one made by chance is full
    at about ``0.75 / distance`` (Rényi's parking constant; 0.86 of it at distance 2): at higher
    rates as many are taken as fit.
    """

    distance: int

    def __post_init__(self) -> None:
        _check_count(self, "distance", self.distance)

    def __call__(self, batch: TokenBatch, vocabulary: Vocabulary, draw: Draw) -> Selection:
        from maskwright.corruption import structure_kernels as kernels

        require_one_turn(draw, self)
        allowed = eligible(batch, vocabulary)
        out = np.empty(len(allowed), np.int64)
        count = kernels.take_apart(
            allowed, batch.tokens.offsets, draw.keys(batch, randomness.SELECT),
            budgets(draw, batch, allowed), self.distance, out,
        )  # fmt: skip
        return Selection(out[:count])

    def __str__(self) -> str:
        return f"tokens at least {self.distance} apart"


@dataclass(frozen=True)
class Stratified(Select):
    """One token in each of ``k`` equal parts of the sample.

    ``k`` is ``rate`` times the sample's ``m`` maskable tokens, rounded up or down by chance (with
    ``exact`` or without). Part ``j`` has the maskable tokens from ``floor(j * m / k)`` to
    ``floor((j + 1) * m / k)``, and one of them is drawn uniformly.
    """

    def __call__(self, batch: TokenBatch, vocabulary: Vocabulary, draw: Draw) -> Selection:
        from maskwright.corruption import structure_kernels as kernels

        require_one_turn(draw, self)
        allowed = eligible(batch, vocabulary)
        out = np.empty(len(allowed), np.int64)
        count = kernels.take_strata(
            allowed, batch.tokens.offsets, draw.keys(batch, randomness.SELECT),
            budgets(draw, batch, allowed), out,
        )  # fmt: skip
        return Selection(out[:count])

    def __str__(self) -> str:
        return "stratified tokens"


def _check_count(owner: object, name: str, value: object) -> None:
    if not isinstance(value, int) or value < 1:
        raise PolicyError(
            f"{type(owner).__name__}: {name} counts tokens and must be at least 1, got {value!r}."
        )
