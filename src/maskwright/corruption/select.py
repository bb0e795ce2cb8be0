"""Which tokens are selected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from maskwright import randomness
from maskwright.batch import TokenBatch


@runtime_checkable
class Select(Protocol):
    """Chooses positions of a batch."""

    def positions(
        self,
        batch: TokenBatch,
        maskable: np.ndarray,
        *,
        rate: float,
        exact: bool,
        at_least: int,
        run_key: int,
    ) -> np.ndarray:
        """The selected positions, counted through the whole batch: ``(K,)`` int64, rising.

        Args:
            batch: ``N`` tokens.
            maskable: ``(V,)`` bool, by token id.
            rate: share of the maskable tokens to select.
            exact: an exact number per sample instead of independent draws.
            at_least: with ``exact``, the fewest per sample that has as many maskable tokens.
            run_key: of `randomness.run_key`.
        """
        ...


@dataclass(frozen=True)
class Tokens:
    """Single tokens by chance.

    Independent draws with probability ``rate``; with ``exact``, ``rate`` times the sample's
    maskable tokens, rounded up or down by chance so that the mean is exact, without replacement.
    """

    def positions(
        self,
        batch: TokenBatch,
        maskable: np.ndarray,
        *,
        rate: float,
        exact: bool,
        at_least: int,
        run_key: int,
    ) -> np.ndarray:
        # numba takes a third of a second to import: only those who draw masks wait for it
        from maskwright.corruption import kernels

        tokens = batch.tokens
        protected = kernels.NOTHING if batch.protected is None else batch.protected.values
        out = np.empty(len(tokens.values), np.int64)
        if exact:
            count = kernels.select_exact(
                tokens.values, tokens.offsets, batch.sample_ids, np.uint64(run_key), rate, at_least,
                maskable, protected, out,
            )  # fmt: skip
        else:
            count = kernels.select_independent(
                tokens.values, tokens.offsets, batch.sample_ids, np.uint64(run_key),
                np.uint64(randomness.threshold(rate)), maskable, protected, out,
            )  # fmt: skip
        return out[:count]

    def __str__(self) -> str:
        return "tokens"
