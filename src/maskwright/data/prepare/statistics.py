"""Token statistics of all pieces, from those of each."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from maskwright.guidance.statistics import TokenStatistics


def added(parts: Iterable[TokenStatistics], size: int) -> TokenStatistics:
    """The statistics of several corpora together, no document of which is in two of them.

    Held in memory: 16 bytes for each id and for each distinct pair, twice while they are merged.

    Args:
        size: ids of the vocabulary, for the case that there is no part.
    """
    # Like the carries of a binary counter: sums of as many parts each are added to each other, so
    # that pairs are sorted a logarithmic number of times.
    levels: dict[int, TokenStatistics] = {}
    for total in parts:
        level = 0
        while level in levels:
            total = _sum(levels.pop(level), total)
            level += 1
        levels[level] = total
    nothing = np.zeros(size, np.int64)
    result = TokenStatistics(
        size, 0, nothing, nothing, np.empty(0, np.uint64), np.empty(0, np.int64)
    )
    for level in sorted(levels):
        result = _sum(levels[level], result)
    return result


def _sum(first: TokenStatistics, second: TokenStatistics) -> TokenStatistics:
    keys = np.concatenate([first.pairs, second.pairs])
    pairs, place = np.unique(keys, return_inverse=True)
    counts = np.zeros(len(pairs), np.int64)
    np.add.at(counts, place, np.concatenate([first.pair_counts, second.pair_counts]))
    return TokenStatistics(
        first.size,
        first.documents + second.documents,
        first.frequency + second.frequency,
        first.document_frequency + second.document_frequency,
        pairs,
        counts,
    )
