"""First-fit packing as a stream, with a bounded number of open bins.

A sample goes into the oldest open bin that has room for it. Where none has, a new bin is opened,
and if as many are open as may be, the fullest is closed first. A bin is also closed when not even
the shortest sample would fit. Bins come out in the order in which they were closed.

Source: bounded-space on-line bin packing; closing the fullest as in Csirik and Johnson 2001,
"Bounded space on-line bin packing: best is better than first", Algorithmica 31.
"""

from __future__ import annotations

import numpy as np
from numba import njit


class FirstFit:
    """Bins that are filled with one run of samples after another.

    Args:
        budget: what a bin holds.
        open_bins: how many may be open at a time: the look-ahead.
        shortest: length of the shortest sample that can come.

    >>> packing = FirstFit(10, open_bins=2)
    >>> [bin.tolist() for bin in packing.put(np.arange(4), np.array([6, 7, 4, 2]))]
    [[0, 2]]
    >>> [bin.tolist() for bin in packing.rest()]
    [[1, 3]]
    """

    def __init__(self, budget: int, *, open_bins: int, shortest: int = 1) -> None:
        self._budget, self._shortest = budget, shortest
        # of the open bins, the oldest first: the room that they have left, and their numbers
        self._room = np.empty(open_bins, np.int64)
        self._open = np.empty(open_bins, np.int64)
        self._counts = np.zeros(2, np.int64)  # bins that are open, bins that ever were
        # the samples of open bins in the order in which they came, and the bin of each
        self._samples = np.empty(0, np.int64)
        self._bins = np.empty(0, np.int64)

    @property
    def bins(self) -> int:
        """How many bins there are so far, open ones with them."""
        return int(self._counts[1])

    def put(self, samples: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
        """The bins that are closed by these samples, each as its samples in their order.

        Args:
            samples: ``(n,)`` int64.
            lengths: ``(n,)`` int64, each at most the budget.
        """
        placed, closed = self._place(lengths)
        self._samples = np.concatenate([self._samples, samples])
        self._bins = np.concatenate([self._bins, placed])
        return self._take(closed)

    def count(self, lengths: np.ndarray) -> None:
        """As `put`, for those who ask for `bins` only: no sample is kept."""
        self._place(lengths)

    def rest(self) -> list[np.ndarray]:
        """The bins that are open still, the oldest first; they are closed."""
        left = self._open[: self._counts[0]].copy()
        self._counts[0] = 0
        return self._take(left)

    def _place(self, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        placed = np.empty(len(lengths), np.int64)
        closed = np.empty(len(lengths) + len(self._open), np.int64)
        number = _first_fit(
            lengths, self._budget, self._shortest,
            self._room, self._open, self._counts, placed, closed,
        )  # fmt: skip
        return placed, closed[:number]

    def _take(self, closed: np.ndarray) -> list[np.ndarray]:
        """The samples of each closed bin; they are let go of."""
        if not len(closed):
            return []
        by_number = np.argsort(closed)
        place = np.minimum(
            np.searchsorted(closed, self._bins, sorter=by_number), len(closed) - 1
        )  # of each sample's bin, if it is closed
        turn = by_number[place]
        gone = closed[turn] == self._bins
        turn, samples = turn[gone], self._samples[gone]
        self._samples, self._bins = self._samples[~gone], self._bins[~gone]
        samples = samples[np.argsort(turn, kind="stable")]
        ends = np.cumsum(np.bincount(turn, minlength=len(closed)))
        return np.split(samples, ends[:-1])


@njit(nogil=True, cache=True)
def _first_fit(lengths, budget, shortest, room, numbers, counts, placed, closed):
    opened, ever = counts[0], counts[1]
    done = 0
    for sample in range(len(lengths)):
        length = lengths[sample]
        at = 0
        while at < opened and room[at] < length:
            at += 1
        if at == opened:
            if opened == len(room):
                fullest = 0
                for other in range(1, opened):
                    if room[other] < room[fullest]:
                        fullest = other
                closed[done] = numbers[fullest]
                done += 1
                opened = _remove(fullest, opened, room, numbers)
                at = opened
            room[at], numbers[at] = budget, ever
            opened, ever = opened + 1, ever + 1
        room[at] -= length
        placed[sample] = numbers[at]
        if room[at] < shortest:
            closed[done] = numbers[at]
            done += 1
            opened = _remove(at, opened, room, numbers)
    counts[0], counts[1] = opened, ever
    return done


@njit(nogil=True, cache=True)
def _remove(at, opened, room, numbers):  # the others stay in the order of their age
    for later in range(at + 1, opened):
        room[later - 1], numbers[later - 1] = room[later], numbers[later]
    return opened - 1
