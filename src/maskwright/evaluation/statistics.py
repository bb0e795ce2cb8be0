"""Intervals by the bootstrap, over seeds and over documents at once.

A result varies with the seed (initial weights, sample order) and with the documents it is judged
on. Both are resampled, independently of each other: the crossed bootstrap of Owen 2007 ("The
pigeonhole bootstrap"). Differences are taken within a seed and a document before resampling, so
that what two policies share cancels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import bootstrap

RESAMPLES = 2000
CONFIDENCE = 0.95
_AT_A_TIME = 20_000_000  # numbers gathered at a time: 160 MB


@dataclass(frozen=True)
class Interval:
    """A mean with its interval; ``None`` where nothing could be resampled."""

    mean: float
    low: float | None
    high: float | None


def interval(sums: np.ndarray, counts: np.ndarray) -> Interval:
    """The mean per position, with its interval.

    Args:
        sums: ``(S, D)``: of each seed, the sum over the positions of each document.
        counts: ``(D,)``: positions of each document.
    """
    seeds, documents = sums.shape

    def mean(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Of resamples ``(..., S)`` and ``(..., D)``."""
        total = sums[rows[..., :, None], columns[..., None, :]].sum(axis=(-1, -2))
        return total / (rows.shape[-1] * counts[columns].sum(axis=-1))

    return crossed(mean, seeds, documents)


# Of resamples of the seeds ``(..., S)`` and the documents ``(..., D)``, as indices: a number each.
Statistic = Callable[[np.ndarray, np.ndarray], np.ndarray]


def crossed(statistic: Statistic, seeds: int, documents: int) -> Interval:
    """Any statistic of seeds and documents, with its interval."""
    all_rows, all_columns = np.arange(seeds), np.arange(documents)
    point = float(statistic(all_rows, all_columns))
    settings = {
        "n_resamples": RESAMPLES,
        "confidence_level": CONFIDENCE,
        "method": "percentile",
        "vectorized": True,
        "batch": max(1, min(RESAMPLES, _AT_A_TIME // (seeds * documents))),
        "rng": np.random.default_rng(0),
    }
    if seeds > 1 and documents > 1:
        result = bootstrap(
            (all_rows, all_columns), lambda r, c, axis: statistic(r, c), paired=False, **settings
        )
    elif documents > 1:
        result = bootstrap((all_columns,), lambda c, axis: statistic(_one(c), c), **settings)
    elif seeds > 1:
        result = bootstrap((all_rows,), lambda r, axis: statistic(r, _one(r)), **settings)
    else:
        return Interval(point, None, None)
    low, high = result.confidence_interval
    return Interval(point, float(low), float(high))


def _one(resamples: np.ndarray) -> np.ndarray:
    """The index 0 for each resample, for the axis that has one member."""
    return np.zeros((*resamples.shape[:-1], 1), np.int64)


def verdict(
    difference: Interval, per_seed: list[float], *, lower_is_better: bool, least: float = 0.0
) -> str:
    """``better``, ``worse`` or ``no difference`` than the reference.

    A difference counts when its interval leaves zero out *and* every seed shows its sign: with few
    seeds the bootstrap's interval is too narrow, and a single seed must not decide.

    Args:
        least: a mean that is nearer to zero is no difference, whatever its sign: two runs whose
            masks are the same differ by rounding, and rounding has a sign too.
    """
    if abs(difference.mean) < least:
        return "no difference"
    if difference.low is None or difference.high is None or len(per_seed) < 2:
        return "no difference"
    if difference.low > 0 and min(per_seed) > 0:
        return "worse" if lower_is_better else "better"
    if difference.high < 0 and max(per_seed) < 0:
        return "better" if lower_is_better else "worse"
    return "no difference"
