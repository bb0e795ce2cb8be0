"""The attention and mask functions that an attached model calls in place of its own.

Transformers looks both up by ``config._attn_implementation``. While a pattern is attached that is
``maskwright-sdpa`` or ``maskwright-eager``: ours, and what the model ran before, which modules
without a pattern go on running, with the very mask they would have had.
"""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from maskwright.attention.attend import attend
from maskwright.errors import ModelError
from maskwright.hf.attachment.biased import biased_attention
from maskwright.hf.attachment.closed_heads import closed_heads
from maskwright.hf.attachment.model_mask import ModelMask
from maskwright.hf.attachment.pose import Posed, pose, remember, written
from maskwright.hf.attachment.score_gates import ScoreGate
from maskwright.hf.attachment.seats import Seat, seat_of

ORIGINALS = ("sdpa", "eager")
# What models hand to an attention function that changes nothing of what it computes here: the
# mask already says it, or it is for kernels and outputs of another kind.
HARMLESS = {
    "cache_position",
    "cu_seq_lens_k",
    "cu_seq_lens_q",
    "deterministic",
    "max_length_k",
    "max_length_q",
    "num_items_in_batch",
    "output_attentions",
    "output_hidden_states",
    "output_router_logits",
    "position_embeddings",
    "position_ids",
    "return_dict",
    "seq_idx",
    "sliding_window",
    "use_cache",
}


def name_for(original: str) -> str:
    """The implementation that stands for ours over ``original``."""
    return f"maskwright-{original}"


def register() -> None:
    """Enter the functions into transformers' registries; again does nothing more."""
    for original in ORIGINALS:
        AttentionInterface.register(name_for(original), partial(_attention, original))
        AttentionMaskInterface.register(name_for(original), _mask)


def _mask(**asked: Any) -> ModelMask:
    given = asked.get("attention_mask")
    # generate() makes masks in advance for some caches, and the model then hands them back
    return given if isinstance(given, ModelMask) else ModelMask(asked)


def _attention(
    original: str,
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Any,
    **options: Any,
) -> tuple[Tensor, Tensor | None]:
    """One attention of a model; ``(batch, q, heads, size)`` and weights where they are wanted."""
    seat = seat_of(module)
    if seat is not None:
        seat.called = True
        if isinstance(attention_mask, ModelMask):
            key, value = written(seat, attention_mask, key), written(seat, attention_mask, value)
        if seat.role == "decoder":
            remember(seat, query.shape[2], key.shape[2], attention_mask)
    if seat is None or seat.pattern is None:
        return _as_before(original, module, query, key, value, attention_mask, options)
    _check_options(seat, module, options)
    closed = closed_heads(seat.pattern, query.shape[1]) if seat.gate is None else None
    if closed:
        found, weights = _open_heads(
            seat, closed, module, query, key, value, attention_mask, options
        )
    else:
        met = pose(seat, module, query, key, attention_mask)
        found, weights = _compute(seat, module, query, key, value, met, options)
    return found.transpose(1, 2).contiguous(), weights


def _open_heads(
    seat: Seat,
    closed: frozenset[int],
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Any,
    options: dict[str, Any],
) -> tuple[Tensor, Tensor | None]:
    """The attention of the heads that attend to something, zeros for the others."""
    batch, heads, length, _ = query.shape
    left = [head for head in range(heads) if head not in closed]
    made = query.new_zeros(batch, heads, length, value.shape[-1])
    shown = _wants_weights(seat, module, options)
    weights = query.new_zeros(batch, heads, length, key.shape[2]) if shown else None
    if not left:
        return made, weights
    places = torch.tensor(left, device=query.device)
    groups = heads // key.shape[1]
    # the head of the keys that each of these queries asks
    few_q, few_k, few_v = (
        states.index_select(1, places // per)
        for states, per in ((query, 1), (key, groups), (value, groups))
    )
    bias = options.get("position_bias")
    if bias is not None and bias.shape[1] == heads:
        options = {**options, "position_bias": bias.index_select(1, places)}
    narrowed = seat.narrowed(closed)
    met = pose(narrowed, module, few_q, few_k, mask)
    found, few = _compute(narrowed, module, few_q, few_k, few_v, met, options)
    if weights is not None and few is not None:
        weights = weights.index_copy(1, places, few.to(weights.dtype))
    return made.to(found.dtype).index_copy(1, places, found), weights


def _as_before(
    original: str,
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Any,
    options: dict[str, Any],
) -> tuple[Tensor, Tensor | None]:
    """What the model would have done without us."""
    if isinstance(mask, ModelMask):
        mask = mask.original(original)
    return registered(original, module)(module, query, key, value, mask, **options)


def registered(implementation: str, module: Any) -> Any:
    """The attention function that the registry of a module's model has under a name."""
    inside = inspect.unwrap(type(module).forward).__globals__
    return inside["ALL_ATTENTION_FUNCTIONS"].get_interface(
        implementation, inside.get("eager_attention_forward")
    )


def _check_options(seat: Seat, module: Any, options: dict[str, Any]) -> None:
    known = HARMLESS | {"dropout", "scaling", "position_bias", "is_causal"}
    for name, value in options.items():
        if name not in known and value is not None and value is not False:
            raise ModelError(
                f"{seat.name} ({seat.kind}) hands {name}= to its attention function, which would "
                "be lost under a pattern. This model cannot be attached to."
            )
    asked = options.get("is_causal")
    if asked is not None and asked != module.is_causal:
        raise ModelError(
            f"{seat.name} ({seat.kind}) was called with is_causal={asked}, against its own "
            f"is_causal={module.is_causal}. Attach the pattern you want with "
            'combine="replace" instead.'
        )


def _compute(
    seat: Seat,
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    posed: Posed,
    options: dict[str, Any],
) -> tuple[Tensor, Tensor | None]:
    bias = options.get("position_bias")
    scale, dropout = options.get("scaling"), options.get("dropout") or 0.0
    wanted = _wants_weights(seat, module, options)
    if bias is not None:
        # a bias for slots of a static cache that are not written yet
        bias = bias[..., : key.shape[2]]
    if seat.gate is not None:
        return _gated(seat.gate, query, key, value, posed, bias, scale, dropout, wanted)
    if posed.given is not None and bias is None and not wanted:
        pattern, q, kv = posed.given
        found = attend(query, key, value, pattern, q=q, kv=kv, scale=scale, dropout=dropout)
        return found, None
    return biased_attention(
        query,
        key,
        value,
        posed.mask.to(query.device),
        bias=bias,
        scale=scale,
        dropout=dropout,
        weights=wanted,
    )


def _gated(
    gate: ScoreGate,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    posed: Posed,
    bias: Tensor | None,
    scale: float | None,
    dropout: float,
    weights: bool,
) -> tuple[Tensor, Tensor | None]:
    """An attention whose scores say more of who may attend to whom."""
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    scores = query @ key.transpose(-1, -2) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if bias is not None:
        scores = scores + bias
    allowed, more = gate(query, key, posed.mask.to(query.device), scores)
    if more is not None:
        bias = more if bias is None else bias + more
    return biased_attention(
        query,
        key,
        value,
        allowed,
        bias=bias,
        scale=scale,
        dropout=dropout,
        weights=weights,
    )


def _wants_weights(seat: Seat, module: Any, options: dict[str, Any]) -> bool:
    wanted = seat.attachment.weights or options.get("output_attentions")
    return bool(wanted or getattr(module.config, "output_attentions", False))
