"""Attention with an explicit mask, in plain operations: every pattern, every device, slowly."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from maskwright.attention.backends.problem import Mask, Problem, occupied


def refuse(problem: Problem) -> str | None:
    """It runs everything."""
    return None


def cost(problem: Problem) -> float:
    """Against the fused kernel without a mask: every score is written and read several times."""
    return 3.0


def why(problem: Problem) -> str:
    return "no fused kernel runs this"


def prepare(problem: Problem) -> Mask:
    return problem.mask


def size(prepared: Mask) -> int:
    return occupied(prepared.allowed, prepared.opened, prepared.empty)


def loses(problem: Problem, prepared: Mask) -> bool:
    """Whether a query that is no padding sees no key."""
    return prepared.empty is not None and problem.loses(prepared.empty.any(1).squeeze(-1))


def run(
    query: Tensor, key: Tensor, value: Tensor, mask: Mask, scale: float, dropout: float
) -> Tensor:
    """Half precision is worked out in single precision."""
    wide = torch.promote_types(query.dtype, torch.float32)
    with torch.autocast(query.device.type, enabled=False):
        group = query.shape[1] // key.shape[1]
        keys, values = (x.to(wide).repeat_interleave(group, dim=1) for x in (key, value))
        scores = (query.to(wide) * scale) @ keys.mT
        scores = scores.masked_fill(~mask.opened, float("-inf"))
        weights = functional.dropout(scores.softmax(-1), dropout)
        out = (weights @ values).to(query.dtype)
    return out if mask.empty is None else out.masked_fill(mask.empty, 0)
