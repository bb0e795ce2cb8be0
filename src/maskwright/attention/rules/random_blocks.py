"""Random blocks of keys, the same on every machine: a hash of what they are for, and no state."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import torch

from maskwright import randomness
from maskwright.attention.axis import Axis
from maskwright.attention.coordinates import Coordinates, common_device
from maskwright.attention.interval import Interval
from maskwright.attention.pattern import Pattern
from maskwright.attention.rules.relative import check_count
from maskwright.attention.table import Table
from maskwright.errors import PatternError


@dataclass(frozen=True, repr=False)
class RandomBlocks(Pattern):
    """Blocks of keys by chance; of `random_blocks`."""

    count: int
    size: int
    seed: int = 0
    heads: int | None = None
    spelled: ClassVar[str] = "random_blocks"

    def __post_init__(self) -> None:
        check_count(self.spelled, "count", self.count)
        check_count(self.spelled, "size", self.size, 1)
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise PatternError(f"seed={self.seed!r} of {self.spelled}: it is a whole number.")
        if self.heads is not None:
            check_count(self.spelled, "heads", self.heads, 1)

    @property
    def sizes(self) -> tuple[int | None, int | None]:
        return None, self.heads

    def bound(self, q: Axis, kv: Axis) -> Pattern:
        return self._drawn(q, kv, common_device(q, kv))

    def allowed(self, q: Coordinates, kv: Coordinates) -> Any:
        index = q.index.low if isinstance(q.index, Interval) else q.index
        return self._drawn(q.axis, kv.axis, index.device).allowed(q, kv)

    def _drawn(self, q: Axis, kv: Axis, device: torch.device) -> Pattern:
        rows, columns = (-(-axis.length // self.size) for axis in (q, kv))
        table = _table(self.count, self.seed, self.heads or 1, rows, columns, device)
        return Drawn(table, self.size)


@dataclass(frozen=True, repr=False)
class Drawn(Pattern):
    """Random blocks after the draw, for axes of one length."""

    table: Table
    size: int
    spelled: ClassVar[str] = "drawn"

    def allowed(self, q: Coordinates, kv: Coordinates) -> Any:
        return self.table.at(q, kv, q.index // self.size, kv.index // self.size)


@lru_cache(maxsize=64)
def _table(
    count: int, seed: int, heads: int, rows: int, columns: int, device: torch.device
) -> Table:
    """Which blocks of keys each block of queries sees: the ``count`` of the smallest hashes."""
    chosen = np.ones((1, heads, rows, columns), dtype=bool)
    for head in range(heads if count < columns else 0):
        key = randomness.run_key(seed, 0, head)
        keys = randomness.sample_keys(key, np.arange(rows), randomness.BLOCKS)
        # no two draws of a key are equal, so neither are there ties
        draws = randomness.draw_array(keys[:, None], np.arange(columns)[None, :])
        smallest = np.argpartition(draws, count, axis=1)[:, :count]
        chosen[0, head] = False
        np.put_along_axis(chosen[0, head], smallest, True, axis=1)
    return Table(torch.from_numpy(chosen).to(device))


def random_blocks(count: int, size: int, seed: int = 0, heads: int | None = None) -> Pattern:
    """Each block of queries sees ``count`` blocks of keys, drawn from all, each at most once.

    Blocks have ``size`` tokens and are counted by index from 0 on both axes, whatever positions
    they have. All keys of a drawn block are visible to all queries of the block. The draw is a
    hash of (seed, head, block of queries, block of keys): the same for every sample, on every
    machine. It depends on how many blocks of keys there are, so it does not suit a cache that
    grows. A drawn block may be one that another rule shows already. Held in memory: one Boolean
    for each pair of blocks.

    Args:
        count: distinct blocks of keys for each block of queries; all where there are no more.
        size: tokens of a block, 1 or more.
        seed: any integer.
        heads: with a number, each of so many heads draws for itself; else all draw the same.

    Raises:
        PatternError: a setting is not a whole number of at least its least.

    Source: Zaheer et al., "Big Bird", 2020, arXiv:2007.14062, section 2 and appendix D.

    >>> print(random_blocks(3, 64, seed=7))
    random_blocks(3, 64, 7)
    """
    return RandomBlocks(count, size, seed, heads)
