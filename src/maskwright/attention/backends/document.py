"""Packed documents and padded samples, each rectangle of the mask in an attention of its own.

What lies outside of the rectangles is never computed. Rectangles of one shape share a call where
more calls would cost more than the copies for it; documents of equal length, side by side, are one
batch without any copy of the inputs. Short documents of many lengths share a few calls (see
`buckets`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from maskwright.attention.backends import buckets, sdpa
from maskwright.attention.backends.problem import Problem, occupied
from maskwright.attention.backends.rectangles import FLAG, MASKED, WHOLE, Rectangle, find, mask_of

# A call of a kernel and the pieces cut for it take as long as this many scores: on a CPU measured
# (one thread, forward and backward, head size 64); on a GPU a guess, from a launch of 20 µs.
CALL = {"cpu": 10_000, "cuda": 20_000_000}
# With this many keys a score costs twice as much as with very many; measured as above.
SHORT = 48


def refuse(problem: Problem) -> str | None:
    found = problem.once(find)
    return found if isinstance(found, str) else None


def cost(problem: Problem) -> float:
    """The area of the rectangles, and a fixed price for every call. Buckets cost no more."""
    found = problem.once(find)
    assert not isinstance(found, str)
    if not found:
        return sdpa.cost(problem)
    copies = problem.batch // problem.extent[0] * problem.heads
    work = calls = 0
    for one, count in _shapes(found).items():
        queries, keys, inside = one
        factor = {WHOLE: 1.0, FLAG: sdpa.flagged(queries, keys), MASKED: sdpa.MASKED}[inside]
        factor *= 1 + SHORT / keys
        work += copies * count * queries * keys * factor
        calls += count if inside == MASKED else 1
    call = CALL.get(problem.device.type, CALL["cuda"])
    return (work + (calls + 1) * call) / max(problem.pairs, 1)


def why(problem: Problem) -> str:
    found = problem.once(find)
    assert not isinstance(found, str)
    area = sum(one.shape[0] * one.shape[1] for one in found)
    total = problem.extent[0] * problem.q.length * problem.kv.length
    return f"documents or padding: {len(found)} rectangles hold {area / total:.1%} of the pairs"


@dataclass(frozen=True, eq=False)
class Prepared:
    """How to cut the tensors, and what to call on the pieces.

    Attributes:
        equal: number of documents of a row where all are of one length and fill it, else 0.
        cuts: for every sample, the sizes to cut queries and keys into.
        calls: what to call: on which pieces (sample, query piece, key piece), and how.
        empty: ``(samples, q)`` Boolean: queries that see no key.
        shared: in place of cuts and calls, of one row.
    """

    equal: int
    cuts: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]
    calls: tuple[tuple[tuple[tuple[int, int, int], ...], sdpa.Prepared], ...]
    empty: Tensor
    shared: buckets.Buckets | None = None


def prepare(problem: Problem) -> Prepared:
    found = problem.once(find)
    assert not isinstance(found, str)
    samples = problem.extent[0]
    equal = _equal(found, samples, problem)
    together = None if equal else _shared(problem, found)
    if together is not None:
        empty = torch.zeros(1, problem.q.length, dtype=torch.bool)
        return Prepared(0, (), (), empty, buckets.prepare(together, problem.device))
    by_sample: list[list[Rectangle]] = [[] for _ in range(samples)]
    for one in found:
        by_sample[one.sample].append(one)
    cuts, pieces = [], {}
    for rectangles in by_sample:
        q_cuts, q_pieces = _cut([(r.top, r.bottom) for r in rectangles], problem.q.length)
        kv_cuts, kv_pieces = _cut([(r.left, r.right) for r in rectangles], problem.kv.length)
        cuts.append((q_cuts, kv_cuts))
        for one, q_piece, kv_piece in zip(rectangles, q_pieces, kv_pieces, strict=True):
            pieces[one] = (one.sample, q_piece, kv_piece)
    groups: dict[tuple, list[Rectangle]] = {}
    alone = _alone(problem, found)
    for one in found:
        name = (*one.shape, one.inside)
        groups.setdefault((name, one if name in alone else 0), []).append(one)
    calls = [
        (tuple(pieces[one] for one in group), _how(problem, group[0])) for group in groups.values()
    ]
    empty = torch.ones(samples, problem.q.length, dtype=torch.bool)
    for group, (_, how) in zip(groups.values(), calls, strict=True):
        for one in group:
            rows = empty[one.sample, one.top : one.bottom]
            rows.copy_(rows.new_zeros(()) if how.empty is None else how.empty[0, :, :, 0].any(0))
    return Prepared(equal, tuple(cuts), tuple(calls), empty)


def size(prepared: Prepared) -> int:
    if prepared.shared is not None:
        return occupied(*prepared.shared.tensors)
    return sum(sdpa.size(how) for _, how in prepared.calls)


def loses(problem: Problem, prepared: Prepared) -> bool:
    """Whether a query that is no padding sees no key."""
    return problem.loses(prepared.empty)


def run(
    query: Tensor, key: Tensor, value: Tensor, prepared: Prepared, scale: float, dropout: float
) -> Tensor:
    if prepared.shared is not None:
        return buckets.run(query, key, value, prepared.shared, scale, dropout)
    if not prepared.calls:
        return sdpa.run(query, key, value, sdpa.Prepared(void=True), scale, dropout)
    if prepared.equal:
        return _run_equal(query, key, value, prepared, scale, dropout)
    samples = len(prepared.cuts)
    rows = [x.split(x.shape[0] // samples) for x in (query, key, value)]
    # one `split` whose gradient is one `cat`: a slice's gradient would fill the row with zeros
    cut = [
        (q.split(q_cuts, 2), k.split(kv_cuts, 2), v.split(kv_cuts, 2))
        for (q_cuts, kv_cuts), q, k, v in zip(prepared.cuts, *rows, strict=True)
    ]
    outputs: list[list[Tensor | None]] = [[None] * len(q_cuts) for q_cuts, _ in prepared.cuts]
    for places, how in prepared.calls:
        pieces = [(cut[s][0][i], cut[s][1][j], cut[s][2][j]) for s, i, j in places]
        inputs = [_joined(parts) for parts in zip(*pieces, strict=True)]
        out = sdpa.run(inputs[0], inputs[1], inputs[2], how, scale, dropout)
        each = out.split(out.shape[0] // len(places)) if len(places) > 1 else (out,)
        for (sample, q_piece, _), one in zip(places, each, strict=True):
            outputs[sample][q_piece] = one
    zeros = query.new_zeros(1).expand(*rows[0][0].shape[:2], 1, value.shape[-1])
    filled = []
    for (q_cuts, _), parts in zip(prepared.cuts, outputs, strict=True):
        whole = [
            zeros.expand(-1, -1, size, -1) if one is None else one
            for size, one in zip(q_cuts, parts, strict=True)
        ]
        filled.append(whole[0] if len(whole) == 1 else torch.cat(whole, dim=2))
    return _joined(filled)


def _run_equal(
    query: Tensor, key: Tensor, value: Tensor, prepared: Prepared, scale: float, dropout: float
) -> Tensor:
    """``(B, H, N·L, D)`` as ``(B·N, H, L, D)``; of a batch of 1, a view."""
    batch, count = query.shape[0], prepared.equal
    inputs = [
        x.unflatten(2, (count, -1)).transpose(1, 2).flatten(0, 1) for x in (query, key, value)
    ]
    out = sdpa.run(inputs[0], inputs[1], inputs[2], prepared.calls[0][1], scale, dropout)
    return out.unflatten(0, (batch, count)).transpose(1, 2).flatten(2, 3)


def _shared(problem: Problem, found: list[Rectangle]) -> list[list[Rectangle]] | None:
    """The documents of one row that share calls; measured on a CPU, and only there."""
    if problem.batch != 1 or problem.device.type != "cpu" or len(found) < 3:
        return None
    lengths = problem.q.length, problem.kv.length
    return buckets.group(found, lengths, problem.heads, CALL["cpu"], SHORT)


def _alone(problem: Problem, found: list[Rectangle]) -> set[tuple[int, int, str]]:
    """The shapes whose rectangles have a call each."""
    call = CALL.get(problem.device.type, CALL["cuda"])
    copies = problem.batch // problem.extent[0] * problem.heads
    return {
        (queries, keys, inside)
        for (queries, keys, inside), count in _shapes(found).items()
        if inside == MASKED or not buckets.joins((queries, keys), count, copies, call)
    }


def _shapes(found: list[Rectangle]) -> dict[tuple[int, int, str], int]:
    counts: dict[tuple[int, int, str], int] = {}
    for one in found:
        name = (*one.shape, one.inside)
        counts[name] = counts.get(name, 0) + 1
    return counts


def _equal(found: list[Rectangle], samples: int, problem: Problem) -> int:
    """How many documents a row has, where all are of one shape, in order, and fill both sides."""
    if not found or len(found) % samples or found[0].inside == MASKED:
        return 0
    count = len(found) // samples
    queries, keys = found[0].shape
    if count * queries != problem.q.length or count * keys != problem.kv.length:
        return 0
    for number, one in enumerate(found):
        sample, place = divmod(number, count)
        where = Rectangle(
            sample,
            place * queries,
            (place + 1) * queries,
            place * keys,
            (place + 1) * keys,
            found[0].inside,
        )
        if one != where:
            return 0
    return count


def _cut(stretches: list[tuple[int, int]], length: int) -> tuple[tuple[int, ...], list[int]]:
    """Sizes that cut an axis at these stretches, gaps included; and which piece each of them is."""
    sizes: list[int] = []
    pieces = [0] * len(stretches)
    end = 0
    for number in sorted(range(len(stretches)), key=stretches.__getitem__):
        start, stop = stretches[number]
        if start > end:
            sizes.append(start - end)
        pieces[number] = len(sizes)
        sizes.append(stop - start)
        end = stop
    if length > end or not sizes:
        sizes.append(length - end)
    return tuple(sizes), pieces


def _how(problem: Problem, one: Rectangle) -> sdpa.Prepared:
    if one.inside == MASKED:
        return sdpa.Prepared.of(mask_of(problem, one))
    return sdpa.Prepared(flag=one.inside == FLAG)


def _joined(parts: list[Tensor] | tuple[Tensor, ...]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)
