"""How the rows of a block map are cut into spans, each of them one call of a kernel.

A span of many rows needs every key that one of its rows needs; a span of few rows wastes less
and costs more calls. Halves are joined, from the leaves of a binary tree upwards, where the
whole is expected to take less time than its two halves.

The cost of a span is measured, not derived: forward and backward of torch 2.13's fused CPU
kernels with 8 heads of 64 dimensions on one thread of an AMD EPYC 9004 (AVX-512, no AMX), taken
as in ``benchmarks/attention.py``. Only proportions matter, and they are flat enough that another
machine loses some percent, no more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

# Nanoseconds for one pair of one head, by the rows of a call: the least rows, then the time.
_SINGLE = ((1, 22.0), (32, 18.0), (64, 13.8), (128, 13.4), (256, 12.3), (512, 12.0), (1024, 12.0))
# Half types below `NATIVE_ROWS` are worked out in single precision; from there in their own.
_HALF = ((1, 22.0), (32, 18.3), (64, 14.1), (128, 13.7), (256, 12.6), (512, 12.3), (1024, 10.0))
# The kernels take 256 rows at a time from this many on, 64 or 32 below. In half types a piece of
# fewer rows took 14 to 22 ns for a pair, more than in single precision.
NATIVE_ROWS = 768
# Nanoseconds for one key of one head: its gradients are added to those of other spans.
_KEY = 150.0
# Nanoseconds for a call and its backward, shared by the 8 heads of the measurement.
_CALL = 12_500.0
_MOST_ROWS = 1024


@dataclass(frozen=True)
class Rows:
    """Rows ``start`` to ``stop`` of the queries, as tokens; and the key blocks they touch."""

    start: int
    stop: int
    blocks: np.ndarray
    """``(kv blocks,)`` Boolean: some row of the span may need some key of the block."""


def pair_cost(rows: int, dtype: torch.dtype) -> float:
    """Nanoseconds for a pair of a call with so many rows."""
    table = _HALF if dtype in (torch.bfloat16, torch.float16) else _SINGLE
    return [cost for least, cost in table if least <= max(rows, 1)][-1]


def split_pays(rows: int, full: int) -> bool:
    """Whether keys that need no mask are worth a call of their own.

    A mask adds about 8% to the pairs of a call. A second call costs `_CALL`, and for each row
    about 0.5 µs to merge the two outputs and to read the query and its gradient once more.
    """
    return 0.08 * 12.0 * rows * full > _CALL + 500.0 * rows


def cut_rows(
    touched: np.ndarray, q: int, kv: int, size: tuple[int, int], dtype: torch.dtype
) -> list[Rows]:
    """The spans of one map, from the first row to the last; rows that touch nothing are in none.

    Args:
        touched: ``(q blocks, kv blocks)`` Boolean: the block has work in it.
        q, kv: tokens of each axis.
        size: tokens of a block on each axis; spans are these times a power of two.
        dtype: of the queries, for the cost.
    """
    levels = _tree(touched, q, kv, size, dtype)
    spans: list[Rows] = []

    def descend(depth: int, number: int) -> None:
        level = levels[depth]
        if number >= len(level.best) or not level.touched[number].any():
            return
        if depth == 0 or level.whole[number]:
            start = number * level.rows
            spans.append(Rows(start, min(start + level.rows, q), level.touched[number]))
        else:
            descend(depth - 1, 2 * number)
            descend(depth - 1, 2 * number + 1)

    for number in range(len(levels[-1].best)):
        descend(len(levels) - 1, number)
    return spans


def expected(
    touched: np.ndarray, q: int, kv: int, size: tuple[int, int], dtype: torch.dtype
) -> float:
    """The time of the spans of `cut_rows`, as a share of that of all pairs in one call.

    Args: as of `cut_rows`.
    """
    if not touched.size:
        return 0.0
    time = _tree(touched, q, kv, size, dtype)[-1].best.sum()
    return float(time / (q * kv * pair_cost(_MOST_ROWS, dtype)))


def _tree(
    touched: np.ndarray, q: int, kv: int, size: tuple[int, int], dtype: torch.dtype
) -> list[_Level]:
    """The levels of the binary tree over rows, from its leaves upwards."""
    widths = _lengths(kv, size[1])
    levels = [_Level.leaves(touched, widths, _lengths(q, size[0]), size[0], dtype)]
    while levels[-1].rows < _MOST_ROWS and len(levels[-1].best) > 1:
        levels.append(levels[-1].joined(widths, dtype))
    return levels


@dataclass(frozen=True)
class _Level:
    """Nodes of one size. ``rows``: tokens of a node; ``lengths``: those that there are."""

    rows: int
    lengths: np.ndarray
    touched: np.ndarray
    best: np.ndarray
    """What a node costs at the least, as a whole or in parts."""
    whole: np.ndarray
    """Whether it costs the least as a whole."""

    @classmethod
    def leaves(
        cls,
        touched: np.ndarray,
        widths: np.ndarray,
        lengths: np.ndarray,
        rows: int,
        dtype: torch.dtype,
    ) -> _Level:
        best = _cost(touched, widths, lengths, rows, dtype)
        return cls(rows, lengths, touched, best, np.ones(len(best), bool))

    def joined(self, widths: np.ndarray, dtype: torch.dtype) -> _Level:
        touched = np.logical_or.reduce(_pairs(self.touched), axis=1)
        lengths = _pairs(self.lengths).sum(1)
        whole = _cost(touched, widths, lengths, 2 * self.rows, dtype)
        parts = _pairs(self.best).sum(1)
        return _Level(2 * self.rows, lengths, touched, np.minimum(whole, parts), whole <= parts)


def _cost(
    touched: np.ndarray, widths: np.ndarray, lengths: np.ndarray, rows: int, dtype: torch.dtype
) -> np.ndarray:
    keys = touched @ widths
    return (lengths * pair_cost(rows, dtype) + _KEY) * keys + _CALL * (keys > 0)


def _pairs(values: np.ndarray) -> np.ndarray:
    """Two neighbours side by side, ``(n / 2, 2, …)``; the last may stand beside zeros."""
    missing = np.zeros((len(values) % 2, *values.shape[1:]), values.dtype)
    values = np.concatenate((values, missing))
    return values.reshape(len(values) // 2, 2, *values.shape[1:])


def _lengths(length: int, size: int) -> np.ndarray:
    starts = np.arange(0, length, size)
    return np.minimum(length - starts, size).astype(np.float64)
