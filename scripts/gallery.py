"""Write docs/gallery.md and its pictures: every attention pattern of the library, drawn.

    python scripts/gallery.py

Running it twice writes the same bytes. A test compares what is committed with what this writes,
and asks that every name of the library is here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from maskwright.attention import (
    Axis,
    Pattern,
    aligned,
    bigbird,
    block_diffusion,
    blockwise,
    causal,
    chunked,
    chunked_streaming,
    copy_only,
    dilated,
    documents,
    explain,
    full,
    global_tokens,
    longformer,
    marked,
    monotonic_window,
    nothing,
    padding,
    per_head,
    permutation,
    prefix,
    random_blocks,
    same,
    segments,
    streaming_sink,
    strided,
    summaries,
    threshold,
    top_k,
    two_stream,
    visible,
    wait_k,
    window,
)  # fmt: skip
from maskwright.attention.pictures.meanings import meanings

DOCS = Path(__file__).parents[1] / "docs"
HEAD = """\
# Gallery of attention patterns

Written by `python scripts/gallery.py`; do not edit it by hand. Queries stand downwards, keys
across, and a filled cell means that the query may attend to the key. What the settings mean in full
is in the docstrings: `help(maskwright.attention.window)`. How patterns are combined, run and
explained is in [attention.md](attention.md).

In a terminal: `maskwright explain "window(3)" --length 16`.
"""


@dataclass(frozen=True)
class Example:
    """One picture.

    Attributes:
        name: of the pattern in the library.
        pattern: an example of it.
        q, kv: axes to draw it on.
        axes: the axes in words, where the picture alone does not tell.
    """

    name: str
    pattern: Pattern
    q: Axis
    kv: Axis | None = None
    axes: str = ""


def _flags(length: int, *chosen: int) -> torch.Tensor:
    flags = torch.zeros(length, dtype=torch.bool)
    flags[list(chosen)] = True
    return flags


_ROW = Axis(16)
_PACKED = Axis.packed([5, 7, 4])
_LEFT, _RIGHT = Axis(8), Axis(16)
_SCORES = torch.tensor([[(7 * q + 11 * kv + q * kv) % 17 for kv in range(16)] for q in range(16)])
_ORDER = torch.tensor([3, 0, 6, 1, 7, 4, 2, 5])
_TREE = [[1, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0], [1, 1, 0, 1, 0, 0],
         [1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 1, 1]]  # fmt: skip

GALLERY: dict[str, list[Example]] = {
    "Everyone, no one, each head for itself": [
        Example("full", full, _ROW),
        Example("nothing", nothing, _ROW),
        Example("per_head", per_head([causal, window(2)]), Axis(12)),
    ],
    "By distance": [
        Example("causal", causal, Axis(10), Axis(16), "6 keys of a cache come first"),
        Example("window", window(3), _ROW),
        Example("dilated", dilated(2, 3), _ROW),
        Example("strided", causal & strided(4), _ROW),
        Example("summaries", causal & (chunked(4) | summaries(4)), _ROW),
        Example("chunked", causal & chunked(5), _ROW),
        Example("blockwise", blockwise(4, before=None), _ROW),
    ],
    "By what the tokens are": [
        Example("padding", padding, Axis(12), Axis(12, valid=~_flags(12, 9, 10, 11)),
                "the last 3 keys are padding"),
        Example("documents", documents & causal, _PACKED, axes="documents of 5, 7 and 4 tokens"),
        Example("segments", segments({0: 0, 1: (0, 1), 2: (0, 2)}), _PACKED,
                axes="a question of 5 tokens, passages of 7 and 4"),
        Example("same", same("speaker"), Axis(16, speaker=torch.arange(16) // 4 % 2),
                axes="two speakers take turns of 4 tokens"),
        Example("marked", window(2) | marked("evidence"), Axis(16, evidence=_flags(16, 5, 6, 7)),
                axes="tokens 5, 6 and 7 are evidence"),
        Example("global_tokens", window(2) | global_tokens(0, 8), _ROW),
    ],
    "Of training objectives": [
        Example("prefix", causal | prefix(6), _ROW),
        Example("permutation", permutation, Axis(8, order=_ORDER),
                axes=f"in the order {', '.join(map(str, _ORDER.tolist()))}"),
        Example("two_stream", two_stream(),
                Axis(16, order=_ORDER.repeat(2), query_stream=torch.arange(16) >= 8),
                Axis(8, order=_ORDER), "8 content queries, then the 8 of the query stream"),
        Example("block_diffusion", block_diffusion(4), Axis(24),
                axes="12 noisy tokens, then the same 12 clean"),
    ],
    "From a target to its source": [
        Example("wait_k", wait_k(3), Axis(12), _RIGHT),
        Example("chunked_streaming", chunked_streaming(4, left=1, lookahead=1), _ROW),
        Example("monotonic_window", monotonic_window(2), _LEFT, _RIGHT),
        Example("aligned", aligned([(0, 0), (1, 2), (2, 1), (3, 3), (3, 4), (5, 6)], radius=0),
                Axis(7), _LEFT, "tokens 4 and 6 have no link"),
        Example("copy_only", copy_only, _LEFT, Axis(16, copy=_flags(16, 2, 3, 9)),
                "source tokens 2, 3 and 9 may be copied"),
    ],
    "By chance, by a matrix, by scores": [
        Example("random_blocks", random_blocks(2, 4, seed=1), Axis(32)),
        Example("visible", visible(_TREE), Axis(6), axes="nodes of a tree see their ancestors"),
        Example("threshold", threshold(_SCORES, 12), _ROW),
        Example("top_k", top_k(_SCORES, 2, size=4), Axis(64), axes="2 blocks of 4 for each block"),
    ],
    "Published compositions": [
        Example("longformer", longformer(3, 0), _ROW),
        Example("bigbird", bigbird(8, 2), Axis(128)),
        Example("streaming_sink", streaming_sink(2, 4), _ROW),
    ],
}  # fmt: skip


def examples() -> list[Example]:
    return [one for group in GALLERY.values() for one in group]


def render() -> dict[Path, str]:
    """Every file of the gallery, and what is in it."""
    sentences = {one.name: one.text for one in meanings()}
    files = {}
    lines = [HEAD]
    for title, group in GALLERY.items():
        lines += [f"## {title}", ""]
        for one in group:
            found = explain(one.pattern, one.q, one.kv)
            files[DOCS / "gallery" / f"{one.name}.svg"] = found.svg()
            axes = f" Here: {one.axes}." if one.axes else ""
            lines += [
                f"### {one.name}", "",
                f"`{one.pattern}`", "",
                f"{sentences[one.name]}{axes}", "",
                f"![{one.pattern}](gallery/{one.name}.svg)", "",
            ]  # fmt: skip
    files[DOCS / "gallery.md"] = "\n".join(lines)
    return files


def main() -> None:
    files = render()
    (DOCS / "gallery").mkdir(exist_ok=True)
    for old in (DOCS / "gallery").glob("*.svg"):
        if old not in files:
            old.unlink()
    for path, text in files.items():
        path.write_text(text, encoding="utf-8")
    print(f"{len(files) - 1} pictures in docs/gallery, and docs/gallery.md")


if __name__ == "__main__":
    main()
