"""Subset: some samples of a token table, as a data set of its own."""

from __future__ import annotations

from typing import Any

import numpy as np

from maskwright import order, randomness
from maskwright.batch import TokenBatch
from maskwright.errors import ConfigError
from maskwright.ragged import offsets_of


class Subset:
    """The samples ``ids`` of ``table``, in that order; each keeps its own sample id.

    Args:
        table: a `TokenTable`.
        ids: ``(n,)`` sample ids.
    """

    def __init__(self, table: Any, ids: np.ndarray) -> None:
        self.table = table
        self.ids = ids

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.table[int(self.ids[index])]

    def batch(self, indices: np.ndarray) -> TokenBatch:
        return self.table.batch(self.ids[indices])

    @property
    def lengths(self) -> np.ndarray:
        """``(n,)`` tokens of each sample."""
        return self.table.lengths[self.ids]

    @property
    def tokens(self) -> int:
        return int(self.lengths.sum())


def portions(table: Any, budgets: list[int]) -> list[Subset]:
    """Disjoint subsets of about ``budgets`` tokens each (at least one sample), drawn from the
    whole table in a fixed order.

    Raises:
        ConfigError: the table has fewer tokens, or too few samples.
    """
    lengths = table.lengths
    total, wanted = int(lengths.sum()), sum(budgets)
    if wanted > total:
        raise ConfigError(
            f"The warm-up and the regimes ask for {wanted:,} tokens of training text together, and "
            f"{table.path.name} has {total:,}. Lower regimes.*.tokens or warmup.steps."
        )
    key = randomness.run_key(0, randomness.ORDER, 0)
    ids = order.permute(np.arange(len(table)), len(table), key)
    ends = offsets_of(lengths[ids])
    subsets, first, done = [], 0, 0
    for budget in budgets:
        done += budget
        last = max(first + 1, int(np.searchsorted(ends, done, side="right")) - 1)
        if last > len(ids):
            raise ConfigError(
                f"{table.path.name} has {len(ids)} samples, too few for the warm-up and the "
                "regimes, of which each needs one. Lower data.max_length, or give more text."
            )
        subsets.append(Subset(table, ids[first:last]))
        first = last
    return subsets
