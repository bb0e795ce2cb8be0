"""PyTorch's fused attention: without a mask, with its causal flag, or with a Boolean mask."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from maskwright.attention.backends.problem import Mask, Problem, occupied

# Measured on one thread of a CPU, forward and backward, against the same call without a mask.
MASKED = 1.1


def refuse(problem: Problem) -> str | None:
    """It runs everything."""
    return None


def cost(problem: Problem) -> float:
    """1 is the whole attention without a mask. The flag saves what lies above the diagonal, less
    the blocks that the kernel cuts through.
    """
    known = problem.recognised
    if known.everything or known.nothing:
        return 1.0
    return flagged(problem.q.length, problem.kv.length) if known.causal else MASKED


def flagged(queries: int, keys: int) -> float:
    """Work of the causal flag against the whole: the share of pairs that it allows, and the
    blocks that the kernel cuts through.
    """
    allowed = queries / (2 * keys) if queries <= keys else 1 - keys / (2 * queries)
    return min(1.0, allowed + 256 / keys)


def why(problem: Problem) -> str:
    known = problem.recognised
    if known.everything:
        return "every query may attend to every key: no mask"
    if known.nothing:
        return "no query may attend to any key: the output is zero"
    if known.causal:
        return "causal, counted from the first query and the first key: the kernel's own flag"
    if problem.q.length == 1:
        return "a single query: one row of a mask"
    return "nothing that skips work is cheaper than the fused kernel with a mask"


@dataclass(frozen=True, eq=False)
class Prepared:
    """How to call the kernel.

    Attributes:
        mask: ``(batch or 1, heads or 1, q or 1, kv)`` Boolean, with a key in every row.
        flag: whether to set the causal flag instead.
        empty: rows of the output to be zero; broadcasts to it.
        void: whether the whole output is zero.
    """

    mask: Tensor | None = None
    flag: bool = False
    empty: Tensor | None = None
    void: bool = False

    @classmethod
    def of(cls, mask: Mask) -> Prepared:
        return cls(mask=mask.opened, empty=mask.empty)


def prepare(problem: Problem) -> Prepared:
    known = problem.recognised
    if known.everything or known.nothing:
        return Prepared(void=known.nothing)
    return Prepared(flag=True) if known.causal else Prepared.of(problem.mask)


def size(prepared: Prepared) -> int:
    return occupied(prepared.mask, prepared.empty)


def loses(problem: Problem, prepared: Prepared) -> bool:
    """Whether a query that is no padding sees no key."""
    if prepared.void:
        return problem.loses(torch.ones(1, problem.q.length, dtype=torch.bool))
    return prepared.empty is not None and problem.loses(prepared.empty.any(1).squeeze(-1))


def run(
    query: Tensor, key: Tensor, value: Tensor, prepared: Prepared, scale: float, dropout: float
) -> Tensor:
    grouped = query.shape[1] != key.shape[1]
    out = functional.scaled_dot_product_attention(
        query,
        key,
        value,
        prepared.mask,
        dropout,
        prepared.flag,
        scale=scale,
        enable_gqa=grouped,
    )
    if prepared.empty is not None:
        return out.masked_fill(prepared.empty, 0)
    # by `masked_fill`, so that the gradients exist, and are zero
    return out.masked_fill(out.new_ones((), dtype=torch.bool), 0) if prepared.void else out
