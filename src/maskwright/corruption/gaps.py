"""Places between tokens, to put noise into."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from maskwright import randomness
from maskwright.batch import TokenBatch
from maskwright.corruption.select import Select, thresholds
from maskwright.corruption.selection import Draw, Selection, eligible
from maskwright.corruption.structure import turn_bounds
from maskwright.vocabulary import Vocabulary


@dataclass(frozen=True)
class Gaps(Select):
    """Empty units in ``rate`` of the gaps: token insertion (fairseq's denoising task).

    A gap lies before each maskable token, and between a maskable token and the special or protected
    one after it; it takes at most one insert. A sample that ends with a maskable token has no gap
    after it. What is put in follows the acts of the policy: a random token in the share of
    `Random`, else the mask token. No token is selected, and so none is predicted.

    Independent draws with probability ``rate``; with ``exact``, ``rate`` times the sample's gaps,
    rounded up or down by chance.
    """

    def __call__(self, batch: TokenBatch, vocabulary: Vocabulary, draw: Draw) -> Selection:
        tokens, allowed = batch.tokens, eligible(batch, vocabulary)
        rows, places = tokens.rows, tokens.positions
        gaps = allowed.copy()
        gaps[1:] |= allowed[:-1] & (places[1:] > 0)
        where = np.flatnonzero(gaps)
        rows, places = rows[where], places[where]
        draws = randomness.draw_array(draw.keys(batch, randomness.SELECT)[rows], places)
        if draw.exact:
            taken = _ranked(draws, rows, gaps, batch, draw)
        else:
            low, high = thresholds(draw)
            draws = draws >> np.uint64(11)
            taken = (low[rows] <= draws) & (draws < high[rows])
        return Selection(np.empty(0, np.int64), inserts=where[taken])

    def __str__(self) -> str:
        return "gaps"


def _ranked(
    draws: np.ndarray, rows: np.ndarray, gaps: np.ndarray, batch: TokenBatch, draw: Draw
) -> np.ndarray:
    """Those whose draws are the smallest of their sample; in later turns, the next ones."""
    many = np.bincount(rows, minlength=len(batch))
    order = np.lexsort((draws, rows))
    ranks = np.empty(len(draws), np.int64)
    ranks[order] = np.arange(len(draws)) - (np.cumsum(many) - many)[rows]
    skipped, reached = turn_bounds(draw, batch, gaps)
    return (skipped[rows] <= ranks) & (ranks < reached[rows])
