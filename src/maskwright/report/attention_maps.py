"""Where a decoder looked: attention over one sentence, with what its mask forbids crossed out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from maskwright.report import formatting, svg
from maskwright.report.palette import INK, MUTED, RULE, SERIES

_INCHES = 0.27  # of a token
_LONGEST = 12  # characters of a token's name


def attention_map(found: Mapping[str, Any], name: str) -> str:
    """One map as an ``<svg>`` element: target tokens down, source tokens across.

    The area of a square is the attention, so that it can be read without colour; a cell that the
    mask forbids has a stroke through it.
    """
    weights = np.asarray(found["weights"], np.float64)
    allowed = found["allowed"]
    open_cells = np.ones(weights.shape, bool) if allowed is None else np.asarray(allowed, bool)
    rows, columns = weights.shape

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        _frame(axes, found, rows, columns)
        for row in range(rows):
            for column in range(columns):
                if not open_cells[row, column]:
                    ends = [column - 0.28, column + 0.28], [row + 0.28, row - 0.28]
                    axes.plot(*ends, color=RULE, linewidth=1.0)
                    continue
                side = float(np.sqrt(max(weights[row, column], 0.0))) * 0.94
                corner = (column - side / 2, row - side / 2)
                axes.add_patch(Rectangle(corner, side, side, color=SERIES[0], linewidth=0))

    closed = int((~open_cells).sum())
    strongest = "; ".join(
        f"{found['target'][row]} → {found['source'][int(weights[row].argmax())]}"
        for row in range(rows)
    )
    alt = (
        f"Cross-attention of {found['variant']}: {rows} target tokens by {columns} source tokens, "
        f"{closed} pairs forbidden. Strongest: {strongest}."
    )
    size = (1.1 + _INCHES * columns, 0.9 + _INCHES * rows)
    return svg.render(draw, size, name, alt)


def _frame(axes: Axes, found: Mapping[str, Any], rows: int, columns: int) -> None:
    axes.set_xlim(-0.5, columns - 0.5)
    axes.set_ylim(rows - 0.5, -0.5)
    axes.set_aspect("equal")
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color(RULE)
    axes.set_xticks(range(columns), [_named(token) for token in found["source"]], rotation=60)
    for label in axes.get_xticklabels():
        label.set_horizontalalignment("left")
        label.set_rotation_mode("anchor")
    axes.set_yticks(range(rows), [_named(token) for token in found["target"]])
    axes.xaxis.tick_top()
    axes.tick_params(length=0, labelcolor=INK)
    axes.set_ylabel("")
    axes.yaxis.label.set_color(MUTED)


def _named(token: str) -> str:
    return formatting.shortened(token, _LONGEST)
