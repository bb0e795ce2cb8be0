"""T5's relative position bias in an unpadded batch: the bias of one sample, for every sample.

T5's first layer makes a bias for all pairs of the tokens it sees, and zeros for all pairs of
cross-attention. Of a row of all samples that would be a matrix larger than what unpadding saves.
But the bias knows distances only, so that of the longest sample holds those of all others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from maskwright.attention.rules.relative import Causal
from maskwright.errors import ModelError

if TYPE_CHECKING:
    from maskwright.hf.compute.row import Row
    from maskwright.hf.compute.row_attention import RowMask
    from maskwright.hf.compute.stack import Stack


def biased_modules(attentions: Sequence[nn.Module]) -> list[nn.Module]:
    """The attention modules that make a relative bias, or zeros in its place."""
    return [
        module
        for module in attentions
        if hasattr(module, "compute_bias") and hasattr(module, "has_relative_attention_bias")
    ]


class SampleBias:
    """In place of a module's ``compute_bias``, while its stack is accelerated.

    A module without a bias is made to ask for one too, so that it does not make its zeros itself.
    """

    def __init__(self, stack: Stack, module: Any) -> None:
        self._stack, self._module = stack, module
        self._make: Callable[..., Tensor] = module.compute_bias
        self._zeros = not module.has_relative_attention_bias

    def install(self) -> None:
        self._module.compute_bias = self
        self._module.has_relative_attention_bias = True

    def remove(self) -> None:
        del self._module.compute_bias
        self._module.has_relative_attention_bias = not self._zeros

    def __call__(self, queries: int, keys: int, *args: Any, **kwargs: Any) -> Tensor:
        row: Row | None = self._stack.last
        if row is not None and len(row) != queries:
            row = None
        if self._zeros:
            weight: Tensor = self._module.q.weight
            shape = (1, self._module.n_heads, queries, keys) if row is None else (1, 1, 1, 1)
            return weight.new_zeros(shape)
        if row is None:
            return self._make(queries, keys, *args, **kwargs)
        longest = row.shape[1]
        return self._make(longest, longest, *args, **kwargs)


def biased_row(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: RowMask,
    bias: Tensor,
    scale: float | None,
    dropout: float,
) -> Tensor:
    """Attention of each sample to itself, with a bias of its pairs.

    Args:
        query, key, value: ``(1, heads, T, size)``.
        mask: whose rule is full or causal.
        bias: ``(1, heads, n, n)`` of the longest sample.

    Returns:
        ``(1, heads, T, size)``.

    Raises:
        ModelError: the rule is a window, or the samples have padding inside.
    """
    causal = isinstance(mask.rule, Causal)
    lengths = mask.q.lengths
    if not (causal or mask.whole) or mask.q is not mask.kv or not mask.q.solid:
        raise ModelError(
            "A position bias is known here for whole samples and causal ones without padding "
            "between their tokens. Use unpad=False."
        )
    cut = [part.split(lengths, 2) for part in (query, key, value)]
    found = []
    for length, q, k, v in zip(lengths, *cut, strict=True):
        own = bias[..., :length, :length].to(q.dtype)
        if causal:
            later = torch.ones(length, length, dtype=torch.bool, device=q.device).triu(1)
            own = own.masked_fill(later, float("-inf"))
        found.append(
            scaled_dot_product_attention(q, k, v, attn_mask=own, dropout_p=dropout, scale=scale)
        )
    return torch.cat(found, 2)
