"""Documents of many lengths, filled up to a few lengths, so that a few calls take them all.

A call for each length costs more than its work where documents are short. Each document is filled
up with copies of its own last token: no key of a copy is seen by a query that counts, and what the
query of a copy finds is dropped. The tokens are moved by one gather on each side, whose gradient
is a gather too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from maskwright.attention.backends import sdpa
from maskwright.attention.backends.rectangles import FLAG, WHOLE, Rectangle

# To move one token of one head, there and back, takes as long as this many scores; measured as
# `document.CALL`.
MOVE = 40


@dataclass(frozen=True, eq=False)
class Side:
    """Where the tokens of one axis go.

    Attributes:
        tokens: ``(N,)``, of all buckets one after another, which token stands at a place.
        places: ``(T,)``, the place of each token.
        filling: the places that are copies.
    """

    tokens: Tensor
    places: Tensor
    filling: Tensor

    def spread(self, row: Tensor) -> Tensor:
        """``(1, T, …)`` to ``(1, N, …)``."""
        return _Moved.apply(row, self.tokens, self.places, None)

    def gathered(self, spread: Tensor) -> Tensor:
        """``(1, N, …)`` to ``(1, T, …)``."""
        return _Moved.apply(spread, self.places, self.tokens, self.filling)


@dataclass(frozen=True, eq=False)
class Buckets:
    """All documents of a row, by length.

    Attributes:
        q, kv: where queries and keys go.
        shapes: of each bucket ``(documents, queries, keys)``.
        calls: of each bucket, how to call the kernel.
    """

    q: Side
    kv: Side
    shapes: tuple[tuple[int, int, int], ...]
    calls: tuple[sdpa.Prepared, ...]

    @property
    def tensors(self) -> tuple[Tensor | None, ...]:
        """All that it keeps."""
        sides = [one for side in (self.q, self.kv) for one in vars(side).values()]
        return (*sides, *[call.mask for call in self.calls])


class _Moved(torch.autograd.Function):
    """``x[:, there]``. Of the gradient, ``grad[:, back]``, with zeros at ``void``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, there: Tensor, back: Tensor, void: Tensor | None) -> Tensor:
        ctx.back, ctx.void = back, void
        return x.index_select(1, there)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:  # type: ignore[override]
        found = grad.index_select(1, ctx.back)
        if ctx.void is not None:
            found.index_fill_(1, ctx.void, 0)
        return found, None, None, None


def group(
    found: Sequence[Rectangle], lengths: tuple[int, int], copies: int, call: float, short: float
) -> list[list[Rectangle]] | None:
    """Which documents share a bucket, for the least work; None where each length by itself costs
    no more, or where they cannot be filled up.

    Args:
        found: the documents of one row.
        lengths: of the row, in queries and in keys.
        copies: heads.
        call, short: prices, as `document.cost` has them.

    See `joins` for what documents cost that share none.
    """
    inside = {one.inside for one in found}
    if len(inside) != 1 or not inside <= {WHOLE, FLAG}:
        return None
    shapes = np.array([one.shape for one in found])
    if tuple(shapes.sum(0)) != lengths:
        return None  # some tokens are in no document
    if inside == {FLAG} and (shapes[:, 0] > shapes[:, 1]).any():
        return None  # a query past the last key would see what fills up the keys
    order = np.lexsort((shapes[:, 0], shapes[:, 1]))
    keys, queries = shapes[order, 1], shapes[order, 0]
    # buckets are stretches of this order that do not cut through documents with equally many keys
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    ends = np.append(starts[1:], len(order))
    alone = sum(copies * q * (k + short) for q, k in shapes.tolist())
    for shape, count in Counter((q, k) for q, k in shapes.tolist()).items():
        if joins(shape, count, copies, call):
            alone += call + copies * count * MOVE * sum(shape)
        else:
            alone += count * call
    best, first = [0.0], []
    for end, most in zip(ends.tolist(), keys[ends - 1].tolist(), strict=True):
        options = []
        for number, start in enumerate(starts[starts < end].tolist()):
            rows = int(queries[start:end].max())
            size = (end - start) * (rows * (most + short) + MOVE * (rows + most))
            options.append((best[number] + copies * size + call, number))
        cost, chosen = min(options)
        best.append(cost)
        first.append(chosen)
    if best[-1] >= alone:
        return None
    groups, last = [], len(ends)
    while last:
        start = int(starts[first[last - 1]])
        groups.append([found[at] for at in order[start : ends[last - 1]].tolist()])
        last = first[last - 1]
    return groups


def joins(shape: tuple[int, int], count: int, copies: int, call: float) -> bool:
    """Whether documents of one shape cost less in one call, with copies of them, than each as it
    lies in a call of its own.

    >>> joins((8, 8), 3, copies=16, call=10_000), joins((8, 8), 3, copies=1, call=10_000)
    (False, True)
    """
    return copies * count * MOVE * sum(shape) < (count - 1) * call


def prepare(groups: Sequence[Sequence[Rectangle]], device: torch.device) -> Buckets:
    """Moves and calls for documents that share buckets as `group` says."""
    shapes = tuple(
        (len(one), max(each.shape[0] for each in one), max(each.shape[1] for each in one))
        for one in groups
    )
    q = [
        (np.array([(each.top, each.bottom) for each in one]), shape[1])
        for one, shape in zip(groups, shapes, strict=True)
    ]
    kv = [
        (np.array([(each.left, each.right) for each in one]), shape[2])
        for one, shape in zip(groups, shapes, strict=True)
    ]
    return Buckets(_side(q, device), _side(kv, device), shapes, _calls(groups, kv, device))


def run(
    query: Tensor, key: Tensor, value: Tensor, buckets: Buckets, scale: float, dropout: float
) -> Tensor:
    """Attention of ``(1, H, Q, D)`` to ``(1, H, K, D)``, and values ``(1, H, K, V)``."""
    inputs = []
    for side, at, x in ((buckets.q, 1, query), (buckets.kv, 2, key), (buckets.kv, 2, value)):
        spread = side.spread(x.transpose(1, 2))[0]
        cut = spread.split([shape[0] * shape[at] for shape in buckets.shapes])
        inputs.append(
            [
                part.unflatten(0, (shape[0], shape[at])).transpose(1, 2)
                for part, shape in zip(cut, buckets.shapes, strict=True)
            ]
        )
    found = [
        sdpa.run(q, k, v, how, scale, dropout).transpose(1, 2).flatten(0, 1)
        for q, k, v, how in zip(*inputs, buckets.calls, strict=True)
    ]
    whole = found[0] if len(found) == 1 else torch.cat(found)
    return buckets.q.gathered(whole[None]).transpose(1, 2)


def _side(stretches: list[tuple[np.ndarray, int]], device: torch.device) -> Side:
    tokens, real = [], []
    for bounds, length in stretches:
        at = bounds[:, :1] + np.arange(length)
        real.append((at < bounds[:, 1:]).ravel())
        tokens.append(np.minimum(at, bounds[:, 1:] - 1).ravel())
    token, whole = np.concatenate(tokens), np.concatenate(real)
    places = np.empty(int(whole.sum()), np.int64)
    places[token[whole]] = np.flatnonzero(whole)
    arrays = (token, places, np.flatnonzero(~whole))
    return Side(*[torch.from_numpy(one).to(device) for one in arrays])


def _calls(
    groups: Sequence[Sequence[Rectangle]], kv: list[tuple[np.ndarray, int]], device: torch.device
) -> tuple[sdpa.Prepared, ...]:
    calls = []
    for group_, (bounds, length) in zip(groups, kv, strict=True):
        if group_[0].inside == FLAG:
            calls.append(sdpa.Prepared(flag=True))
            continue
        seen = torch.from_numpy(np.arange(length) < bounds[:, 1:] - bounds[:, :1])
        calls.append(sdpa.Prepared(mask=None if seen.all() else seen[:, None, None].to(device)))
    return tuple(calls)
