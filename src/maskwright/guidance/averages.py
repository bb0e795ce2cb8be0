"""How the new scores of a token join its old ones. Pure functions of arrays.

Scores rest in half precision and are averaged in single. NaN among the new ones (a token that was
not scored this time) leaves what is there. Beyond ±65,504, where half precision ends, a score is
kept as that number.
"""

from __future__ import annotations

import numpy as np

_LIMIT = np.float32(np.finfo(np.float16).max)


def half(scores: np.ndarray) -> np.ndarray:
    """Rounded to the nearest float16, never to infinity; NaN stays."""
    return np.clip(scores, -_LIMIT, _LIMIT).astype(np.float16)


def join_average(old: np.ndarray, new: np.ndarray, first: np.ndarray, decay: float) -> np.ndarray:
    """``decay * old + (1 - decay) * new``; ``new`` where the visit is the first or ``old`` is NaN.

    Args:
        old: ``(N,)`` float16.
        new: ``(N,)`` float32.
        first: ``(N,)`` bool.

    Returns:
        ``(N,)`` float16.
    """
    before = old.astype(np.float32)
    new = np.clip(new, -_LIMIT, _LIMIT)
    mixed = np.float32(decay) * before + np.float32(1 - decay) * new
    mixed = np.where(first | np.isnan(before), new, mixed)
    return half(np.where(np.isnan(new), before, mixed))


def join_window(planes: np.ndarray, new: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Each token forgets its oldest score and takes the new one.

    Args:
        planes: ``(k, N)`` float16, the last k scores of each token, the newest last.
        new: ``(N,)`` float32.
        first: ``(N,)`` bool; there a new score takes the place of all that came before.

    Returns:
        ``(k, N)`` float16.
    """
    moved = np.empty_like(planes)
    moved[:-1] = np.where(first, np.float16(np.nan), planes[1:])
    moved[-1] = half(new)
    return np.where(np.isnan(new), planes, moved)


def mean(planes: np.ndarray) -> np.ndarray:
    """The mean of each token's scores, ``(k, N)`` float16 → ``(N,)`` float32; NaN if none."""
    if len(planes) == 1:
        return planes[0].astype(np.float32)
    scores = planes.astype(np.float32)  # numpy looks at single precision several times faster
    known = ~np.isnan(scores)
    total = np.where(known, scores, np.float32(0)).sum(axis=0)
    count = known.sum(axis=0, dtype=np.float32)
    return np.where(count == 0, np.float32(np.nan), total / np.maximum(count, np.float32(1)))
