"""In which order the tokens of a sample are read after corruption."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np

from maskwright.batch import TokenBatch
from maskwright.vocabulary import Vocabulary


@runtime_checkable
class Arrange(Protocol):
    """Rearranges the tokens of each sample; special tokens stay where they are."""

    def __call__(self, batch: TokenBatch, vocabulary: Vocabulary, run_key: int) -> np.ndarray:
        """``(N,)`` int64: for each place of the batch, the position that is read there; a
        permutation within each sample."""
        ...
