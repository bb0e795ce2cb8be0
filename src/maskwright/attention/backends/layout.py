"""What a pattern on two axes comes to, as work for a kernel: which rows, which keys, which mask.

A layout is a pure function of the pattern, the axes and the data type. It holds no array of all
pairs: blocks come from interval arithmetic, and only those that it calls partial are worked out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from maskwright.attention import coordinates
from maskwright.attention.axis import Axis
from maskwright.attention.backends.schedule import Rows, cut_rows, split_pays
from maskwright.attention.blocks import EMPTY, FULL, as_size
from maskwright.attention.pattern import Pattern, extent

# Small enough that little is touched in vain, large enough for a matrix product.
_BLOCK = 64
# Pairs of a mask that are worked out at once: integers of 8 bytes, in the cache.
_AT_ONCE = 1 << 18


@dataclass(frozen=True, eq=False)
class Part:
    """One call of a kernel.

    Attributes:
        runs: which keys, as ``(start, stop)`` in order.
        mask: ``(samples or 1, heads or 1, rows, keys)`` Boolean, True = may attend; None where
            every row may attend to every key. Equal masks are one tensor.
        dead: ``(samples or 1, heads or 1, rows)`` Boolean, the rows of the mask that have
            nothing; None where there is no such row.
    """

    runs: tuple[tuple[int, int], ...]
    mask: Tensor | None = None
    dead: Tensor | None = None

    @property
    def keys(self) -> int:
        return sum(stop - start for start, stop in self.runs)


@dataclass(frozen=True, eq=False)
class Span:
    """Rows of queries that are worked out together; their parts share one softmax."""

    samples: slice
    heads: slice
    rows: slice
    parts: tuple[Part, ...]


@dataclass(frozen=True, eq=False)
class Layout:
    """The work of a pattern on two axes; of `plan`.

    Attributes:
        batch, heads: of the mask; 1 fits every batch, or every number of heads.
        q_length, kv_length: tokens of each axis.
        spans: in the order in which they are worked out. A row in no span is empty.
    """

    batch: int
    heads: int
    q_length: int
    kv_length: int
    spans: tuple[Span, ...]

    @cached_property
    def touched(self) -> float:
        """The share of all pairs that a kernel works out, 0 to 1."""
        total = self.batch * self.heads * self.q_length * self.kv_length
        done = sum(
            len(range(*span.samples.indices(self.batch)))
            * len(range(*span.heads.indices(self.heads)))
            * (span.rows.stop - span.rows.start)
            * part.keys
            for span in self.spans
            for part in span.parts
        )
        return done / total if total else 0.0

    @cached_property
    def bytes(self) -> int:
        """What the masks occupy, each counted once."""
        masks = {
            id(part.mask): part.mask.numel() * part.mask.element_size()
            for span in self.spans
            for part in span.parts
            if part.mask is not None
        }
        return sum(masks.values())


def plan(
    pattern: Pattern,
    q: Axis,
    kv: Axis | None = None,
    size: int | tuple[int, int] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Layout:
    """How a pattern is worked out.

    Args:
        pattern: who may attend to whom.
        q, kv: the axes; in self-attention, leave ``kv`` out.
        size: tokens of the smallest block on both axes or on each; 64 unless given.
        dtype: of the queries, for the choice of how many rows go together.

    Raises:
        AxisError: the axes lack a column that the pattern needs, or differ in batch.
        PatternError: the size is not one.
    """
    kv = q if kv is None else kv
    sizes = as_size(_BLOCK if size is None else size)
    batch, heads, *_ = extent(pattern, q, kv)
    found = pattern.blocks(q, kv, sizes)
    masks = _Masks(pattern, q, kv, (batch, heads), sizes[1])
    spans = [
        Span(samples, of_heads, slice(rows.start, rows.stop), parts)
        for samples, of_heads, states in _groups(found.states.cpu().numpy())
        for rows in cut_rows(states != EMPTY, q.length, kv.length, sizes, dtype)
        if (parts := masks.parts(samples, of_heads, rows, states, sizes[0]))
    ]
    return Layout(batch, heads, q.length, kv.length, tuple(spans))


def _groups(states: np.ndarray) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Samples and heads whose maps are equal; of each group, its map."""
    for samples in _alike(states):
        of_sample = states[samples[0]]
        for heads in _alike(of_sample):
            for a in _regular(samples, len(states)):
                for b in _regular(heads, len(of_sample)):
                    yield a, b, of_sample[heads[0]]


def _alike(maps: np.ndarray) -> list[list[int]]:
    """The numbers of equal entries together, ordered by their first."""
    if len(maps) == 1:
        return [[0]]
    groups: dict[bytes, list[int]] = {}
    for number, one in enumerate(maps):
        groups.setdefault(hashlib.blake2b(one.tobytes()).digest(), []).append(number)
    return list(groups.values())


def _regular(numbers: list[int], of: int) -> list[slice]:
    """Slices that hold these numbers: what a slice takes is a view, not a copy."""
    if of == 1:
        return [slice(None)]
    slices = []
    while numbers:
        step = numbers[1] - numbers[0] if len(numbers) > 1 else 1
        count = 1
        while count < len(numbers) and numbers[count] == numbers[0] + count * step:
            count += 1
        slices.append(slice(numbers[0], numbers[count - 1] + 1, step))
        numbers = numbers[count:]
    return slices


class _Masks:
    """Works out the masks of spans, and keeps one of each."""

    def __init__(
        self, pattern: Pattern, q: Axis, kv: Axis, outer: tuple[int, int], size: int
    ) -> None:
        self.pattern, self.q, self.kv, self.outer, self.size = pattern, q, kv, outer, size
        self.device = coordinates.common_device(q, kv)
        self.known: dict[tuple, tuple[Tensor, Tensor | None]] = {}

    def parts(
        self, samples: slice, heads: slice, rows: Rows, states: np.ndarray, leaf: int
    ) -> tuple[Part, ...]:
        """The calls that one span needs; none where all of it turns out empty."""
        of_rows = states[rows.start // leaf : -(-rows.stop // leaf)]
        full = (of_rows == FULL).all(0)
        partial = rows.blocks & ~full
        if not partial.any():
            return (Part(self._runs(full)),)
        keys = self._keys(partial)
        allowed = self._allowed(samples, heads, rows, keys)
        none, every = self._by_block(allowed, keys, partial)
        full |= every
        partial &= ~(none | every)
        if not partial.any():
            return (Part(self._runs(full)),) if full.any() else ()
        if split_pays(rows.stop - rows.start, len(self._keys(full))):
            apart = self._masked(allowed[..., torch.from_numpy(partial[keys // self.size])])
            return Part(self._runs(full)), Part(self._runs(partial), *apart)
        both = self._keys(full | partial)
        mask = torch.ones(*allowed.shape[:-1], len(both), dtype=torch.bool)
        inside = partial[keys // self.size]
        mask[..., torch.from_numpy(partial[both // self.size])] = allowed[
            ..., torch.from_numpy(inside)
        ]
        return (Part(self._runs(full | partial), *self._masked(mask)),)

    def _allowed(self, samples: slice, heads: slice, rows: Rows, keys: np.ndarray) -> Tensor:
        """The mask of these rows and keys, ``(samples or 1, heads or 1, rows, keys)``."""
        sample = torch.arange(self.outer[0], device=self.device)[samples].view(-1, 1, 1, 1)
        head = torch.arange(self.outer[1], device=self.device)[heads].view(1, -1, 1, 1)
        columns = torch.from_numpy(keys).to(self.device).view(1, 1, 1, -1)
        shape = (len(sample), head.shape[1], rows.stop - rows.start, len(keys))
        result = torch.empty(shape, dtype=torch.bool)
        step = max(1, _AT_ONCE // max(1, len(keys) * shape[0] * shape[1]))
        for start in range(rows.start, rows.stop, step):
            stop = min(start + step, rows.stop)
            numbers = torch.arange(start, stop, device=self.device).view(1, 1, -1, 1)
            sides = coordinates.scalars(self.q, self.kv, sample, head, numbers, columns)
            result[:, :, start - rows.start : stop - rows.start] = self.pattern.allowed(*sides)
        return result

    def _by_block(
        self, allowed: Tensor, keys: np.ndarray, partial: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Which partial blocks of keys turn out to have nothing, and which to have everything."""
        some = allowed.flatten(0, 2).any(0).numpy()
        all_ = allowed.flatten(0, 2).all(0).numpy()
        starts = np.flatnonzero(np.diff(keys // self.size, prepend=-1))
        none, every = np.zeros_like(partial), np.zeros_like(partial)
        none[partial] = ~np.logical_or.reduceat(some, starts)
        every[partial] = np.logical_and.reduceat(all_, starts)
        return none, every

    def _masked(self, mask: Tensor) -> tuple[Tensor, Tensor | None]:
        """The mask that is kept of those equal to this one, and its dead rows."""
        for dim in (0, 1):
            if mask.shape[dim] > 1 and (mask == mask.narrow(dim, 0, 1)).all():
                mask = mask.narrow(dim, 0, 1)
        mask = mask.contiguous()
        key = (tuple(mask.shape), hashlib.blake2b(mask.numpy().tobytes(), digest_size=16).digest())
        if key not in self.known:
            dead = ~mask.any(-1)
            self.known[key] = mask, dead if dead.any() else None
        return self.known[key]

    def _keys(self, blocks: np.ndarray) -> np.ndarray:
        """The numbers of the keys in these blocks."""
        keys = np.flatnonzero(blocks)[:, None] * self.size + np.arange(self.size)
        return keys[keys < self.kv.length]

    def _runs(self, blocks: np.ndarray) -> tuple[tuple[int, int], ...]:
        edges = np.flatnonzero(np.diff(blocks.astype(np.int8), prepend=0, append=0))
        ends = np.minimum(edges * self.size, self.kv.length).tolist()
        return tuple(zip(ends[::2], ends[1::2], strict=True))
