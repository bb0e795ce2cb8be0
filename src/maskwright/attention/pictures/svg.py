"""A picture as SVG: scales without blur, reads aloud, and is told by lightness, not by hue.

The one hue is the blue of Okabe and Ito (2008), lightened until it stands out on light and dark
paper alike; rows with nothing to attend to have their vermilion, and a mark of their own.
"""

from __future__ import annotations

import hashlib
from html import escape

import numpy as np

from maskwright.attention.pictures.picture import LEVELS, Panel, Picture

BLUE, RED = "#2583c4", "#d9661a"
_SIDE = 340  # pixels of the longer side of a panel, about
_SMALLEST, _LARGEST = 5, 22  # pixels of a cell
_WIDTH = 820  # of panels side by side
_TOP, _GAP, _LINE, _EDGE = 34, 26, 18, 14
_CHARACTER = 7.3  # width of a monospaced character of 12 pixels
_TITLE = 620  # how far a long title may widen the picture
# How much of the blue each level has; the last is a cell that is full.
_OPACITY = (0.0, 0.3, 0.5, 0.7, 1.0)
_FONT = "ui-monospace,'SF Mono',Menlo,Consolas,'DejaVu Sans Mono',monospace"
assert len(_OPACITY) == LEVELS + 2


def svg(picture: Picture, title: str, describe: str, standalone: bool = True) -> str:
    """One ``<svg>`` element.

    Args:
        picture: what to draw.
        title: above it, and its accessible name; a long one is cut short above it.
        describe: the same in words, for those who do not see it.
        standalone: a file of its own, with paper behind it that follows the reader's theme; else
            it takes the colour of the text around it.
    """
    rows, columns = picture.shape
    cell = min(_LARGEST, max(_SMALLEST, _SIDE // max(rows, columns, 1)))
    left = 12 + round(_CHARACTER * 0.85 * len(f"{picture.q_length:,}"))
    wide, high = left + columns * cell + _GAP, _TOP + rows * cell + _GAP
    across = max(1, min(len(picture.panels), _WIDTH // wide))
    down = -(-len(picture.panels) // across)
    legend, legend_width = _legend(picture)
    heading = min(_TITLE, _CHARACTER * len(title))
    width = 2 * _EDGE + max(across * wide, legend_width, heading)
    height = 2 * _EDGE + _LINE + down * high + _LINE + (_LINE if picture.left_out else 0)
    fits = int((width - 2 * _EDGE) / _CHARACTER + 0.5)
    shown = title if len(title) <= fits else f"{title[: fits - 1]}…"
    body = [f'<text x="0" y="{_LINE - 6}" class="h">{escape(shown)}</text>']
    for number, panel in enumerate(picture.panels):
        x, y = left + number % across * wide, _LINE + _TOP + number // across * high
        body.append(f'<g transform="translate({x} {y})">{_panel(picture, panel, cell)}</g>')
    below = _LINE + down * high + 10
    if picture.left_out:
        note = f"{picture.left_out:,} of the samples and heads not shown"
        body.append(f'<text x="0" y="{below}">{note}</text>')
        below += _LINE
    body.append(f'<g transform="translate(0 {below})">{legend}</g>')
    name = "mw" + hashlib.sha256(f"{title}{describe}{body}{standalone}".encode()).hexdigest()[:10]
    paper = f'<rect class="paper" width="{width:g}" height="{height:g}"/>' if standalone else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="{name}" width="{width:g}" '
        f'height="{height:g}" viewBox="0 0 {width:g} {height:g}" role="img" '
        f'aria-labelledby="{name}-t {name}-d">'
        f'<title id="{name}-t">{escape(title)}</title><desc id="{name}-d">{escape(describe)}</desc>'
        f"<style>{_style(name, standalone)}</style>{paper}"
        f'<g transform="translate({_EDGE} {_EDGE})">{"".join(body)}</g></svg>\n'
    )


def _style(name: str, standalone: bool) -> str:
    one = f".{name}"
    rules = [
        f"{one}{{max-width:100%;height:auto}}",
        f"{one} text{{font:10px {_FONT};fill:currentColor;fill-opacity:.75}}",
        f"{one} .h{{font-size:12px;font-weight:600;fill-opacity:1}}",
        f"{one} .e{{text-anchor:end}}{one} .n{{fill:currentColor;fill-opacity:.08}}",
        f"{one} .x{{fill:{RED}}}{one} path,{one} .n,{one} .x{{shape-rendering:crispEdges}}",
        *(
            f"{one} .l{level}{{fill:{BLUE};fill-opacity:{_OPACITY[level]:g}}}"
            for level in range(1, LEVELS + 2)
        ),
    ]
    if standalone:
        rules.append(f"{one}{{color:#1c2024}}{one} .paper{{fill:#fdfdfc}}")
        dark = f"{one}{{color:#e6e8ea}}{one} .paper{{fill:#15181b}}"
        rules.append(f"@media(prefers-color-scheme:dark){{{dark}}}")
    return "".join(rules)


def _panel(picture: Picture, panel: Panel, cell: int) -> str:
    rows, columns = picture.shape
    parts = [f'<rect class="n" width="{columns * cell}" height="{rows * cell}"/>']
    levels = picture.levels(panel)
    # A hair of space between single pairs, so that they can be counted.
    space = 1 if picture.exact and cell >= 8 else 0
    for level in range(1, LEVELS + 2):
        drawn = "".join(_stretch(levels[row] == level, row, cell, space) for row in range(rows))
        if drawn:
            parts.append(f'<path class="l{level}" d="{drawn}"/>')
    for row in np.flatnonzero(panel.empty).tolist():
        x, y = columns * cell + 3, row * cell
        parts.append(f'<rect class="x" x="{x}" y="{y}" width="4" height="{max(cell - 1, 1)}"/>')
    parts += _labels(picture, panel, cell)
    return "".join(parts)


def _stretch(chosen: np.ndarray, row: int, cell: int, space: int) -> str:
    """Path of the chosen cells of a row; those side by side are one rectangle."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], chosen.astype(np.int8), [0]))))
    high = cell - space
    pieces = []
    for first, stop in edges.reshape(-1, 2).tolist():
        stretches = [(one, one + 1) for one in range(first, stop)] if space else [(first, stop)]
        for start, end in stretches:
            wide = (end - start) * cell - space
            pieces.append(f"M{start * cell} {row * cell}h{wide}v{high}h-{wide}z")
    return "".join(pieces)


def _labels(picture: Picture, panel: Panel, cell: int) -> list[str]:
    """Numbers of tokens along both axes, and their names."""
    rows, columns = picture.shape
    heading = f"kv · {escape(panel.title)}" if panel.title else "kv"
    parts = [f'<text class="e" x="-6" y="-7">q</text><text x="0" y="-19">{heading}</text>']
    room = 8 + round(6.2 * len(f"{picture.kv_length:,}"))
    for at, number in picture.ticks(1, max(1, columns * cell // room)):
        parts.append(f'<text x="{at * cell}" y="-7">{number:,}</text>')
    for at, number in picture.ticks(0, max(1, rows * cell // 16)):
        y = at * cell + max(cell / 2 + 4, 9)
        parts.append(f'<text class="e" x="-6" y="{y:g}">{number:,}</text>')
    return parts


def _legend(picture: Picture) -> tuple[str, float]:
    """Swatches with their meaning, and the width they take."""
    if picture.exact:
        entries = [((LEVELS + 1,), "may attend"), ((0,), "may not")]
    else:
        entries = [((LEVELS + 1,), "all"), (tuple(range(LEVELS, 0, -1)), "some"), ((0,), "none")]
    parts, x = [], 0.0
    for levels, meaning in entries:
        for level in levels:
            kind = f"l{level}" if level else "n"
            parts.append(f'<rect class="{kind}" x="{x:g}" y="-9" width="10" height="10"/>')
            x += 11
        parts.append(f'<text x="{x + 4:g}" y="0">{meaning}</text>')
        x += 4 + 6.2 * len(meaning) + 14
    if any(panel.empty.any() for panel in picture.panels):
        parts.append(f'<rect class="x" x="{x:g}" y="-9" width="4" height="10"/>')
        parts.append(f'<text x="{x + 8:g}" y="0">attends to nothing</text>')
        x += 8 + 6.2 * 18 + 14
    if not picture.exact:
        q, kv = picture.size
        note = f"a cell is {q:,} × {kv:,} tokens"
        parts.append(f'<text x="{x:g}" y="0">{note}</text>')
        x += 6.2 * len(note)
    return "".join(parts), x
