"""The block-sparse kernels of the CPU as a backend: shared heads, autocast, and what they cost."""

from __future__ import annotations

import torch
from torch import Tensor

from maskwright.attention import blocks
from maskwright.attention.backends import blocksparse, schedule
from maskwright.attention.backends.layout import Layout
from maskwright.attention.backends.problem import Problem

# What the schedule does not count, measured as its own constants: masks of partial blocks, and
# for each head, in pairs, what it takes to start and to merge.
_MASKS = 1.15
_START = 2_000
# Maps that an estimate looks at: those of other samples and heads are much the same.
_MAPS = 8


def refuse(problem: Problem) -> str | None:
    """Why it cannot run this, or None."""
    if problem.device.type != "cpu":
        return "its kernels are for the CPU"
    if problem.dropout:
        return "it has no dropout"
    return None


def cost(problem: Problem) -> float:
    """The time that the schedule of the kernels expects, of at most `_MAPS` samples and heads."""
    found = problem.blocks
    maps = (found.states != blocks.EMPTY).flatten(0, 1).numpy()
    maps = maps[:: -(-len(maps) // _MAPS)] if len(maps) else maps
    q, kv = problem.q.length, problem.kv.length
    times = [schedule.expected(one, q, kv, found.size, problem.dtype) for one in maps]
    work = sum(times) / len(times) if times else 0.0
    return _MASKS * work + _START / max(q * kv, 1)


def why(problem: Problem) -> str:
    return f"{problem.touched:.1%} of the pairs lie in blocks with work in them"


def prepare(problem: Problem) -> Layout:
    pattern = problem.recognised.pattern
    return blocksparse.plan(pattern, problem.q, problem.kv, dtype=problem.dtype)


def size(prepared: Layout) -> int:
    return prepared.bytes


def loses(problem: Problem, prepared: Layout) -> bool:
    """Whether a query that is no padding sees no key."""
    empty = torch.ones(prepared.batch, prepared.heads, prepared.q_length, dtype=torch.bool)
    for span in prepared.spans:
        # of two parts the first has no mask, and so no dead row
        dead = span.parts[0].dead
        empty[span.samples, span.heads, span.rows] = False if dead is None else dead
    return problem.loses(empty.any(1))


def run(
    query: Tensor, key: Tensor, value: Tensor, prepared: Layout, scale: float, dropout: float
) -> Tensor:
    group = query.shape[1] // key.shape[1]
    if group > 1:
        key, value = (x.repeat_interleave(group, dim=1) for x in (key, value))
    with torch.autocast(query.device.type, enabled=False):
        return blocksparse.run(query, key, value, prepared, scale)
