"""Attention of some queries to some keys, with what is needed to join it to other keys.

Two pairs of functions do the same: torch's fused CPU kernels, which scaled_dot_product_attention
runs itself but which only a private name makes known together with their log-sum-exp; and plain
matrix products. The private pair is tried once on a small problem, and used where its signature
and its answers are as expected.

In all of them ``bias`` is added to the scores (0, or minus infinity), ``out`` and ``logsumexp``
of a backward may come from more keys than these, and a row without keys gives zeros. Source of
the backward: Dao, "FlashAttention-2", 2023, algorithm 2: with the log-sum-exp L of all keys,
P = exp(S − L) and dS = P ∘ (dO Vᵀ − rowsum(dO ∘ O)) hold for each part of the keys by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

# Scores that plain matrix products hold at once.
_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class Kernels:
    """One implementation.

    Attributes:
        name: "fused" or "plain".
        forward: ``(query, key, value, bias, scale)`` to ``(out, logsumexp)``: tensors
            ``(batch, heads, rows, dim)`` and ``(batch, heads, rows)``. The log-sum-exp of a row
            without keys is not defined.
        backward: ``(grad, query, key, value, out, logsumexp, bias, scale)`` to the gradients of
            query, key and value.
    """

    name: str
    forward: Callable[..., tuple[Tensor, Tensor]]
    backward: Callable[..., tuple[Tensor, Tensor, Tensor]]


def kernels(dtype: torch.dtype, dim: int, value_dim: int) -> Kernels:
    """The fastest that answer rightly for this type and these dimensions of a head."""
    return FUSED if dim == value_dim and fused_works(dtype) else PLAIN


# ------------------------------------------------------------------------- torch's own kernels

_FORWARD = (
    "aten::_scaled_dot_product_flash_attention_for_cpu(Tensor query, Tensor key, Tensor value, "
    "float dropout_p=0., bool is_causal=False, *, Tensor? attn_mask=None, float? scale=None) "
    "-> (Tensor output, Tensor logsumexp)"
)
_BACKWARD = (
    "aten::_scaled_dot_product_flash_attention_for_cpu_backward(Tensor grad_out, Tensor query, "
    "Tensor key, Tensor value, Tensor out, Tensor logsumexp, float dropout_p, bool is_causal, *, "
    "Tensor? attn_mask=None, float? scale=None) "
    "-> (Tensor grad_query, Tensor grad_key, Tensor grad_value)"
)


def _forward(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    operator = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
    outer = query.shape[:2]
    sides = map(_folded, (query.contiguous(), key, value))
    mask = _folded_bias(bias, outer)
    out, logsumexp = operator(*sides, 0.0, False, attn_mask=mask, scale=scale)
    return out.view(*outer, *out.shape[2:]), logsumexp.view(*outer, -1)


def _backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    logsumexp: Tensor,
    bias: Tensor | None,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    operator = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward.default
    outer = query.shape[:2]
    sides = map(_folded, (grad, query.contiguous(), key, value, out, logsumexp))
    mask = _folded_bias(bias, outer)
    grads = operator(*sides, 0.0, False, attn_mask=mask, scale=scale)
    return tuple(one.view(*outer, *one.shape[2:]) for one in grads)


def _folded(tensor: Tensor) -> Tensor:
    """Heads as samples.

    The kernels give their results, and sums of gradients, the layout (sample, row, head, dim). With
    8 heads of 64 the rows of one head are then 2 KB apart, which fall into few sets of the cache:
    with one head a call took 0.8 of the time.
    """
    return tensor.flatten(0, 1).unsqueeze(1)


def _folded_bias(bias: Tensor | None, outer: tuple[int, ...]) -> Tensor | None:
    if bias is None or bias.shape[:2] == (1, 1):
        return bias
    return _folded(bias.expand(*outer, -1, -1))


FUSED = Kernels("fused", _forward, _backward)


@cache
def fused_works(dtype: torch.dtype) -> bool:
    """Whether torch has the private kernels, of the signature above and with the right answers."""
    names = ("", "_backward")
    expected = dict(zip(names, (_FORWARD, _BACKWARD), strict=True))
    for name in names:
        packet = getattr(torch.ops.aten, f"_scaled_dot_product_flash_attention_for_cpu{name}", None)
        overload: Any = getattr(packet, "default", None)
        if overload is None or str(overload._schema) != expected[name]:
            return False
    return answers_rightly(FUSED, dtype)


def answers_rightly(tried: Kernels, dtype: torch.dtype) -> bool:
    """Whether kernels agree with plain matrix products in double precision.

    The problem has what a layout asks for: more keys than the kernels take at once, a bias shared
    by the heads, rows whose first keys are masked, a row without keys, views that are not
    contiguous, and an output and log-sum-exp of more keys than the call sees.
    """
    generator = torch.Generator().manual_seed(0)

    def draw(length: int) -> Tensor:
        values = torch.randn(1, length, 2, 8, generator=generator, dtype=torch.float64)
        return values.to(dtype).transpose(1, 2)

    query, key, value, grad = draw(40), draw(640), draw(640), draw(40)
    allowed = torch.rand(1, 1, 40, 600, generator=generator) < 0.5
    allowed[..., 3, :] = False
    allowed[..., 5, :550] = False
    bias = as_bias(allowed, torch.float64)
    wide = query.double(), key.double(), value.double()
    out, logsumexp = _plain_forward(*wide, torch.nn.functional.pad(bias, (0, 40)), 0.3)
    near = wide[0], wide[1][:, :, :600], wide[2][:, :, :600]
    expected = (
        _plain_forward(*near, bias, 0.3)[0],
        *_plain_backward(grad.double(), *near, out, logsumexp, bias, 0.3),
    )
    part = query, key[:, :, :600], value[:, :, :600]
    bias = bias.to(bias_type(dtype))
    try:
        found = (
            tried.forward(*part, bias, 0.3)[0],
            *tried.backward(grad, *part, out.to(dtype), logsumexp.to(bias_type(dtype)), bias, 0.3),
        )
    except (RuntimeError, TypeError):
        return False
    tolerance = 0.05 if dtype in (torch.bfloat16, torch.float16) else 1e-4
    return all(
        torch.allclose(mine.double(), right, rtol=tolerance, atol=tolerance)
        for mine, right in zip(found, expected, strict=True)
    )


# ------------------------------------------------------------------------ plain matrix products


def _plain_forward(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    wide = bias_type(query.dtype)
    key, value = key.to(wide), value.to(wide)
    outs, sums = [], []
    for rows in _rows(query, key):
        scores = _scores(query[:, :, rows].to(wide), key, bias, rows, scale)
        logsumexp = scores.logsumexp(-1).nan_to_num(neginf=0.0)
        outs.append((scores - logsumexp.unsqueeze(-1)).exp() @ value)
        sums.append(logsumexp)
    return torch.cat(outs, 2).to(query.dtype), torch.cat(sums, 2)


def _plain_backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    logsumexp: Tensor,
    bias: Tensor | None,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    dtype, wide = query.dtype, bias_type(query.dtype)
    key, value = key.to(wide), value.to(wide)
    grad_key, grad_value = torch.zeros_like(key), torch.zeros_like(value)
    grads = []
    for rows in _rows(query, key):
        part, above = query[:, :, rows].to(wide), grad[:, :, rows].to(wide)
        scores = _scores(part, key, bias, rows, scale)
        chances = (scores - logsumexp[:, :, rows].unsqueeze(-1)).exp()
        delta = (above * out[:, :, rows].to(wide)).sum(-1, keepdim=True)
        grad_scores = chances * (above @ value.mT - delta) * scale
        grads.append(grad_scores @ key)
        grad_key += grad_scores.mT @ part
        grad_value += chances.mT @ above
    return torch.cat(grads, 2).to(dtype), grad_key.to(dtype), grad_value.to(dtype)


def _scores(query: Tensor, key: Tensor, bias: Tensor | None, rows: slice, scale: float) -> Tensor:
    scores = query @ key.mT * scale
    return scores if bias is None else scores + bias[:, :, rows]


def _rows(query: Tensor, key: Tensor) -> list[slice]:
    """Rows in pieces, so that the scores of one stay small."""
    batch, heads, length, _ = query.shape
    step = max(1, _AT_ONCE // (batch * heads * key.shape[2]))
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]


PLAIN = Kernels("plain", _plain_forward, _plain_backward)


def bias_type(dtype: torch.dtype) -> torch.dtype:
    """What scores are held in: single precision for half types."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def as_bias(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where a Boolean mask is True, minus infinity elsewhere."""
    return torch.zeros(allowed.shape, dtype=dtype).masked_fill_(~allowed, -torch.inf)
