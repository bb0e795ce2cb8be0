"""A picture in a terminal: two characters for each cell, of Unicode or, failing that, of ASCII."""

from __future__ import annotations

from maskwright.attention.pictures.picture import LEVELS, Panel, Picture

# From no pair to all pairs; of single pairs, only the first and the last.
UNICODE = ("· ", "░░", "▒▒", "▓▓", "██")
ASCII = (". ", "::", "++", "**", "##")
_PAIR = {UNICODE: "■ ", ASCII: "# "}
_NOTHING = {UNICODE: "∅", ASCII: "!"}
_CELLS = 48
assert len(UNICODE) == len(ASCII) == LEVELS + 2


def text(picture: Picture, width: int = 80, unicode: bool = True) -> str:
    """The picture in lines of at most ``width`` characters.

    A row of cells in which some query attends to nothing is marked at its end.
    """
    glyphs = UNICODE if unicode else ASCII
    if not picture.q_length or not picture.kv_length:
        return f"(nothing to draw: {picture.q_length} queries, {picture.kv_length} keys)"
    margin = len(f"{picture.q_length:,}") + 3
    picture = picture.pooled(max(4, min(_CELLS, (width - margin - 2) // 2)))
    blocks = [_panel(picture, panel, margin, glyphs) for panel in picture.panels]
    lines = _beside(blocks, width)
    if picture.left_out:
        lines += ["", f"({picture.left_out:,} of the samples and heads not shown)"]
    return "\n".join([*lines, "", _legend(picture, glyphs)])


def _panel(picture: Picture, panel: Panel, margin: int, glyphs: tuple[str, ...]) -> list[str]:
    levels = picture.levels(panel)
    pair = _PAIR[glyphs]
    head = panel.title.ljust(margin) if len(panel.title) < margin else ""
    lines = [] if head or not panel.title else [" " * margin + panel.title]
    lines.append(head.ljust(margin) + _across(picture))
    numbers = dict(picture.ticks(0, 12))
    for row, cells in enumerate(levels.tolist()):
        label = f"{numbers[row]:,}" if row in numbers else ""
        if row == 0:
            label = f"q {label}"
        drawn = "".join(
            pair if picture.exact and level > LEVELS else glyphs[level] for level in cells
        )
        mark = _NOTHING[glyphs] if panel.empty[row] else ""
        lines.append(f"{label:>{margin - 1}} {drawn.rstrip()} {mark}".rstrip())
    return lines


def _across(picture: Picture) -> str:
    """The numbers of keys, where they stand; ``kv`` before the first."""
    line = ""
    for cell, number in picture.ticks(1, max(1, picture.shape[1] // 4)):
        label = f"{number:,}"
        if len(line) < 2 * cell or not line:
            line = line.ljust(2 * cell) + label
    return f"{line}  kv"


def _beside(blocks: list[list[str]], width: int) -> list[str]:
    """Panels side by side where they fit, else below one another."""
    wide = max(len(line) for lines in blocks for line in lines) + 3
    columns = max(1, (width + 3) // wide)
    out: list[str] = []
    for start in range(0, len(blocks), columns):
        group = blocks[start : start + columns]
        high = max(map(len, group))
        if out:
            out.append("")
        for number in range(high):
            # panels end together, so that a title above one of them shifts nothing
            parts = [lines[number - (high - len(lines))] if number >= high - len(lines) else ""
                     for lines in group]  # fmt: skip
            out.append("".join(part.ljust(wide) for part in parts).rstrip())
    return out


def _legend(picture: Picture, glyphs: tuple[str, ...]) -> str:
    if picture.exact:
        parts = [f"{_PAIR[glyphs].strip()} may attend", f"{glyphs[0].strip()} may not"]
    else:
        q, kv = picture.size
        cell = (
            f"a cell is {q:,} × {kv:,} tokens" if glyphs is UNICODE else f"a cell: {q:,} x {kv:,}"
        )
        parts = [f"{glyphs[-1]} all", f"{''.join(one[0] for one in glyphs[3:0:-1])} some",
                 f"{glyphs[0].strip()} none", cell]  # fmt: skip
    if any(panel.empty.any() for panel in picture.panels):
        parts.append(f"{_NOTHING[glyphs]} a query with nothing to attend to")
    return "   ".join(parts)
