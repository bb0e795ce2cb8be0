"""A picture as PNG, with nothing but zlib: for places that take no SVG.

Source of the format: PNG (Portable Network Graphics) Specification, W3C, third edition, 2025.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np

from maskwright.attention.pictures.picture import LEVELS, Panel, Picture

# Paper, ink, cells from none to full, and rows with nothing to attend to: red, green, blue.
_PAPER, _INK, _NONE, _EMPTY = 0, 1, 2, LEVELS + 4
PALETTE = (
    (253, 253, 252), (28, 32, 36),
    (235, 236, 236), (206, 226, 240), (164, 203, 229), (118, 177, 216), (37, 131, 196),
    (217, 102, 26),
)  # fmt: skip
assert len(PALETTE) == LEVELS + 5
_SIDE, _EDGE, _ROOM = 512, 12, 16
# The only characters a picture needs, three dots wide and five high, a row to an octal digit.
_GLYPHS = {
    "0": "75557", "1": "26227", "2": "71747", "3": "71717", "4": "55711", "5": "74717",
    "6": "74757", "7": "71122", "8": "75757", "9": "75717", ",": "00024", " ": "00000",
    "q": "07571", "k": "45655", "v": "05552", "s": "07427", "a": "07177", "m": "07755",
    "p": "07574", "l": "62227", "e": "07747", "h": "44755", "d": "11757",
}  # fmt: skip


def png(picture: Picture, note: str = "") -> bytes:
    """The bytes of a file: panels below one another.

    Args:
        picture: what to draw.
        note: kept in the file as its description, not shown.
    """
    panels = [_panel(picture, panel) for panel in picture.panels]
    wide = max((panel.shape[1] for panel in panels), default=1)
    padded = [np.pad(one, ((0, _EDGE), (0, wide - one.shape[1]))) for one in panels]
    image = np.pad(np.concatenate(padded or [np.zeros((1, 1), np.uint8)]), _EDGE)
    return _encode(image.astype(np.uint8), note)


def _panel(picture: Picture, panel: Panel) -> np.ndarray:
    """Cells with the numbers of tokens around them, as numbers of colours."""
    rows, columns = picture.shape
    cell = max(4, _SIDE // max(rows, columns, 1))
    drawn = np.kron(picture.levels(panel) + _NONE, np.ones((cell, cell), int))
    if picture.exact:
        drawn[cell - 1 :: cell], drawn[:, cell - 1 :: cell] = _PAPER, _PAPER
    left = _text(f"{picture.q_length:,}").shape[1] + 8
    top = _ROOM * (2 if panel.title else 1)
    room = _text(f"{picture.kv_length:,}").shape[1] + 8
    canvas = np.zeros((top + rows * cell, left + max(columns * cell + 8, room)), int)
    canvas[top:, left : left + columns * cell] = drawn
    for row in np.flatnonzero(panel.empty).tolist():
        place = slice(top + row * cell, top + (row + 1) * cell - 1)
        canvas[place, left + columns * cell + 3 : left + columns * cell + 7] = _EMPTY
    _write(canvas, panel.title, 0, left)
    for at, number in picture.ticks(1, max(1, columns * cell // room)):
        _write(canvas, "kv" if at == 0 else f"{number:,}", top - _ROOM, left + at * cell)
    for at, number in picture.ticks(0, max(1, rows * cell // _ROOM)):
        label = _text("q" if at == 0 else f"{number:,}")
        _put(canvas, label, top + at * cell, left - 4 - label.shape[1])
    return canvas


def _write(canvas: np.ndarray, text: str, y: int, x: int) -> None:
    _put(canvas, _text(text), y, x)


def _put(canvas: np.ndarray, dots: np.ndarray, y: int, x: int) -> None:
    """Ink where there are dots, as far as the canvas reaches."""
    place = canvas[y : y + dots.shape[0], x : x + dots.shape[1]]
    place[dots[: place.shape[0], : place.shape[1]]] = _INK


def _text(text: str) -> np.ndarray:
    """Dots of a text, Boolean, each two pixels wide and high."""
    letters = [
        np.array([[int(row) >> bit & 1 for bit in (2, 1, 0, 3)] for row in _GLYPHS[one]], bool)
        for one in text
    ]
    dots = np.concatenate(letters, 1) if letters else np.zeros((5, 0), bool)
    return np.kron(dots, np.ones((2, 2), bool))


def _encode(image: np.ndarray, note: str) -> bytes:
    """``(height, width)`` uint8, numbers of colours, as a PNG with a palette."""
    height, width = image.shape
    head = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    lines = np.pad(image, ((0, 0), (1, 0))).tobytes()  # each line begins with its filter: none
    chunks = [(b"IHDR", head), (b"PLTE", bytes(np.array(PALETTE, np.uint8)))]
    if note:
        chunks.append((b"iTXt", b"Description\0\0\0\0\0" + note.encode()))
    chunks += [(b"IDAT", zlib.compress(lines, 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
