"""The order in which samples are visited: a keyed permutation, computed index by index.

Nothing is stored and nothing is shuffled: the sample at place ``i`` of epoch ``e`` is a function of
(seed, epoch, number of samples, ``i``). So the order is the same for any number of workers and
ranks, a run resumes at any place, and a data set of 10¹² samples needs no memory for it.

Source: Luby and Rackoff 1988 (a Feistel network of keyed rounds is a permutation), with the cycle
walking of Black and Rogaway 2002 to fit it to any size.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from maskwright import randomness

_ROUNDS = 6
_CHUNK = 1 << 14


def permute(places: np.ndarray, size: int, key: int) -> np.ndarray:
    """The samples at ``places``, each below ``size``; a bijection of ``0 … size - 1``, int64."""
    half = np.uint64(max(1, (max(size - 1, 1).bit_length() + 1) // 2))
    low = np.uint64((1 << int(half)) - 1)
    keys = [np.uint64(randomness.absorb(key, number)) for number in range(_ROUNDS)]
    out = places.astype(np.uint64)
    walking = np.ones(len(out), bool)
    while walking.any():
        left, right = out[walking] >> half, out[walking] & low
        for round_key in keys:
            left, right = right, left ^ (randomness.mix_array(right ^ round_key) & low)
        out[walking] = (left << half) | right
        walking = out >= size
    return out.astype(np.int64)


def visit(size: int, *, seed: int, epoch: int) -> Iterator[int]:
    """The samples of one epoch in their order."""
    for samples in chunks(size, seed=seed, epoch=epoch):
        yield from samples.tolist()


def chunks(size: int, *, seed: int, epoch: int) -> Iterator[np.ndarray]:
    """As `visit`, many at a time: ``(n,)`` int64."""
    key = randomness.absorb(randomness.run_key(seed, randomness.ORDER, epoch), size)
    for places in in_turn(size):
        yield permute(places, size, key)


def in_turn(size: int) -> Iterator[np.ndarray]:
    """0, 1, 2, … up to ``size``, many at a time."""
    for first in range(0, size, _CHUNK):
        yield np.arange(first, min(first + _CHUNK, size))
