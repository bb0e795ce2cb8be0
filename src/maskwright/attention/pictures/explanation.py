"""What an attention will do, before it runs: picture, kernel and why, work, empty rows, memory."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import torch

from maskwright.attention.axis import Axis
from maskwright.attention.backends import dispatch
from maskwright.attention.backends.dispatch import Choice
from maskwright.attention.backends.problem import Problem
from maskwright.attention.blocks import PARTIAL, as_size
from maskwright.attention.pattern import Pattern, extent
from maskwright.attention.pictures import html as explain_html
from maskwright.attention.pictures import png as picture_png
from maskwright.attention.pictures import svg as picture_svg
from maskwright.attention.pictures import text as picture_text
from maskwright.attention.pictures.counts import Counts, count
from maskwright.attention.pictures.picture import Picture, cell_size, draw
from maskwright.errors import ConfigError
from maskwright.placing import place_bytes

# Tokens of a block, on each axis, where the backend has no blocks of its own.
BLOCK = 128
# Pairs in undecided blocks up to which a backend is prepared, to see what it keeps: it may keep
# some bytes for each of them.
_PREPARED = 1 << 22
# Empty rows that are named.
_NAMED = 5
# A number and its unit stay on one line.
_SPACE = "\u00a0"
_ASCII = str.maketrans({"×": "x", "…": "...", _SPACE: " "})


@dataclass(frozen=True)
class EmptyRows:
    """Queries that attend to nothing; their outputs and gradients are zero.

    Attributes:
        count: how many, of all samples and heads.
        of: how many queries there are, of all samples and heads.
        first: the first few: sample, head, query.
    """

    count: int
    of: int
    first: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class Memory:
    """Bytes of a mask in different forms.

    Attributes:
        dense: one Boolean for every pair.
        block_map: one byte for every block.
        kept: what the backend keeps from call to call; None where it would take another machine,
            or much memory, to know.
    """

    dense: int
    block_map: int
    kept: int | None


@dataclass(frozen=True, eq=False)
class Explanation:
    """What `explain` found. ``print`` it, let a notebook show it, or `save` it.

    Attributes:
        source: the pattern.
        q, kv: the axes.
        batch, heads: of the mask; 1 where all are alike.
        tensors: heads, head size, dtype and device that the backend was chosen for, in words.
        choice: the backend, why, why not the others, and what each was estimated to cost.
        allowed: share of the pairs that may attend, exactly: the work there is, 0 to 1.
        touched: share of the pairs in blocks with work in them, 0 to 1.
        block: tokens of those blocks, on each axis.
        empty: queries that attend to nothing.
        memory: of the mask.
        picture: who may attend to whom.
    """

    source: str
    q: Axis
    kv: Axis
    batch: int
    heads: int
    tensors: str
    choice: Choice
    allowed: float
    touched: float
    block: tuple[int, int]
    empty: EmptyRows
    memory: Memory
    picture: Picture

    @property
    def facts(self) -> list[tuple[str, str]]:
        """All but the picture, in words: what, and how it is."""
        facts = [
            ("attention", f"{_axes(self)}; {self.tensors}"),
            ("backend", f"{self.choice.backend}: {self.choice.reason}"),
        ]
        if self.choice.estimates:
            costs = sorted(self.choice.estimates.items(), key=lambda one: one[1])
            shown = ", ".join(f"{name} {_cost(cost)}" for name, cost in costs)
            facts.append(("estimates", f"{shown} (1 is attention without a mask)"))
        facts += [(f"not {name}", why) for name, why in self.choice.refusals.items()]
        ratio = f", {self.touched / self.allowed:.2f} times as many" if self.allowed else ""
        high, wide = self.block
        facts += [
            ("work", f"{_share(self.allowed)} of the pairs may attend"),
            ("touched", f"{_share(self.touched)} of the pairs lie in blocks of {high:,} × {wide:,} "
                        f"with work in them{ratio}"),
            ("empty rows", _empty(self)),
            ("memory", _memory(self)),
        ]  # fmt: skip
        return facts

    def text(self, width: int = 80, unicode: bool = True) -> str:
        """The picture and the facts, in lines of at most ``width`` characters where words allow.

        Args:
            unicode: False for terminals that have ASCII only.
        """
        title = textwrap.fill(self.source, width, break_long_words=False)
        drawn = picture_text.text(self.picture, width, unicode)
        lines = [title, "", drawn, ""]
        margin = max(len(name) for name, _ in self.facts) + 2
        for name, fact in self.facts:
            lines.append(
                textwrap.fill(
                    fact, width, initial_indent=name.ljust(margin), subsequent_indent=" " * margin
                )
            )
        text = "\n".join(lines)
        return text if unicode else text.translate(_ASCII).encode("ascii", "replace").decode()

    def __str__(self) -> str:
        """`text` as wide as the terminal, in characters that it has."""
        return self.text(shutil.get_terminal_size().columns, speaks_unicode())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """One element that needs no style sheet."""
        return explain_html.element(self)

    def svg(self, standalone: bool = True) -> str:
        """The picture as one ``<svg>`` element; ``standalone``: with paper of its own."""
        return picture_svg.svg(self.picture, self.source, describe(self), standalone)

    def png(self) -> bytes:
        """The picture as the bytes of a PNG file; its description is the source."""
        return picture_png.png(self.picture, self.source)

    def html(self) -> str:
        """Picture and facts as one page, with nothing to load."""
        return explain_html.page(self)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes a ``.svg`` or ``.png`` of the picture, or a ``.html`` or ``.txt`` with the facts.

        Raises:
            ConfigError: another ending.
            SaveError: it cannot be written; what stood at ``path`` before still stands.
        """
        path = Path(path)
        match path.suffix.lower():
            case ".svg":
                return place_bytes(path, self.svg().encode())
            case ".png":
                return place_bytes(path, self.png())
            case ".html":
                return place_bytes(path, self.html().encode())
            case ".txt":
                return place_bytes(path, f"{self.text()}\n".encode())
        raise ConfigError(
            f"{path} has the ending {path.suffix!r}; an explanation is saved as .svg, .png, .html "
            "or .txt."
        )


def explain(
    pattern: Pattern,
    q: Axis | int,
    kv: Axis | int | None = None,
    *,
    heads: int | None = None,
    dim: int = 64,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    backend: str = "auto",
    size: int | tuple[int, int] | None = None,
    panels: int = 4,
) -> Explanation:
    """What a pattern means on these axes, and which backend would run it, without running it.

    Nothing as large as queries × keys is held in memory. Time grows with the pairs of blocks that
    are neither empty nor full.

    Args:
        q: the queries; a number stands for an axis of that length, of which nothing else is known.
        kv: the keys; in self-attention, leave it out.
        heads: of the tensors; as many as the pattern has (or 1) unless given.
        dim: size of a head.
        dtype, device: of the tensors.
        backend: the name of one, instead of the choice by cost.
        size: tokens of the blocks whose work is counted, on both axes or on each; unless given,
            as the backend has them, or 128.
        panels: samples and heads in the picture, at most.

    Raises:
        AxisError: the axes lack a column that the pattern needs, or do not fit each other.
        BackendError: the backend that was asked for cannot run this, or is unknown.
        PatternError: the size is not one.

    >>> from maskwright.attention import causal
    >>> explain(causal, 64).allowed
    0.5078125
    """
    q = Axis(q) if isinstance(q, int) else q
    kv = q if kv is None else Axis(kv) if isinstance(kv, int) else kv
    batch, own_heads, *_ = extent(pattern, q, kv)
    heads = own_heads if heads is None else heads
    device = torch.device(device)
    problem = Problem(pattern, q, kv, batch, heads, heads, dim, dim, dtype, device)
    problem.check()
    choice = dispatch.choice(problem, backend)
    block = _block(q, kv) if size is None else as_size(size)
    blocks = pattern.blocks(q, kv, block) if q.length and kv.length else None
    undecided = blocks.share(PARTIAL) * batch * own_heads * q.length * kv.length if blocks else 0.0
    counts = count(pattern, q, kv, cell_size(q.length, kv.length))
    return Explanation(
        source=str(pattern),
        q=q,
        kv=kv,
        batch=batch,
        heads=own_heads,
        tensors=f"{_many(heads, 'head')} of {dim}, {str(dtype).removeprefix('torch.')} on {device}",
        choice=choice,
        allowed=counts.allowed,
        touched=blocks.touched if blocks else 0.0,
        block=block,
        empty=_find_empty(counts),
        memory=Memory(
            dense=counts.pairs,
            block_map=blocks.states.numel() if blocks else 0,
            kept=_kept(choice.backend, problem, bool(counts.empty.any()), undecided),
        ),
        picture=draw(counts, panels),
    )


def describe(explanation: Explanation) -> str:
    """The picture in words."""
    return (
        f"Who may attend to whom: {_axes(explanation)}, queries downwards, keys across. "
        f"{_share(explanation.allowed)} of the pairs may attend. Queries that attend to nothing: "
        f"{_empty(explanation)}."
    )


def speaks_unicode() -> bool:
    """Whether the output is encoded as Unicode."""
    return (getattr(sys.stdout, "encoding", None) or "").lower().startswith("utf")


def _block(q: Axis, kv: Axis) -> tuple[int, int]:
    """No larger than the axes, so that a short attention is not called one block."""
    return min(BLOCK, max(q.length, 1)), min(BLOCK, max(kv.length, 1))


def _find_empty(counts: Counts) -> EmptyRows:
    empty = counts.empty
    first = tuple(tuple(row) for row in empty.nonzero()[:_NAMED].tolist())
    return EmptyRows(int(empty.sum()), empty.numel(), first)


def _kept(backend: str, problem: Problem, empty: bool, undecided: float) -> int | None:
    """Bytes that a backend holds for this problem, besides the tensors."""
    if backend in ("sdpa", "dense"):
        # worked out, since the mask itself is what nobody wants to hold to know its size
        batch, heads, queries, keys = problem.extent
        known = problem.recognised
        if backend == "sdpa" and (known.everything or known.nothing or known.causal):
            return 0
        rows = batch * heads * (1 if known.keys_only else queries)
        # rows with nothing in them are marked, and opened in a copy that `dense` has besides
        copies = 2 if empty and backend == "dense" else 1
        return rows * keys * copies + (rows if empty else 0)
    if undecided > _PREPARED:
        return None
    if problem.device.type != "cpu" and not torch.accelerator.is_available():
        return None
    taken = dispatch.BACKENDS[backend]
    return taken.size(taken.prepare(problem))


def _memory(explanation: Explanation) -> str:
    memory = explanation.memory
    facts = [
        f"a dense mask takes {_bytes(memory.dense)}",
        f"the block map {_bytes(memory.block_map)}",
    ]
    if memory.kept is not None:
        facts.append(f"{explanation.choice.backend} keeps {_bytes(memory.kept)}")
    return ", ".join(facts)


def _axes(explanation: Explanation) -> str:
    queries = explanation.q.length
    what = "query" if queries == 1 else "queries"
    parts = [f"{queries:,} {what} × {_many(explanation.kv.length, 'key')}"]
    if explanation.batch > 1:
        parts.append(_many(explanation.batch, "sample"))
    if explanation.heads > 1:
        parts.append(f"a mask for each of {explanation.heads} heads")
    return ", ".join(parts)


def _empty(explanation: Explanation) -> str:
    empty = explanation.empty
    if not empty.count:
        return "none"
    names = []
    for sample, head, query in empty.first:
        where = [f"sample {sample}"] * (explanation.batch > 1)
        where += [f"head {head}"] * (explanation.heads > 1)
        names.append(" ".join([*where, f"query {query:,}"]))
    more = ", …" if empty.count > len(names) else ""
    return (
        f"{empty.count:,} of {empty.of:,}, which give zeros and get no gradient: "
        f"{', '.join(names)}{more}"
    )


def _cost(cost: float) -> str:
    return f"{cost:,.2f}" if cost < 10 else f"{cost:,.0f}"


def _share(share: float) -> str:
    return f"{100 * share:.3g}{_SPACE}%"


def _bytes(count: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.3g}{_SPACE}{unit}"
    return f"{count}{_SPACE}B"


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
