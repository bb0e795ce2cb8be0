"""Which samples go to which shard: it follows from their lengths alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate

import numpy as np

from maskwright.data.prepare.tasks import Slice


def shard_ends(offsets: Iterable[np.ndarray], target: int) -> list[int]:
    """Samples in the first shard, in the first two, and so on.

    A shard takes as many samples as hold at most ``target`` tokens together, the last what is left.

    Args:
        offsets: of the samples of each chunk, ``(n + 1,)`` each from 0.
        target: at least the tokens of the longest sample.
    """
    ends, samples, free = [], 0, target
    for chunk in offsets:
        place, many = 0, len(chunk) - 1
        while place < many:
            stop = int(np.searchsorted(chunk, chunk[place] + free, side="right")) - 1
            free -= int(chunk[stop] - chunk[place])
            if stop < many:
                ends.append(samples + stop)
                free = target
            place = stop
        samples += many
    if samples and (not ends or ends[-1] < samples):
        ends.append(samples)
    return ends


def slices_of(
    ends: Sequence[int], samples: Sequence[int], kept: Sequence[int]
) -> list[tuple[Slice, ...]]:
    """Of each shard, the parts of chunks that it is made of.

    Args:
        ends: of `shard_ends`.
        samples: of each piece.
        kept: documents of each piece.
    """
    borders = np.array([0, *accumulate(samples)])
    documents = [0, *accumulate(kept)]
    shards, start = [], 0
    for end in ends:
        parts = []
        piece = int(np.searchsorted(borders, start, side="right")) - 1
        while borders[piece] < end:
            first = max(start, int(borders[piece])) - int(borders[piece])
            last = min(end, int(borders[piece + 1])) - int(borders[piece])
            if last > first:  # a piece may be empty
                parts.append(Slice(piece, first, last, documents[piece]))
            piece += 1
        shards.append(tuple(parts))
        start = end
    return shards
