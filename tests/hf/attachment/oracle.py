"""The same models with masks made by hand: eager attention, and a matrix added to its scores."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, eager_mask

from maskwright.hf.attachment.seats import is_attention

Rule = Callable[[int, int], bool]


def matrix(rule: Rule, queries: int, keys: int) -> Tensor:
    """``(queries, keys)`` Booleans of a rule on query and key, both counted from 0."""
    return torch.tensor([[rule(i, j) for j in range(keys)] for i in range(queries)])


def role_of(path: str, model: Any) -> str:
    """From where a module is, without the code that is tested."""
    if any(part in path for part in ("encoder_attn", "EncDecAttention", "crossattention")):
        return "cross"
    if path.startswith(("decoder.", "model.decoder.")):
        return "decoder"
    if path.startswith(("encoder.", "model.encoder.")) or "bert" in type(model).__name__.lower():
        return "encoder"
    return "decoder"


@contextmanager
def by_hand(model: Any, role: str, rule: Rule) -> Iterator[None]:
    """Within it, every attention of this role is also bound by the rule."""
    extra = {
        id(module)
        for path, module in model.named_modules()
        if is_attention(module) and role_of(path, model) == role
    }
    assert extra

    def attention(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **rest: Any):
        if id(module) in extra:
            allowed = matrix(rule, query.shape[2], key.shape[2])
            own = torch.zeros((), dtype=query.dtype)
            forbidden = torch.where(allowed, own, torch.finfo(query.dtype).min)
            mask = forbidden if mask is None else torch.minimum(mask, forbidden)
        eager = sys.modules[type(module).__module__].eager_attention_forward  # type: ignore[attr-defined]
        return eager(module, query, key, value, mask, **rest)

    AttentionInterface.register("by-hand", attention)
    AttentionMaskInterface.register("by-hand", eager_mask)
    configs = {id(m.config): m.config for m in model.modules() if hasattr(m, "config")}
    before = {name: config._attn_implementation for name, config in configs.items()}
    for config in configs.values():
        config._attn_implementation_internal = "by-hand"
    try:
        yield
    finally:
        for name, config in configs.items():
            config._attn_implementation_internal = before[name]
        del AttentionInterface._global_mapping["by-hand"]
        del AttentionMaskInterface._global_mapping["by-hand"]
