"""Masks as strings: rows of 0 and 1, "100/110/111" for three causal tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from maskwright.attention import Axis, Pattern


def shown(pattern: Pattern, q: Axis | int, kv: Axis | int | None = None) -> str:
    """The mask of a pattern; samples and heads, where there are several, behind a space."""
    q = Axis(q) if isinstance(q, int) else q
    kv = Axis(kv) if isinstance(kv, int) else kv
    return " ".join(matrix(one) for one in pattern.dense(q, kv).flatten(0, 1))


def matrix(mask: Tensor) -> str:
    assert mask.dtype == torch.bool
    return "/".join("".join(str(int(one)) for one in row) for row in mask.tolist())


def grid(mask_mod, batch: int, heads: int, q: int, kv: int) -> Tensor:
    """A mask_mod on every index, as a function of tensors that broadcast."""
    axes = torch.arange(batch), torch.arange(heads), torch.arange(q), torch.arange(kv)
    found = mask_mod(*torch.meshgrid(*axes, indexing="ij"))
    return found.expand(batch, heads, q, kv)
