"""How many tokens each pair of a data set has, on both sides together."""

from __future__ import annotations

from typing import Any

import numpy as np

from maskwright.errors import DataError
from maskwright.hf.batches.lengths import checked_lengths, lengths_of
from maskwright.hf.samples import IdentifiedDataset


def pair_lengths(dataset: Any, *, progress: bool = False) -> np.ndarray:
    """``(n,)`` integers: real tokens of source and target.

    A data set with ``lengths`` is asked, as `maskwright.data` has for pairs. Any other is read once
    from end to end; of a `datasets.Dataset`, -100 at the end of labels is counted as a token.

    Args:
        dataset: a map-style data set; what `with_sample_ids` made of it will do.
        progress: whether to draw a bar while it is read.

    Raises:
        DataError: ``lengths`` are not one for each sample, or samples have no ``labels``.
    """
    data = dataset.dataset if isinstance(dataset, IdentifiedDataset) else dataset
    known = getattr(data, "lengths", None)
    if known is not None and not callable(known):
        return checked_lengths(known, len(data))
    columns = getattr(data, "column_names", None)
    if columns is not None and hasattr(data, "with_format"):
        if "labels" not in columns:
            raise DataError(f"The data set has no labels, only {columns}. Tokenise its targets.")
        targets = data.select_columns(["labels"]).rename_column("labels", "input_ids")
        sources = lengths_of(data, progress=progress) if "input_ids" in columns else 0
        return sources + lengths_of(targets, progress=progress)
    return lengths_of(_BothSides(data), progress=progress)


class _BothSides:
    """A data set whose samples are the tokens of both sides in a row."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = self.data[index]
        try:
            labels = np.asarray(sample["labels"])
        except (LookupError, TypeError):
            raise DataError(
                f'Pair {index} is no mapping with "labels", so its length is not known. Tokenise '
                "first, or give the lengths: TokenBudget(tokens, lengths=…)."
            ) from None
        source = np.asarray(sample.get("input_ids", ()))
        # without tokens it is that of a sound
        mask = np.asarray(sample.get("attention_mask", np.ones(len(source))))[: len(source)]
        return {
            "input_ids": np.concatenate((source, labels)),
            "attention_mask": np.concatenate((mask != 0, labels != -100)),
        }
