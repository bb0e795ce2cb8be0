"""How many tokens each sample of a data set has."""

from __future__ import annotations

from typing import Any

import numpy as np
from tqdm.auto import tqdm

from maskwright.errors import DataError, MissingExtra
from maskwright.hf.samples import IdentifiedDataset
from maskwright.ragged import Ragged

_RUN = 10_000  # rows that are read at a time


def lengths_of(dataset: Any, *, progress: bool = False) -> np.ndarray:
    """``(n,)`` integers: real tokens of each sample, as the collator sees them.

    A data set with ``lengths``, like `maskwright.data.TokenTable`, is asked. Any other is read once
    from end to end: its ``input_ids``, and where there is one its ``attention_mask``.

    Args:
        dataset: a map-style data set; what `with_sample_ids` made of it will do.
        progress: whether to draw a bar while it is read.

    Raises:
        DataError: ``lengths`` are not one for each sample, or samples have no ``input_ids``.
    """
    data = dataset.dataset if isinstance(dataset, IdentifiedDataset) else dataset
    size = len(data)
    known = getattr(data, "lengths", None)
    if known is not None and not callable(known):
        return checked_lengths(known, size)
    lengths = np.empty(size, np.int64)
    columns = getattr(data, "column_names", None)  # of a datasets.Dataset
    with tqdm(total=size, desc="Lengths", unit="samples", disable=not progress) as bar:
        if columns is None or not hasattr(data, "with_format"):
            for index in range(size):
                lengths[index] = _length(data[index], index)
                bar.update()
            return lengths
        names = [name for name in ("input_ids", "attention_mask") if name in columns]
        if "input_ids" not in names:
            raise DataError(f"The data set has no input_ids, only {columns}. Tokenise it first.")
        rows = data.select_columns(names).with_format("arrow")
        for first in range(0, size, _RUN):
            last = min(first + _RUN, size)
            lengths[first:last] = _arrow_lengths(rows[first:last])
            bar.update(last - first)
    return lengths


def checked_lengths(lengths: Any, size: int) -> np.ndarray:
    """Lengths that somebody gave, ``(size,)``."""
    given = np.asarray(lengths)
    if given.shape != (size,) or given.dtype.kind not in "iu":
        raise DataError(
            f"The lengths of {size:,} samples must be as many integers, got {given.dtype} of shape "
            f"{given.shape}."
        )
    return given


def take_lengths(dataset: Any, column: str = "length") -> tuple[Any, np.ndarray | None]:
    """A `datasets.Dataset` without its column of lengths, which no model reads, and the lengths.

    Args:
        dataset: of any kind; only a `datasets.Dataset` has columns.
        column: its name, of `TrainingArguments.length_column_name`; ``"lengths"`` will do as well.
    """
    names = getattr(dataset, "column_names", None) or []
    for name in (column, "lengths"):
        if name in names and hasattr(dataset, "remove_columns"):
            lengths = np.asarray(dataset.with_format("numpy")[name][:])
            return dataset.remove_columns([name]), checked_lengths(lengths, len(dataset))
    return dataset, None


def _length(sample: Any, index: int) -> int:
    try:
        mask = sample.get("attention_mask")
        return len(sample["input_ids"]) if mask is None else int(np.count_nonzero(mask))
    except (AttributeError, LookupError, TypeError):
        raise DataError(
            f'Sample {index} is no mapping with "input_ids", so its length is not known. Tokenise '
            "first, or give the lengths: TokenBudget(tokens, lengths=…)."
        ) from None


def _arrow_lengths(table: Any) -> np.ndarray:
    try:
        import pyarrow as pa
    except ImportError:
        raise MissingExtra("pyarrow", "hf") from None
    column = table.column("attention_mask" if "attention_mask" in table.column_names else 0)
    rows = Ragged.from_arrow(pa.concat_arrays(column.chunks))
    if "attention_mask" not in table.column_names:
        return rows.lengths
    return np.bincount(rows.rows[rows.values != 0], minlength=len(rows))
