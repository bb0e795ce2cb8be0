"""The slow, obvious attention that every backend is compared with. No fast code imports it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from maskwright.attention.axis import Axis
from maskwright.attention.coordinates import scalars
from maskwright.attention.pattern import Pattern


class Expected(NamedTuple):
    """Output and gradients in double precision, in the shapes of output, query, key and value."""

    output: Tensor
    query: Tensor
    key: Tensor
    value: Tensor


def mask(pattern: Pattern, q: Axis, kv: Axis, batch: int, heads: int) -> Tensor:
    """``(batch, heads, q, kv)`` Boolean: every pair asked by itself, from a list of all pairs."""
    shape = (batch, heads, q.length, kv.length)
    ranges = [torch.arange(size) for size in shape]
    sample, head, row, column = torch.cartesian_prod(*ranges).unbind(-1)
    return pattern.allowed(*scalars(q, kv, sample, head, row, column)).view(shape)


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    pattern: Pattern,
    q: Axis,
    kv: Axis,
    scale: float | None = None,
) -> Tensor:
    """Softmax over the allowed keys, query by query, in double precision.

    ``(B, H, Q, D) × (B, Hkv, K, D) × (B, Hkv, K, Dv) → (B, H, Q, Dv)``. A query without keys
    gets zeros. Source: Vaswani et al., "Attention Is All You Need", 2017, equation 1.
    """
    batch, heads, queries, size = query.shape
    allowed = mask(pattern, q, kv, batch, heads)
    group = heads // key.shape[1]
    factor = size**-0.5 if scale is None else scale
    rows = []
    for b in range(batch):
        for h in range(heads):
            keys, values = key[b, h // group].double(), value[b, h // group].double()
            for i in range(queries):
                chosen = allowed[b, h, i].nonzero().squeeze(-1)
                scores = keys[chosen] @ query[b, h, i].double() * factor
                rows.append(scores.softmax(0) @ values[chosen])
    if not rows:
        return query.new_zeros((*query.shape[:3], value.shape[-1]), dtype=torch.float64)
    return torch.stack(rows).view(batch, heads, queries, value.shape[-1])


def expected(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    pattern: Pattern,
    q: Axis,
    kv: Axis,
    upstream: Tensor,
    scale: float | None = None,
) -> Expected:
    """What `attention` gives, and its gradients for this gradient of the output."""
    inputs = [x.detach().double().requires_grad_() for x in (query, key, value)]
    output = attention(inputs[0], inputs[1], inputs[2], pattern, q, kv, scale)
    # where nobody attends to anything, no input is used at all
    output = output + sum(x.sum() * 0 for x in inputs)
    query, key, value = torch.autograd.grad(output, inputs, upstream.double())
    return Expected(output.detach(), query, key, value)
