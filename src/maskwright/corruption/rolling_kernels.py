"""The tiles of a rolling window, compiled by numba. `reference_rolling.py` says the same slowly."""

from __future__ import annotations

import numpy as np
from numba import njit

from maskwright.corruption.kernels import draw, sample_key
from maskwright.randomness import TILE


@njit(cache=True, nogil=True)
def cut(offsets, sample_ids, width, epoch, first, starts, ids):
    """Writes the first tile of each sample, and the begin and the id of each tile; gives how many.

    A tile's id is a hash of its sample, its number and the epoch whose draw it has, 63 bits.
    """
    count = 0
    for row in range(len(offsets) - 1):
        first[row] = count
        size = offsets[row + 1] - offsets[row]
        tiles = (size + width - 1) // width
        key = sample_key(np.uint64(0), np.uint64(sample_ids[row]), np.uint64(TILE))
        for tile in range(tiles):
            starts[count] = offsets[row] + tile * width
            drawn = max(epoch - (epoch - tile) % tiles, 0)
            counter = np.uint64(tile) + (np.uint64(drawn) << np.uint64(32))
            ids[count] = np.int64(draw(key, counter) >> np.uint64(1))
            count += 1
    first[len(offsets) - 1] = count
    return count
