"""Hashes of words and of runs of words, and their look-up. Compiled by numba.

A word's hash absorbs its token ids one after another, from 0; the hash of a run of words absorbs
theirs. So a run of one word never has the hash of that word, and each run is one step from the
one that is a word shorter.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from maskwright.corruption.kernels import mix
from maskwright.corruption.unit_kernels import BEGINS, GOES_ON, NO
from maskwright.randomness import GAMMA

_GAMMA = np.uint64(GAMMA)


@njit(cache=True, nogil=True)
def absorb(key, word):
    """`randomness.absorb`."""
    return mix(key ^ mix(word + _GAMMA))


@njit(cache=True, nogil=True)
def words_of(values, offsets, marks, hashes, begins, apart):
    """The hash of each unit of ``marks``, its first position, and whether it does not follow the
    unit before it at once; returns how many."""
    count = 0
    for row in range(len(offsets) - 1):
        ends = np.int64(-1)
        for position in range(offsets[row], offsets[row + 1]):
            mark = marks[position]
            if mark == BEGINS:
                hashes[count] = 0
                begins[count] = position
                apart[count] = ends != position
                count += 1
            if mark != NO:
                hashes[count - 1] = absorb(hashes[count - 1], np.uint64(values[position]))
                ends = position + 1
    return count


@njit(cache=True, nogil=True)
def holds(known, index, shift, wanted):
    """Whether ``wanted`` is among the sorted ``known``; ``index`` says where high bits begin."""
    bucket = np.int64(wanted >> np.uint64(shift))
    for i in range(index[bucket], index[bucket + 1]):  # noqa: SIM110 (a generator, to numba)
        if known[i] == wanted:
            return True
    return False


@njit(cache=True, nogil=True)
def join(hashes, begins, apart, many, known, index, shift, longest, marks):
    """Marks the words of each known run as one unit: from the left, the longest first."""
    word = 0
    while word < many:
        run = np.uint64(0)
        size = 1
        for length in range(1, longest + 1):
            i = word + length - 1
            if i >= many or (length > 1 and apart[i]):
                break
            run = absorb(run, hashes[i])
            if length > 1 and holds(known, index, shift, run):
                size = length
        for i in range(word + 1, word + size):
            marks[begins[i]] = GOES_ON
        word += size
