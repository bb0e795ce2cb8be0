"""Attention under a mask, with what the backends of patterns do not know: bias, and its weights."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import dropout as drop
from torch.nn.functional import scaled_dot_product_attention


def biased_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    allowed: Tensor,
    *,
    bias: Tensor | None = None,
    scale: float | None = None,
    dropout: float = 0.0,
    weights: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Softmax attention over the keys that ``allowed`` says; a row without any gives zeros.

    Args:
        query, key, value: ``(batch, heads, tokens, size)``; the heads of the keys divide those of
            the queries.
        allowed: ``(batch or 1, heads or 1, q, kv)`` Boolean, True = may attend.
        bias: added to the scores, of a shape that broadcasts to them.
        scale: of the scores; one over the root of the size unless given.
        dropout: share of the weights that are dropped.
        weights: whether to return the weights, ``(batch, heads, q, kv)``, before dropout.
    """
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    some = allowed.any(-1, keepdim=True)
    # an empty row is computed as if it saw everything, then emptied: no kernel makes NaN of it
    opened = allowed | ~some
    if not weights:
        mask = opened
        if bias is not None:
            mask = bias.to(query.dtype).masked_fill(~opened, float("-inf"))
        found = scaled_dot_product_attention(
            query, key, value, attn_mask=mask, dropout_p=dropout, scale=scale
        )
        return found * some, None
    scores = query @ key.transpose(-1, -2) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if bias is not None:
        scores = scores + bias
    scores = scores.masked_fill(~opened, float("-inf"))
    shares = torch.softmax(scores, -1, dtype=torch.float32).to(query.dtype) * some
    return drop(shares, dropout) @ value, shares
