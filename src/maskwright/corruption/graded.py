"""Selects whose rate grows: with the place of a token, or with the length of its sample."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from maskwright import randomness
from maskwright.batch import TokenBatch
from maskwright.corruption.select import Select
from maskwright.corruption.selection import Draw, Selection, eligible
from maskwright.corruption.structure import require_one_turn
from maskwright.errors import PolicyError
from maskwright.vocabulary import Vocabulary


@dataclass(frozen=True)
class Later(Select):
    """Single tokens by chance, the later in their sample the likelier.

    Maskable token ``i`` of ``m`` (from 0) is drawn with probability ``2 * rate * (i + 1/2) / m``,
    at most 1: a straight line whose mean is ``rate`` as long as ``rate`` is at most one half. A
    decoder's own errors grow along its sentence, so that is where its inputs are to be trusted
    least. The draws are those of `Tokens`; there is no exact budget. Ours.

    Raises (when called):
        PolicyError: the policy is exact, or goes through a sample without replacement.
    """

    def __call__(self, batch: TokenBatch, vocabulary: Vocabulary, draw: Draw) -> Selection:
        require_one_turn(draw, self)
        if draw.exact:
            raise PolicyError(
                f"The select {self} draws each token at a rate of its own and has no exact budget. "
                "Use exact=False, or Suffix() for the last tokens alone."
            )
        places = np.flatnonzero(eligible(batch, vocabulary))
        rows = batch.tokens.rows[places]
        many = np.bincount(rows, minlength=len(batch))
        rank = np.arange(len(places)) - (np.cumsum(many) - many)[rows]
        rates = np.minimum(1.0, 2 * draw.rates[rows] * (rank + 0.5) / many[rows])
        keys = draw.keys(batch, randomness.SELECT)[rows]
        drawn = randomness.draw_array(keys, batch.tokens.positions[places]) >> np.uint64(11)
        return Selection(places[drawn < np.round(rates * 2.0**53).astype(np.uint64)])

    def __str__(self) -> str:
        return "later tokens"


@dataclass(frozen=True)
class Longer(Select):
    """Another select, at a rate that grows with the length of the sample.

    The rate of a sample with ``m`` maskable tokens is ``rate * min(1, m / full)``: short samples
    keep what little context they have. `MaskPlan.rates` says the policy's rate, as with
    `Select.at`. Ours.

    Args:
        select: what draws at that rate.
        full: maskable tokens from which on a sample has the whole rate, at least 1.

    Raises:
        PolicyError: ``select`` is none, or ``full`` is below 1; when called: the policy goes
            through a sample without replacement.
    """

    select: Select
    full: int = 20

    def __post_init__(self) -> None:
        if not isinstance(self.select, Select):
            raise PolicyError(f"Longer.select got {self.select!r}, which is no select.")
        if not self.full >= 1:
            raise PolicyError(f"Longer.full counts tokens and must be at least 1: {self.full!r}.")

    def __call__(self, batch: TokenBatch, vocabulary: Vocabulary, draw: Draw) -> Selection:
        require_one_turn(draw, self)
        rows = batch.tokens.rows[eligible(batch, vocabulary)]
        many = np.bincount(rows, minlength=len(batch))
        share = np.minimum(1.0, many / self.full)
        return self.select(batch, vocabulary, replace(draw, high=draw.rates * share))

    def __str__(self) -> str:
        return f"{self.select}, all from length {self.full}"
