"""A pattern as a picture: queries downwards, keys across, each cell as dark as it is allowed.

Where the axes are short, a cell is one pair. Where they are long, it is a block of pairs, and its
shade is the share of them that may attend.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from maskwright.attention.pictures.counts import Counts
from maskwright.errors import PatternError

# Cells along the longer axis, at most.
CELLS = 64
# A shorter axis with fewer cells than these gets smaller cells than the longer one.
_FEWEST = 12
# Shades of a cell: none of its pairs, some (in LEVELS steps), all.
LEVELS = 3


@dataclass(frozen=True, eq=False)
class Panel:
    """One sample and head.

    Attributes:
        title: which one; empty where all are alike.
        allowed: ``(q cells, kv cells)`` int64, allowed pairs of each cell.
        empty: ``(q cells,)`` int64, queries of each row of cells that attend to nothing.
    """

    title: str
    allowed: np.ndarray
    empty: np.ndarray


@dataclass(frozen=True, eq=False)
class Picture:
    """What `draw` makes; `picture_text`, `picture_svg` and `picture_png` put it on a medium.

    Attributes:
        q_length, kv_length: tokens of each axis.
        size: tokens of a cell on the ``q`` and on the ``kv`` axis; the last may have fewer.
        panels: some samples and heads, from the first on.
        left_out: how many samples and heads are not shown.
    """

    q_length: int
    kv_length: int
    size: tuple[int, int]
    panels: tuple[Panel, ...]
    left_out: int = 0

    @property
    def pairs(self) -> np.ndarray:
        """``(q cells, kv cells)`` int64, how many pairs each cell has."""
        return np.outer(*(_widths(*side) for side in self._sides))

    @property
    def shape(self) -> tuple[int, int]:
        """Cells on the ``q`` and on the ``kv`` axis."""
        rows, columns = (-(-length // size) for length, size in self._sides)
        return rows, columns

    @property
    def exact(self) -> bool:
        """Whether a cell is a single pair."""
        return self.size == (1, 1)

    @property
    def _sides(self) -> tuple[tuple[int, int], tuple[int, int]]:
        return (self.q_length, self.size[0]), (self.kv_length, self.size[1])

    def levels(self, panel: Panel) -> np.ndarray:
        """``(q cells, kv cells)``: 0 where no pair may attend, ``LEVELS + 1`` where all may;
        between them the share in equal steps, of which a single pair reaches the first."""
        pairs = self.pairs
        some = 1 + panel.allowed * LEVELS // np.maximum(pairs, 1)
        full = (panel.allowed == pairs) & (pairs > 0)
        return np.where(full, LEVELS + 1, np.where(panel.allowed == 0, 0, some))

    def pooled(self, most: int) -> Picture:
        """The same picture with at most so many cells on each axis."""
        factors = [-(-cells // max(most, 1)) for cells in self.shape]
        if factors == [1, 1]:
            return self
        rows, columns = (
            np.arange(0, cells, f) for cells, f in zip(self.shape, factors, strict=True)
        )
        panels = tuple(
            Panel(
                panel.title,
                np.add.reduceat(np.add.reduceat(panel.allowed, rows, 0), columns, 1),
                np.add.reduceat(panel.empty, rows),
            )
            for panel in self.panels
        )
        size = (self.size[0] * factors[0], self.size[1] * factors[1])
        return Picture(self.q_length, self.kv_length, size, panels, self.left_out)

    def ticks(self, axis: int, most: int) -> list[tuple[int, int]]:
        """Cells of an axis (0: q, 1: kv) to write a number at, and the number: the first token
        of the cell; at most so many, evenly spaced."""
        cells, size = self.shape[axis], self.size[axis]
        step = 1
        while cells > most * step:
            step *= 2
        return [(cell, cell * size) for cell in range(0, cells, step)]


def cell_size(q_length: int, kv_length: int, most: int = CELLS) -> tuple[int, int]:
    """Tokens of a cell on each axis, powers of two: alike, unless one axis is far shorter.

    >>> cell_size(4096, 4096), cell_size(16, 16), cell_size(1, 4096)
    ((64, 64), (1, 1), (1, 64))
    """
    q, kv = (_power(length, most) for length in (q_length, kv_length))
    largest = max(q, kv)
    if min(q_length, kv_length) >= _FEWEST * largest:
        return largest, largest
    return q, kv


def draw(counts: Counts, panels: int = 4) -> Picture:
    """The picture of counts: the first samples and heads of them.

    Raises:
        PatternError: ``panels`` is not at least 1.
    """
    if panels < 1:
        raise PatternError(f"panels={panels!r} of a picture: it is 1 or more.")
    batch, heads, *_ = counts.cells.shape
    starts = np.arange(0, counts.q_length, counts.size[0])
    shown = []
    for sample, head in list(product(range(batch), range(heads)))[:panels]:
        titles = [f"sample {sample}"] * (batch > 1) + [f"head {head}"] * (heads > 1)
        empty = counts.empty[sample, head].numpy().astype(np.int64)
        rows = np.add.reduceat(empty, starts) if len(starts) else empty
        shown.append(Panel(", ".join(titles), counts.cells[sample, head].numpy(), rows))
    left_out = batch * heads - len(shown)
    return Picture(counts.q_length, counts.kv_length, counts.size, tuple(shown), left_out)


def _power(length: int, most: int) -> int:
    size = 1
    while length > most * size:
        size *= 2
    return size


def _widths(length: int, size: int) -> np.ndarray:
    return np.minimum(length - np.arange(0, length, size), size)
