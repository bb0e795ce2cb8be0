"""How often each token was selected: what a refresh does to a sample over the epochs."""

from __future__ import annotations

import numpy as np

from maskwright.batch import TokenBatch
from maskwright.clock import Clock
from maskwright.corruption.masking import Masking
from maskwright.errors import ConfigError
from maskwright.ragged import Ragged


def coverage(masking: Masking, batch: TokenBatch, epochs: int, *, seed: int = 0) -> Ragged:
    """How often each token of ``batch`` was selected over the first ``epochs`` epochs, int64.

    Args:
        masking: a bound policy. One that asks for the optimizer step or for progress (a schedule,
            `EverySteps`) raises: an epoch does not say which.
        epochs: at least 0.
        seed: of the masks.
    """
    if epochs < 0:
        raise ConfigError(f"coverage counts over at least 0 epochs, got {epochs}.")
    counts = np.zeros(len(batch.tokens.values), np.int64)
    for epoch in range(epochs):
        plan = masking.plan(batch, Clock(seed, epoch, None))
        counts[plan.positions] += 1
    return batch.tokens.like(counts)
