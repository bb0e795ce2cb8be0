"""What gives the scores of samples: a store, a column that somebody has, or statistics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from maskwright.batch import TokenBatch
from maskwright.errors import BatchError, SampleIdError
from maskwright.ragged import Ragged


@runtime_checkable
class ScoreReader(Protocol):
    """Anything that gives the scores of samples by their ids."""

    def read(self, sample_ids: np.ndarray) -> Ragged:
        """``(B,)`` ids → ``B`` rows of float32, one score a token; NaN where there is none."""
        ...


class Scorer(Protocol):
    """Anything that gives the scores of a batch by its tokens."""

    def scores(self, batch: TokenBatch) -> Ragged:
        """The rows of ``batch.tokens``, float32; NaN where nothing is known."""
        ...


class Samples(Protocol):
    """A token table."""

    def batch(self, sample_ids: np.ndarray) -> TokenBatch: ...


@dataclass(frozen=True, eq=False)
class KnownScores:
    """Scores that somebody has: a column of a data set, the output of a tagger.

    Args:
        scores: row ``i`` is sample ``i``, one number a token; NaN where there is none.

    >>> KnownScores(Ragged.from_lists([[0.5, 1.0], [2.0]], float)).read(np.array([1])).to_lists()
    [[2.0]]
    """

    scores: Ragged

    def __post_init__(self) -> None:
        if self.scores.values.dtype.kind not in "biuf":
            raise BatchError(f"KnownScores takes numbers, got {self.scores.values.dtype}.")

    def read(self, sample_ids: np.ndarray) -> Ragged:
        rows = self.scores.take(check_ids(sample_ids, len(self.scores), "KnownScores.read"))
        return rows.like(rows.values.astype(np.float32))


@dataclass(frozen=True, eq=False)
class FromTokens:
    """A `ScoreReader` that scores the tokens of the samples it is asked for.

    Args:
        scorer: such as `InverseDocumentFrequency`.
        samples: a token table, or `Ragged` tokens whose row ``i`` is sample ``i``.
    """

    scorer: Scorer
    samples: Samples | Ragged

    def read(self, sample_ids: np.ndarray) -> Ragged:
        if isinstance(self.samples, Ragged):
            ids = check_ids(sample_ids, len(self.samples), "FromTokens.read")
            return self.scorer.scores(TokenBatch(self.samples.take(ids), ids))
        return self.scorer.scores(self.samples.batch(sample_ids))


def check_ids(sample_ids: np.ndarray, samples: int, where: str) -> np.ndarray:
    """The ids as int64, or `SampleIdError` where one is no row of ``samples``."""
    ids = np.asarray(sample_ids)
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise SampleIdError(
            f"{where} takes one axis of integer sample ids, got {ids.dtype} of shape {ids.shape}."
        )
    if len(ids) and not 0 <= ids.min() <= ids.max() < samples:
        wrong = ids.min() if ids.min() < 0 else ids.max()
        raise SampleIdError(
            f"{where}: sample id {wrong} is outside 0 … {samples - 1}. Scores belong to the "
            "samples of one table: give those of the table you train on."
        )
    return ids.astype(np.int64)
