"""FlexAttention as a backend.

On a GPU the kernel is compiled, once for every pattern and every set of shapes. On a CPU it runs
as it is, to compare with: forward only, because torch has no backward there, and slowly.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from maskwright.attention.flex import block_mask

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

    from maskwright.attention.backends.problem import Problem

# Tokens of a block, as its kernels expect them.
_SIZE = (128, 128)


def refuse(problem: Problem) -> str | None:
    """Why it cannot run this, or None."""
    if problem.dropout:
        return "FlexAttention has no dropout"
    if problem.recognised.nothing:
        return "no query may attend to any key: there is nothing to run"
    if problem.device.type == "cpu" and problem.training:
        return "FlexAttention has no backward on a CPU: only under torch.no_grad()"
    return None


def cost(problem: Problem) -> float:
    """On a GPU the share of pairs in blocks with work in them, at a tenth more than a fused kernel
    takes for a pair (a guess: no GPU was at hand). On a CPU it is there to compare with.
    """
    return 100.0 if problem.device.type == "cpu" else 1.1 * problem.touched + 0.05


def why(problem: Problem) -> str:
    return f"{problem.touched:.1%} of the pairs lie in blocks with work in them"


def prepare(problem: Problem) -> BlockMask:
    q = problem.q.to(problem.device)
    kv = q if problem.kv is problem.q else problem.kv.to(problem.device)
    return block_mask(problem.recognised.pattern, q, kv, _SIZE).to(problem.device)


def size(prepared: BlockMask) -> int:
    return sum(
        one.untyped_storage().nbytes() for one in prepared.as_tuple() if torch.is_tensor(one)
    )


def loses(problem: Problem, prepared: BlockMask) -> bool:
    """Never known here: it would cost a look at every pair."""
    return False


def run(
    query: Tensor, key: Tensor, value: Tensor, prepared: BlockMask, scale: float, dropout: float
) -> Tensor:
    grouped = query.shape[1] != key.shape[1]
    options = {"block_mask": prepared, "scale": scale, "enable_gqa": grouped}
    if query.device.type != "cpu":
        return _compiled()(query, key, value, **options)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "flex_attention called without torch.compile")
        return _kernel()(query, key, value, **options)


def _kernel() -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    return flex_attention


@functools.cache
def _compiled() -> Callable[..., Any]:
    return torch.compile(_kernel())
