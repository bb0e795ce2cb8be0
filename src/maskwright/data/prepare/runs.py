"""Sorted runs on the disk, merged a range of keys at a time, in bounded memory.

A run is an array ``(rows, n)`` uint64 whose first row is a key, rising. Keys are hashes, so they
are spread evenly, and what all runs hold of one range of keys is about as much as of another.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from maskwright.placing import placing

MERGE_BYTES = 128 << 20


def save_run(path: Path, run: np.ndarray) -> None:
    """Writes a run, whole or not at all; its columns must be sorted by the first row."""
    with placing(path) as temporary, temporary.open("wb") as file:
        np.save(file, run)
        file.flush()
        os.fsync(file.fileno())


def save_joined(path: Path, parts: Sequence[Path]) -> None:
    """Writes arrays of one axis end to end as one array, a part at a time in memory."""
    arrays = [np.load(part, mmap_mode="r") for part in parts]
    header = {
        "descr": np.lib.format.dtype_to_descr(arrays[0].dtype),
        "fortran_order": False,
        "shape": (sum(map(len, arrays)),),
    }
    with placing(path) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for array in arrays:
            file.write(array.tobytes())
        file.flush()
        os.fsync(file.fileno())


def merged(paths: Sequence[Path], limit: int = MERGE_BYTES) -> Iterator[np.ndarray]:
    """What the runs hold of each range of keys, the ranges rising; in a range, run after run.

    Columns with the same key are in the same range.

    Args:
        limit: bytes of a range, about.
    """
    runs = [np.load(path, mmap_mode="r") for path in paths]
    size = sum(run.nbytes for run in runs)
    bits = max(0, (size // max(1, limit)).bit_length())
    for number in range(1 << bits):
        parts = []
        for run in runs:
            # as Python integers: the end of the last range is one more than a uint64 holds
            first, last = (_place(run[0], (number + step) << (64 - bits)) for step in (0, 1))
            parts.append(run[:, first:last])
        if parts:
            yield np.concatenate(parts, axis=1)


def _place(keys: np.ndarray, key: int) -> int:
    """How many keys are below ``key``."""
    return len(keys) if key >> 64 else int(np.searchsorted(keys, np.uint64(key)))
