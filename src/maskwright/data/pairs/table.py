"""PairTable: pairs of sentences as ids, memory-mapped, addressed by sample id.

A folder with two token tables of the same rows: ``source.arrow`` and ``target.arrow``. The column
``document`` of both holds the line of each pair in its file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from maskwright.data.table import TokenTable
from maskwright.errors import CacheError
from maskwright.ragged import Ragged

SOURCE, TARGET = "source.arrow", "target.arrow"


class PairTable(Dataset):
    """A data set of pairs for a sequence-to-sequence model; made by `write_pair_table`.

    ``table[i]`` is ``{"input_ids": [...], "labels": [...]}``, lists of ids of the source and of the
    target, each with the special tokens of its tokenizer; a target ends with ``</s>``. Nothing is
    padded. It pickles as its path, so a DataLoader worker maps the files anew and copies nothing.

    Attributes:
        sources, targets: the two `TokenTable`; their ``batch`` gives word starts too.
    """

    def __init__(self, path: Path, sources: TokenTable, targets: TokenTable) -> None:
        self.path = path
        self.sources = sources
        self.targets = targets

    @classmethod
    def open(cls, path: str | Path) -> PairTable:
        """Map the folder that `write_pair_table` wrote.

        Raises:
            CacheError: a file is missing or damaged, or the two do not belong together.
        """
        path = Path(path).absolute()  # a worker may start in another folder
        sources, targets = TokenTable.open(path / SOURCE), TokenTable.open(path / TARGET)
        same = len(sources) == len(targets) and np.array_equal(sources.documents, targets.documents)
        if not same or sources.meta.get("pairs") != targets.meta.get("pairs"):
            raise CacheError(
                f"{path / SOURCE} and {path / TARGET} are not of the same pairs. Delete the folder "
                "and write the table again."
            )
        return cls(path, sources, targets)

    def __reduce__(self) -> tuple[Any, ...]:
        return PairTable.open, (self.path,)

    # -- reading --------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.sources)

    def __repr__(self) -> str:
        source, target = (len(side.tokens.values) for side in (self.sources, self.targets))
        return f"PairTable({len(self):,} pairs, {source:,} + {target:,} tokens)"

    def __getitem__(self, sample_id: int) -> dict[str, list[int]]:
        sources, targets = self.sources[sample_id], self.targets[sample_id]
        return {
            "input_ids": sources["input_ids"].tolist(),
            "labels": targets["input_ids"].tolist(),
        }

    def __getitems__(self, sample_ids: Sequence[int]) -> list[dict[str, list[int]]]:
        """Many samples at once, as a `DataLoader` asks for them.

        Raises:
            SampleIdError: an id lies outside 0 … ``len(table) - 1``.
        """
        rows = np.asarray(sample_ids, np.int64)
        sources, targets = self.sources.batch(rows).tokens, self.targets.batch(rows).tokens
        return [
            {"input_ids": source, "labels": target}
            for source, target in zip(_lists(sources), _lists(targets), strict=True)
        ]

    # -- what is known of the pairs ---------------------------------------------------------

    @property
    def source_lengths(self) -> np.ndarray:
        """``(n,)`` int64: tokens of each source, special ones included."""
        return self.sources.lengths

    @property
    def target_lengths(self) -> np.ndarray:
        """``(n,)`` int64: tokens of each target, special ones included."""
        return self.targets.lengths

    @property
    def lengths(self) -> np.ndarray:
        """``(n,)`` int64: tokens of source and target together, for budgets of tokens."""
        return self.source_lengths + self.target_lengths

    @property
    def lines(self) -> np.ndarray:
        """``(n,)`` int32: the line of each pair in the file that it was read from."""
        return self.sources.documents

    @property
    def dropped(self) -> int:
        """How many pairs were left out because they were too long."""
        return int(self.sources.meta["given"]) - len(self)


def _lists(rows: Ragged) -> Iterator[list[int]]:
    # one conversion for the batch: ten times the speed of one for each row
    values, ends = rows.values.tolist(), rows.offsets.tolist()
    return (values[first:last] for first, last in pairwise(ends))
