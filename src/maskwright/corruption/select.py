"""Which tokens are selected: the protocol, its combinations, and single tokens by chance."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, is_dataclass, replace

import numpy as np

from maskwright import randomness
from maskwright.batch import TokenBatch
from maskwright.corruption.rate import Rate, check_setting, rates_of, whole_rates
from maskwright.corruption.selection import Draw, Selection
from maskwright.vocabulary import Vocabulary


class Select(ABC):
    """Chooses tokens of a batch. Selects combine: ``a | b``, ``a & b``, ``a - b``, ``a.at(1)``."""

    @abstractmethod
    def __call__(self, batch: TokenBatch, vocabulary: Vocabulary, draw: Draw) -> Selection:
        """The selection; a pure function of its arguments."""

    @property
    def reads_scores(self) -> bool:
        """Whether it asks a batch for scores: itself, or a select that it is made of."""
        inside = (getattr(self, one.name) for one in fields(self)) if is_dataclass(self) else ()
        return any(isinstance(one, Select) and one.reads_scores for one in inside)

    def __or__(self, other: Select) -> Select:
        """Tokens of either. Where both have one, it belongs to the unit of the first."""
        return Either(self, other)

    def __and__(self, other: Select) -> Select:
        """Tokens of the first that the second selects too."""
        return Both(self, other)

    def __sub__(self, other: Select) -> Select:
        """Tokens of the first that the second does not select."""
        return Without(self, other)

    def at(self, rate: Rate) -> Select:
        """The same select at a rate of its own, whatever that of the policy is."""
        return At(self, rate)


@dataclass(frozen=True)
class Tokens(Select):
    """Single tokens by chance.

    Independent draws with probability ``rate``; with ``exact``, ``rate`` times the sample's
    maskable tokens, rounded up or down by chance so that the mean is exact, without replacement.
    """

    def __call__(self, batch: TokenBatch, vocabulary: Vocabulary, draw: Draw) -> Selection:
        # numba is slow to import: only those who draw masks wait for it
        from maskwright.corruption import kernels

        tokens, many = batch.tokens, len(batch.tokens.values)
        protected = kernels.NOTHING if batch.protected is None else batch.protected.values
        choose = kernels.select_exact if draw.exact else kernels.select_independent
        bounds = (draw.low, draw.high) if draw.exact else thresholds(draw)
        # Room for what is expected and ten deviations more: a large array that is mostly empty
        # costs more than the draws, since its memory comes fresh from the system each time.
        room = many
        if not draw.exact:
            share = float((draw.high - draw.low).max(initial=0))
            room = min(many, int(share * many + 10 * many**0.5) + 1)
        count, out = -1, np.empty(room, np.int64)
        while count < 0:
            count = choose(
                tokens.values, tokens.offsets, batch.sample_ids, np.uint64(draw.run_key),
                *bounds, draw.at_least, vocabulary.maskable, protected, out,
            )  # fmt: skip
            if count < 0:
                out = np.empty(many, np.int64)
        return Selection(out[:count])

    def __str__(self) -> str:
        return "tokens"


def thresholds(draw: Draw) -> tuple[np.ndarray, np.ndarray]:
    """``low`` and ``high`` as thresholds of 53-bit draws, ``(B,)`` uint64 each."""
    high = np.round(draw.high * 2.0**53).astype(np.uint64)
    if not draw.low.any():
        return np.zeros(len(high), np.uint64), high
    return np.round(draw.low * 2.0**53).astype(np.uint64), high


@dataclass(frozen=True)
class At(Select):
    """A select at a rate of its own."""

    select: Select
    rate: Rate

    def __post_init__(self) -> None:
        check_setting(self.rate)

    def __call__(self, batch: TokenBatch, vocabulary: Vocabulary, draw: Draw) -> Selection:
        rates = rates_of(self.rate, batch, draw.clock, draw.run_key)
        if draw.exact:
            rates = whole_rates(self.rate, rates, batch, vocabulary, draw.at_least)
        draw = replace(draw, low=np.zeros(len(batch)), high=rates, covering=False)
        return self.select(batch, vocabulary, draw)

    def __str__(self) -> str:
        return f"{self.select} at {self.rate}"


@dataclass(frozen=True)
class Either(Select):
    """Tokens of either select."""

    first: Select
    second: Select

    def __call__(self, batch: TokenBatch, vocabulary: Vocabulary, draw: Draw) -> Selection:
        return union(*_both(self.first, self.second, batch, vocabulary, draw))

    def __str__(self) -> str:
        return f"({self.first} | {self.second})"


@dataclass(frozen=True)
class Both(Select):
    """Tokens of the first select that the second selects too."""

    first: Select
    second: Select

    def __call__(self, batch: TokenBatch, vocabulary: Vocabulary, draw: Draw) -> Selection:
        one, two = _both(self.first, self.second, batch, vocabulary, draw)
        return _keep(one, np.isin(one.positions, two.positions, assume_unique=True))

    def __str__(self) -> str:
        return f"({self.first} & {self.second})"


@dataclass(frozen=True)
class Without(Select):
    """Tokens of the first select that the second does not select."""

    first: Select
    second: Select

    def __call__(self, batch: TokenBatch, vocabulary: Vocabulary, draw: Draw) -> Selection:
        one, two = _both(self.first, self.second, batch, vocabulary, draw)
        return _keep(one, ~np.isin(one.positions, two.positions, assume_unique=True))

    def __str__(self) -> str:
        return f"({self.first} - {self.second})"


def union(one: Selection, two: Selection) -> Selection:
    """Tokens of either; where both have one, it belongs to the unit of the first."""
    fresh = ~np.isin(two.positions, one.positions, assume_unique=True)
    positions = np.concatenate([one.positions, two.positions[fresh]])
    if one.units is None and two.units is None:
        return Selection(np.sort(positions), inserts=_inserts(one, two))
    units = _units(one), _units(two)[fresh]
    after = units[0].max(initial=-1) + 1
    labels = np.concatenate([units[0], units[1] + after])
    order = np.argsort(positions, kind="stable")
    return Selection(positions[order], runs(labels[order]), _inserts(one, two))


def _both(
    first: Select, second: Select, batch: TokenBatch, vocabulary: Vocabulary, draw: Draw
) -> tuple[Selection, Selection]:
    """Both selections. The second draws with a key of its own, so that they are independent.

    The first keeps the key, so the seconds inside it took the keys of lower numbers.
    """
    number = 1 + _combinations(first)
    other = replace(draw, run_key=randomness.absorb(draw.run_key, number))
    return first(batch, vocabulary, draw), second(batch, vocabulary, other)


def _combinations(part: object) -> int:
    """How many combinations a select is made of."""
    if isinstance(part, tuple):
        return sum(map(_combinations, part))
    if not isinstance(part, Select) or not is_dataclass(part):
        return 0
    inside = sum(_combinations(getattr(part, field.name)) for field in fields(part))
    return inside + isinstance(part, Either | Both | Without)


def _keep(selection: Selection, kept: np.ndarray) -> Selection:
    units = selection.units
    if units is not None:
        # a token that is left out cuts its unit: each count of them is another label
        left = np.cumsum(~kept)[kept]
        units = runs(units[kept] + left)
    return Selection(selection.positions[kept], units, selection.inserts)


def _units(selection: Selection) -> np.ndarray:
    if selection.units is not None:
        return selection.units
    return np.arange(len(selection.positions))


def _inserts(one: Selection, two: Selection) -> np.ndarray | None:
    parts = [part.inserts for part in (one, two) if part.inserts is not None]
    return np.sort(np.concatenate(parts)) if parts else None


def runs(labels: np.ndarray) -> np.ndarray:
    """Numbers runs of equal labels 0, 1, 2, …: a unit that was cut in two becomes two."""
    if not len(labels):
        return labels
    return np.concatenate(([0], np.cumsum(labels[1:] != labels[:-1])))
