"""Hypothesis strategies for attention: axes of every kind, and random trees over the library.

Values of columns come from a local generator with a drawn seed; what shrinks are lengths, kinds
of columns and the tree. Strategies are built once, not in each example: that is most of the time.
Every axis has the columns ``segments``, ``valid``, ``mark``, ``tag`` and
``order``, so that any tree fits any axes; ``positions`` come and go.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

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
)

# What `per_head` of a tree has: two patterns.
HEADS = 2
SEEDS = st.integers(0, 2**16)
CHANCE = st.booleans()
LENGTHS = st.sampled_from([0, 1, 2, 3, 16]) | st.integers(2, 20)
LENGTHS_ABOVE_0 = st.integers(1, 20)
BATCHES = st.sampled_from([None, None, 1, 2, 3])
ALIGNMENTS = st.sampled_from(["bottom-right", "upper-left"])
SIDES = st.sampled_from(["kv", "q", "both"])
FEW = st.integers(0, 6)
SOME = st.integers(1, 6)
SIZES = st.integers(1, 9) | st.sampled_from([16, 64])
BLOCK_SIZES = st.tuples(SIZES, SIZES) | SIZES

# ------------------------------------------------------------------------------- axes


def _segments(rng: np.random.Generator, length: int, kind: str) -> np.ndarray:
    if kind == "scattered":
        return rng.integers(0, 3, length)
    return np.cumsum(rng.random(length) < 0.25)


def _valid(rng: np.random.Generator, length: int, kind: str) -> np.ndarray:
    edge = rng.integers(0, length + 1)
    if kind == "right":
        return np.arange(length) < edge
    if kind == "left":
        return np.arange(length) >= edge
    return rng.random(length) < 0.7


def _positions(rng: np.random.Generator, length: int, kind: str) -> np.ndarray:
    if kind == "offset":
        return np.arange(length) + rng.integers(-5, 9)
    if kind == "restarting":
        return np.arange(length) % rng.integers(1, 7)
    if kind == "gaps":
        return np.cumsum(rng.integers(0, 4, length))
    return rng.integers(-4, 20, length)


def _column(rng: np.random.Generator, length: int, batch: int | None, values) -> Tensor:
    if batch is None:
        return torch.from_numpy(np.asarray(values(rng, length)))
    rows = [np.asarray(values(rng, length)) for _ in range(batch)]
    return torch.from_numpy(np.stack(rows))


PACKED = st.sampled_from(["packed", "scattered"])
PADDED = st.sampled_from(["right", "left", "holes"])
PLACED = st.sampled_from(["offset", "restarting", "gaps", "random"])
PARTNER = st.sampled_from(["self", "equal", "other"])


@st.composite
def axes(
    draw: st.DrawFn,
    length: int | None = None,
    batch: int | None = None,
    positions: bool | None = None,
) -> Axis:
    """An axis with every column; each of them for all samples, or for each of ``batch``."""
    return _axis(draw, draw(LENGTHS) if length is None else length, batch, positions)


def _axis(draw: st.DrawFn, length: int, batch: int | None, positions: bool | None) -> Axis:
    rng = np.random.default_rng(draw(SEEDS))
    packed, padded = draw(PACKED), draw(PADDED)
    makers: dict[str, Callable] = {
        "segments": lambda rng, n: _segments(rng, n, packed),
        "valid": lambda rng, n: _valid(rng, n, padded),
        "mark": lambda rng, n: rng.random(n) < 0.4,
        "tag": lambda rng, n: rng.integers(0, 2, n),
        "order": lambda rng, n: rng.permutation(n),
    }
    if draw(CHANCE) if positions is None else positions:
        kind = draw(PLACED)
        makers["positions"] = lambda rng, n: _positions(rng, n, kind)
    columns = {
        name: _column(rng, length, batch if rng.random() < 0.5 else None, values)
        for name, values in makers.items()
    }
    return Axis(length, **columns)


@st.composite
def pairs(draw: st.DrawFn, empty: bool = True) -> tuple[Axis, Axis]:
    """Queries and keys: the same axis, another of the same length, or of another length."""
    return _pair(draw, empty)


def _pair(draw: st.DrawFn, empty: bool) -> tuple[Axis, Axis]:
    batch, positions, kind = draw(BATCHES), draw(CHANCE), draw(PARTNER)
    lengths = LENGTHS if empty else LENGTHS_ABOVE_0
    q = _axis(draw, draw(lengths), batch, positions)
    if kind == "self":
        return q, q
    length = q.length if kind == "equal" else draw(lengths)
    # positions of one axis only are allowed too: they are compared as they are
    return q, _axis(draw, length, batch, positions if draw(CHANCE) else None)


# ------------------------------------------------------------------------------ rules


def _global(tokens: st.SearchStrategy) -> st.SearchStrategy[Pattern]:
    return st.builds(
        lambda tokens, size, side, align: global_tokens(*tokens, size=size, side=side, align=align),
        st.lists(tokens | st.just("mark"), min_size=1, max_size=4),
        st.sampled_from([1, 1, 2, 3]), SIDES, ALIGNMENTS,
    )  # fmt: skip


RATES = st.sampled_from([1, 2, 0.5, 0.75, 1.5, 8])
BLOCKS_OR_ALL = st.none() | st.integers(0, 3)

# Rules that fit any axes of this file. Append to it: trees are drawn from all.
RULES: list[st.SearchStrategy[Pattern]] = [
    st.sampled_from([full, nothing]),
    st.builds(causal, ALIGNMENTS),
    st.builds(window, FEW, FEW, ALIGNMENTS),
    st.builds(dilated, FEW, SOME, ALIGNMENTS),
    st.builds(strided, SOME, ALIGNMENTS),
    st.builds(summaries, SOME, FEW),
    st.builds(chunked, SIZES, ALIGNMENTS),
    st.builds(blockwise, SIZES, BLOCKS_OR_ALL, BLOCKS_OR_ALL, ALIGNMENTS),
    st.just(documents),
    st.builds(padding, SIDES),
    st.builds(same, st.sampled_from(["segments", "tag", "mark"])),
    st.builds(marked, st.sampled_from(["mark", "valid"]), SIDES),
    st.builds(prefix, FEW | st.just("mark")),
    st.builds(permutation, st.sampled_from(["order", "tag"]), CHANCE),
    st.builds(two_stream, st.just("order"), st.just("mark")),
    st.builds(random_blocks, FEW, SOME, FEW, st.sampled_from([None, 1, HEADS])),
    st.builds(longformer, FEW, st.integers(0, 9), dilation=st.integers(1, 3)),
    st.builds(streaming_sink, FEW, FEW),
    _global(st.integers(0, 24)),
    st.builds(wait_k, SOME, RATES),
    st.builds(chunked_streaming, SIZES, BLOCKS_OR_ALL, FEW, RATES),
    st.builds(monotonic_window, FEW, FEW, st.none() | RATES),
    st.builds(segments, st.none() | st.dictionaries(FEW, st.lists(FEW, max_size=3), max_size=4)),
    st.builds(copy_only, st.just(()), st.just("mark")),
    st.builds(copy_only, st.lists(st.integers(0, 1), min_size=1, max_size=2), st.just("tag")),
]


def _not_placed(q: Axis, kv: Axis) -> bool:
    return "positions" not in q.columns and "positions" not in kv.columns


def _two_copies(q: Axis, kv: Axis) -> bool:
    return q.length == kv.length and q.length % 2 == 0


# Rules that fit some axes only: which, and the rules. Append here what asks for lengths or columns.
Fits = Callable[[Axis, Axis], bool]
PARTICULAR_RULES: list[tuple[Fits, st.SearchStrategy[Pattern]]] = [
    (_not_placed, _global(st.integers(-8, -1))),
    (_not_placed, st.builds(bigbird, SOME, st.integers(0, 3), FEW)),
    (_two_copies, st.builds(block_diffusion, SOME)),
]

# Rules whose data is made for the axes at hand (tables, say): from the axes to a strategy.
Made = Callable[[Axis, Axis], st.SearchStrategy[Pattern]]


def _scores(rng: np.random.Generator, q: Axis, kv: Axis, size: tuple[int, int]) -> np.ndarray:
    """Scores of blocks, with ties: for all samples and heads, or for each."""
    batch = next((one.batch for one in (q, kv) if one.batch), 1)
    outer = [(), (1,), (batch,), (batch, 1), (1, HEADS), (batch, HEADS)][rng.integers(6)]
    lengths = [-(-axis.length // one) for axis, one in zip((q, kv), size, strict=True)]
    return rng.integers(0, 5, (*outer, *lengths)) / 4


def _visible(q: Axis, kv: Axis) -> st.SearchStrategy[Pattern]:
    return st.builds(
        lambda seed: visible(_scores(np.random.default_rng(seed), q, kv, (1, 1)) > 0.5), SEEDS
    )


def _threshold(q: Axis, kv: Axis) -> st.SearchStrategy[Pattern]:
    return st.builds(
        lambda seed, size: threshold(_scores(np.random.default_rng(seed), q, kv, size), 0.5, size),
        SEEDS, st.tuples(SIZES, SIZES),
    )  # fmt: skip


def _top_k(q: Axis, kv: Axis) -> st.SearchStrategy[Pattern]:
    def made(seed: int, size: tuple[int, int], k: int) -> Pattern:
        scores = _scores(np.random.default_rng(seed), q, kv, size)
        return top_k(scores, min(k, scores.shape[-1]), size) if kv.length else nothing

    return st.builds(made, SEEDS, st.tuples(SIZES, SIZES), SOME)


def _aligned(q: Axis, kv: Axis) -> st.SearchStrategy[Pattern]:
    def made(seed: int, per_sample: bool, radius: int, unaligned: str) -> Pattern:
        rng = np.random.default_rng(seed)
        batch = next((one.batch for one in (q, kv) if one.batch), 1)
        lists = [
            [(int(rng.integers(q.length)), int(rng.integers(kv.length))) for _ in range(count)]
            for count in rng.integers(0, 12, batch) * bool(q.length and kv.length)
        ]
        return aligned(lists if per_sample else lists[0], radius, unaligned)

    return st.builds(made, SEEDS, CHANCE, FEW, st.sampled_from(["all", "nothing"]))


MADE_RULES: list[Made] = [_visible, _threshold, _top_k, _aligned]

LARGE = st.integers(0, 10_000)
NODES = st.sampled_from(["and", "or", "not", "heads", "and", "or"])


def _rule(draw: st.DrawFn, q: Axis, kv: Axis) -> Pattern:
    fitting = [*RULES, *(rule for fits, rule in PARTICULAR_RULES if fits(q, kv)), *MADE_RULES]
    chosen = fitting[draw(LARGE) % len(fitting)]
    return draw(chosen if isinstance(chosen, st.SearchStrategy) else chosen(q, kv))


def _tree(draw: st.DrawFn, q: Axis, kv: Axis, leaves: int, heads: bool) -> Pattern:
    """A random expression with so many leaves; `per_head` counts its patterns as leaves too."""
    if leaves == 1:
        pattern = _rule(draw, q, kv)
        return ~pattern if draw(CHANCE) else pattern
    kind = draw(NODES)
    cut = 1 + draw(LARGE) % (leaves - 1)
    first, second = _tree(draw, q, kv, cut, heads), _tree(draw, q, kv, leaves - cut, heads)
    if kind == "and":
        return first & second
    if kind == "or":
        return first | second
    if kind == "heads" and heads:
        return per_head([first, second])
    return ~(first & second)


@st.composite
def rules(draw: st.DrawFn, q: Axis, kv: Axis) -> Pattern:
    """One rule of the library that fits these axes."""
    return _rule(draw, q, kv)


@st.composite
def patterns(draw: st.DrawFn, q: Axis, kv: Axis, leaves: int = 6, heads: bool = True) -> Pattern:
    """An expression over the library that fits these axes."""
    return _tree(draw, q, kv, 1 + draw(LARGE) % leaves, heads)


@st.composite
def attentions(
    draw: st.DrawFn, empty: bool = True, leaves: int = 6, heads: bool = True
) -> tuple[Pattern, Axis, Axis]:
    """A pattern and axes that it fits; with ``empty``, there may be no queries or no keys."""
    q, kv = _pair(draw, empty)
    return _tree(draw, q, kv, 1 + draw(LARGE) % leaves, heads), q, kv
