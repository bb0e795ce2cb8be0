"""A read-only memory map whose resident size stays bounded however long it is read.

Pages of a mapped file stay in the resident set until somebody gives them back, so reading a
large file at random for long enough ends with all of it resident. `MappedFile` counts what
its readers touch and, above a limit, returns the pages to the kernel. Views stay valid: a
page that is needed again is mapped again, usually straight from the page cache.
"""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

# One minor fault maps the 16 pages round the address (the kernel's fault-around), so a row of
# a few hundred bytes costs 64 KiB of resident memory.
FAULT_AROUND = 64 * 1024
RESIDENT_LIMIT = 128 * 1024 * 1024


class MappedFile:
    """A file mapped whole, read-only.

    Args:
        path: the file; an empty one is a `ValueError` (nothing can be mapped).
        limit: bytes that may be touched before the pages are given back.
    """

    def __init__(self, path: Path, limit: int = RESIDENT_LIMIT) -> None:
        import pyarrow as pa

        self.limit = limit
        self.touched = 0
        self.releases = 0
        with open(path, "rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.buffer: Any = pa.py_buffer(self._map)
        self._regions: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self._map)

    def releasable(self, *buffers: Any) -> None:
        """Name the Arrow buffers of this map that `release` may give back."""
        page = mmap.PAGESIZE
        for buffer in buffers:
            start = buffer.address - self.buffer.address
            # whole pages inside the buffer only: its neighbours may be wanted resident
            first, last = -(-start // page) * page, (start + buffer.size) // page * page
            if last > first:
                self._regions.append((first, last - first))

    def touch(self, pieces: int, size: int) -> None:
        """Count ``pieces`` separate reads of ``size`` bytes in all; release above the limit."""
        if len(self._map) <= self.limit:
            return  # the whole file fits: giving pages back would only cost faults
        self.touched += max(size, pieces * FAULT_AROUND)
        if self.touched > self.limit:
            self.release()

    def release(self) -> None:
        """Give the pages of the releasable buffers back to the kernel; views stay valid."""
        self.touched = 0
        self.releases += 1
        if hasattr(mmap, "MADV_DONTNEED"):  # not on Windows, where the system trims by itself
            for start, length in self._regions:
                self._map.madvise(mmap.MADV_DONTNEED, start, length)
