"""What was worked out for an attention, kept for the next call with the same axes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from torch import Tensor

from maskwright.attention.axis import Axis

Kept = TypeVar("Kept")


def identity(axis: Axis) -> tuple:
    """What tells axes apart here: also whether a column was written to since.

    Columns are told apart by identity, so whoever keeps this keeps the axis too.
    """
    return (axis.length, *[(name, id(c), _version(c)) for name, c in axis.columns.items()])


def _version(column: Tensor) -> int:
    return 0 if column.is_inference() else column._version


class Plans(Generic[Kept]):
    """The last few values, by key: at most ``entries``, and at most ``limit`` bytes of tensors.

    The latest value stays whatever its size.

    Args:
        size: bytes of a value.
    """

    def __init__(self, size: Callable[[Kept], int], entries: int, limit: int) -> None:
        self._size, self._entries, self._limit = size, entries, limit
        self._kept: OrderedDict[Hashable, tuple[Kept, int]] = OrderedDict()
        self._lock = threading.Lock()
        self.bytes = 0

    def get(self, key: Hashable) -> Kept | None:
        """The value of a key, which is now the latest."""
        found = self._kept.get(key)
        if found is None:
            return None
        # without the lock, which this is too often called for: another thread may have dropped it
        try:  # noqa: SIM105 - `suppress` takes longer than all of this
            self._kept.move_to_end(key)
        except KeyError:
            pass
        return found[0]

    def put(self, key: Hashable, value: Kept) -> None:
        """Keeps a value, and drops the oldest that no longer fit."""
        size = self._size(value)
        with self._lock:
            replaced = self._kept.pop(key, None)
            self._kept[key] = (value, size)
            self.bytes += size - (replaced[1] if replaced else 0)
            while len(self._kept) > 1 and (
                len(self._kept) > self._entries or self.bytes > self._limit
            ):
                self.bytes -= self._kept.popitem(last=False)[1][1]

    def clear(self) -> None:
        """Forgets everything."""
        with self._lock:
            self._kept.clear()
            self.bytes = 0

    def __len__(self) -> int:
        return len(self._kept)
