"""Pictures say what the mask says, on every medium."""

from __future__ import annotations

import io
import re
import struct
import zlib
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwright.attention import (
    Axis,
    causal,
    documents,
    full,
    global_tokens,
    nothing,
    padding,
    per_head,
    random_blocks,
    strided,
    window,
)
from maskwright.attention.pictures.counts import count
from maskwright.attention.pictures.picture import LEVELS, cell_size, draw
from maskwright.attention.pictures.png import _GLYPHS, PALETTE, png
from maskwright.attention.pictures.svg import svg
from maskwright.attention.pictures.text import text
from maskwright.errors import PatternError

PATTERNS = {
    str(one): one
    for one in (
        full,
        nothing,
        causal,
        causal("upper-left"),
        causal & window(3),
        window(2, 0) | global_tokens(1),
        strided(3),
        causal & ~documents,
        padding & documents,
        per_head([causal, nothing, random_blocks(1, 2)]),
    )
}


def axis(length: int, batch: int = 2) -> Axis:
    numbers = torch.arange(length)
    ends = torch.tensor([[length], [length // 2]])[:batch]
    return Axis(length, segments=numbers // 5, valid=numbers < ends)


def picture(pattern, q, kv=None, **options):
    q = Axis(q) if isinstance(q, int) else q
    kv = q if kv is None else Axis(kv) if isinstance(kv, int) else kv
    return draw(count(pattern, q, kv, cell_size(q.length, kv.length)), **options)


# ------------------------------------------------------------------------------ counts


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(PATTERNS)),
    st.integers(1, 40),
    st.integers(1, 40),
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
)
def test_counts_are_those_of_the_mask(source, queries, keys, size):
    pattern, q, kv = PATTERNS[source], axis(queries), axis(keys)
    mask = pattern.dense(q, kv)
    found = count(pattern, q, kv, size)
    assert torch.equal(found.rows, mask.sum(-1))
    assert torch.equal(found.empty, ~mask.any(-1))
    assert found.allowed == pytest.approx(mask.double().mean().item())
    expected = torch.stack(
        [
            torch.stack([part.sum((-1, -2)) for part in rows.split(size[1], -1)], -1)
            for rows in mask.split(size[0], -2)
        ],
        -2,
    )
    assert torch.equal(found.cells, expected)


@pytest.mark.parametrize("size", [(256, 256), (128, 1024), (1024, 64), (96, 200)])
def test_counts_of_long_axes_are_those_of_the_mask(size):
    q, kv = axis(1500, 1), axis(1300, 1)
    pattern = causal & (window(100) | documents | global_tokens(7))
    mask = pattern.dense(q, kv)[0, 0]
    found = count(pattern, q, kv, size)
    assert torch.equal(found.rows[0, 0], mask.sum(-1))
    assert int(found.cells[0, 0, 1, 0]) == int(mask[size[0] : 2 * size[0], : size[1]].sum())
    assert int(found.cells.sum()) == int(mask.sum())


def test_counts_of_a_long_axis_need_no_mask(monkeypatch):
    """Only undecided blocks are worked out: of causal, those on the diagonal."""
    from maskwright.attention.pictures import counts

    seen = []
    part = counts.part

    def watched(pattern, q, kv, rows, columns):
        seen.append((rows.stop - rows.start) * (columns.stop - columns.start))
        return part(pattern, q, kv, rows, columns)

    monkeypatch.setattr(counts, "part", watched)
    long = Axis(20_000)
    assert counts.count(causal, long, long, (512, 512)).allowed == 20_001 / 40_000
    assert sum(seen) < 20_000 * 2 * 128
    assert max(seen) <= 128 * 128


@pytest.mark.parametrize("queries, keys", [(0, 3), (3, 0), (0, 0)])
def test_axes_without_tokens(queries, keys):
    found = count(causal, Axis(queries), Axis(keys), (1, 1))
    assert found.allowed == 0.0
    assert found.rows.shape == (1, 1, queries)
    shown = picture(causal, queries, keys)
    assert text(shown).startswith("(nothing to draw")
    ElementTree.fromstring(svg(shown, "causal", ""))
    assert png(shown).startswith(b"\x89PNG")


# ------------------------------------------------------------------------------ picture


def test_cells_are_alike_unless_an_axis_is_far_shorter():
    assert cell_size(64, 64) == (1, 1)
    assert cell_size(65, 65) == (2, 2)
    assert cell_size(3000, 4096) == (64, 64)
    assert cell_size(100, 4096) == (2, 64)
    assert cell_size(0, 5) == (1, 1)


def test_levels_tell_none_some_and_all():
    shown = picture(window(0) | global_tokens(0, side="kv"), 256)
    levels = shown.levels(shown.panels[0])
    assert shown.size == (4, 4)
    assert levels[0, 0] == 2  # 7 of 16
    assert levels[1, 1] == 1  # 4 of 16
    assert levels[5, 0] == 1
    assert levels[0, 5] == 0
    assert (picture(full, 100).levels(picture(full, 100).panels[0]) == LEVELS + 1).all()


def test_the_short_last_cell_can_be_full():
    shown = picture(full, 65)
    assert shown.pairs[-1, -1] == 1
    assert shown.levels(shown.panels[0])[-1, -1] == LEVELS + 1


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(sorted(PATTERNS)), st.integers(1, 90), st.integers(1, 20))
def test_pooling_keeps_the_pairs(source, length, most):
    shown = picture(PATTERNS[source], axis(length), panels=9)
    pooled = shown.pooled(most)
    assert max(pooled.shape) <= most or pooled.shape == shown.shape
    assert pooled.pairs.sum() == length * length
    for before, after in zip(shown.panels, pooled.panels, strict=True):
        assert before.allowed.sum() == after.allowed.sum()
        assert before.empty.sum() == after.empty.sum()


def test_panels_are_the_first_samples_and_heads():
    pattern = padding & per_head([causal, window(1), full])
    shown = picture(pattern, axis(6), panels=4)
    assert [panel.title for panel in shown.panels] == [
        "sample 0, head 0", "sample 0, head 1", "sample 0, head 2", "sample 1, head 0",
    ]  # fmt: skip
    assert shown.left_out == 2
    assert "2 of the samples and heads not shown" in text(shown)
    assert "2 of the samples and heads not shown" in svg(shown, "", "")
    with pytest.raises(PatternError, match="panels=0"):
        picture(causal, 4, panels=0)


# ----------------------------------------------------------------------------- terminal


def test_a_small_picture_in_a_terminal():
    assert text(picture(causal & window(1), 4)) == (
        "    0  kv\nq 0 ■ · · ·\n  1 ■ ■ · ·\n  2 · ■ ■ ·\n  3 · · ■ ■\n\n■ may attend   · may not"
    )


def test_a_rectangle_with_empty_rows_in_ascii():
    drawn = text(picture(causal, 4, 2), unicode=False)
    assert drawn == (
        "    0  kv\n"
        "q 0 . . !\n"
        "  1 . . !\n"
        "  2 # .\n"
        "  3 # #\n"
        "\n"
        "# may attend   . may not   ! a query with nothing to attend to"
    )
    assert drawn.isascii()


def test_a_large_picture_in_a_terminal_is_shaded():
    drawn = text(picture(causal, 4096))
    assert "a cell is 128 × 128 tokens" in drawn
    rows = [line for line in drawn.splitlines() if "██" in line and "all" not in line]
    assert rows[-1].strip() == "██" * 31 + "▒▒"
    assert text(picture(causal, 4096), unicode=False).isascii()


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(sorted(PATTERNS)), st.integers(1, 300), st.integers(1, 300),
    st.integers(40, 120),
)  # fmt: skip
def test_a_picture_fits_its_terminal(source, queries, keys, width):
    drawn = text(picture(PATTERNS[source], axis(queries), axis(keys)), width)
    body = drawn.rpartition("\n\n")[0]
    assert max(map(len, body.splitlines())) <= width


def test_panels_stand_side_by_side_where_they_fit():
    shown = picture(per_head([causal, full]), 8)
    wide, narrow = text(shown, 80), text(shown, 30)
    assert any("head 0" in line and "head 1" in line for line in wide.splitlines())
    assert not any("head 0" in line and "head 1" in line for line in narrow.splitlines())


# ---------------------------------------------------------------------------------- SVG


def cells_of(drawn: str) -> set[tuple[float, float]]:
    """Column and row of each single cell that is filled."""
    (path,) = re.findall(r'<path class="l4" d="([^"]*)"', drawn)
    corners = [tuple(map(float, one)) for one in re.findall(r"M(\S+) (\S+?)h", path)]
    step = min(x for x, _ in corners if x > 0)
    return {(x / step, y / step) for x, y in corners}


def test_the_filled_cells_of_an_svg_are_those_of_the_mask():
    pattern = causal & (window(2) | global_tokens(1))
    mask = pattern.dense(Axis(9))[0, 0]
    drawn = cells_of(svg(picture(pattern, 9), "", ""))
    assert drawn == {(k, q) for q, k in mask.nonzero().tolist()}


def test_an_svg_reads_aloud_and_brings_its_own_style():
    drawn = svg(picture(causal, 4, 2), "a < b & c", "3 % of <pairs>")
    root = ElementTree.fromstring(drawn)
    space = "{http://www.w3.org/2000/svg}"
    assert root.get("role") == "img"
    title, desc = root.find(f"{space}title"), root.find(f"{space}desc")
    assert title is not None
    assert desc is not None
    assert (title.text, desc.text) == ("a < b & c", "3 % of <pairs>")
    assert root.get("aria-labelledby") == f"{title.get('id')} {desc.get('id')}"
    assert "attends to nothing" in drawn
    assert "prefers-color-scheme:dark" in drawn
    inline = svg(picture(causal, 4, 2), "a", "", standalone=False)
    assert "prefers-color-scheme" not in inline
    assert "paper" not in inline


def test_two_svgs_on_one_page_do_not_share_names():
    one, two = (svg(picture(causal, n), "causal", "") for n in (4, 5))
    assert re.findall(r'id="([^"]*)"', one) != re.findall(r'id="([^"]*)"', two)
    assert svg(picture(causal, 4), "causal", "") == one


def test_a_long_title_is_cut_above_but_not_aloud():
    title = " | ".join(f"window({n})" for n in range(40))
    drawn = svg(picture(causal, 8), title, "")
    root = ElementTree.fromstring(drawn)
    assert root.findtext("{http://www.w3.org/2000/svg}title") == title
    assert float(root.get("width") or 0) < 700
    assert "…</text>" in drawn


# ---------------------------------------------------------------------------------- PNG


def pixels(data: bytes) -> tuple[np.ndarray, dict[bytes, bytes]]:
    """Numbers of colours, and the chunks by name, of a PNG as `png` writes it."""
    file, chunks = io.BytesIO(data[8:]), {}
    while head := file.read(8):
        size, kind = struct.unpack(">I4s", head)
        chunks[kind] = file.read(size)
        assert struct.unpack(">I", file.read(4))[0] == zlib.crc32(kind + chunks[kind])
    width, height = struct.unpack(">II", chunks[b"IHDR"][:8])
    lines = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, width + 1)
    assert not lines[:, 0].any()
    return lines[:, 1:], chunks


def test_a_png_has_the_cells_in_the_colours_of_its_palette():
    image, chunks = pixels(png(picture(causal, 256), "causal"))
    assert chunks[b"PLTE"] == bytes(value for colour in PALETTE for value in colour)
    assert chunks[b"iTXt"].endswith(b"\0causal")
    filled, none = (image == LEVELS + 3).sum(), (image == 2).sum()
    assert filled / none == 1.0  # 64 cells a side: as many above the diagonal as below it
    assert (image == 1).any()


def test_a_png_marks_empty_rows_and_stacks_panels():
    plain, _ = pixels(png(picture(causal, 8)))
    marked, _ = pixels(png(picture(per_head([nothing, causal]), 8)))
    assert not (plain == LEVELS + 4).any()
    assert (marked == LEVELS + 4).any()
    assert marked.shape[0] > 2 * plain.shape[0] - 40


def test_every_letter_of_a_title_has_a_glyph():
    assert set("0123456789, kvq" + "sample" + "head") <= set(_GLYPHS)


def test_another_reader_opens_the_png():
    image_module = pytest.importorskip("PIL.Image", reason="Pillow comes with matplotlib only")
    with image_module.open(io.BytesIO(png(picture(causal, 9), "causal & window(3)"))) as image:
        image.load()
        assert image.text == {"Description": "causal & window(3)"}
        assert image.convert("RGB").getcolors(99) is not None
