"""What a select is given, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from maskwright import randomness
from maskwright.batch import TokenBatch
from maskwright.clock import Clock
from maskwright.vocabulary import Vocabulary


@dataclass(frozen=True, eq=False)
class Draw:
    """How a select is to draw, for the ``B`` samples of a batch.

    A unit (a token, a word, a span) whose uniform draw is ``u`` is selected where
    ``low <= u < high``. ``high - low`` is the rate. ``low`` is 0 but for policies that go through
    a sample without replacement: in turn ``j`` they take the draws from ``j * rate`` on, so that
    every unit has its turn exactly once.

    Args:
        run_key: of `randomness.run_key`; a part of a composed select gets a key of its own.
        low, high: ``(B,)`` float64, ``0 <= low <= high <= 1``.
        exact: an exact number per sample instead of independent draws.
        at_least: with ``exact``, the fewest tokens per sample that has as many.
        clock: the moment.
        covering: whether every unit is to have its turn, as ``low`` goes on: also where it is 0.
    """

    run_key: int
    low: np.ndarray
    high: np.ndarray
    exact: bool
    at_least: int
    clock: Clock
    covering: bool = False

    @property
    def rates(self) -> np.ndarray:
        """``(B,)`` float64."""
        return self.high - self.low

    def keys(self, batch: TokenBatch, purpose: int) -> np.ndarray:
        """One key per sample for one purpose, ``(B,)`` uint64."""
        return randomness.sample_keys(self.run_key, batch.sample_ids, purpose)

    def uniforms(self, batch: TokenBatch, purpose: int) -> np.ndarray:
        """One uniform in [0, 1) per sample, ``(B,)`` float64."""
        keys = self.keys(batch, purpose)
        draws = randomness.mix_array(keys + np.uint64(randomness.GAMMA))
        return (draws >> np.uint64(11)).astype(np.float64) * 2.0**-53


@dataclass(frozen=True, eq=False)
class Selection:
    """The tokens that were selected.

    Args:
        positions: ``(K,)`` int64, rising, counted through the whole batch.
        units: ``(K,)`` int64, never falling: which unit (word, span) each belongs to; one act is
            drawn for a unit. ``None``: each token is a unit.
        inserts: ``(I,)`` int64, never falling: places before which an empty unit stands (a
            text-infilling span of length 0).
    """

    positions: np.ndarray
    units: np.ndarray | None = None
    inserts: np.ndarray | None = None


def eligible(batch: TokenBatch, vocabulary: Vocabulary) -> np.ndarray:
    """Which tokens may be selected, ``(N,)`` bool: neither special nor protected."""
    allowed = vocabulary.maskable[batch.tokens.values]
    if batch.protected is not None:
        allowed &= batch.protected.values == 0
    return allowed


def budgets(draw: Draw, batch: TokenBatch, allowed: np.ndarray) -> np.ndarray:
    """The exact number of tokens to select in each sample, ``(B,)`` int64.

    ``floor(rate * m + u)`` of ``m`` allowed tokens, with one uniform ``u`` a sample, so that the
    mean is exactly ``rate * m``; at least ``min(at_least, m)``.
    """
    many = np.bincount(batch.tokens.rows[allowed], minlength=len(batch))
    wanted = np.floor(draw.rates * many + draw.uniforms(batch, randomness.ROUND)).astype(np.int64)
    return np.minimum(np.maximum(wanted, draw.at_least), many)
