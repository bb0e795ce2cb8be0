"""Token dropping as one would write it down: all tokens in all layers, dense masks, loops."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch.nn import functional

from maskwright import randomness


def model_of(make: Any, layers: int = 4, kind: str = "bert") -> Any:
    """A tiny model of more layers than those of `tests.hf.tiny`: its own layers again, moved."""
    made = make(kind)
    made.config.num_hidden_layers = layers
    stack = made.base_model
    owner, name = (stack, "layers") if hasattr(stack, "layers") else (stack.encoder, "layer")
    have = getattr(owner, name)
    more = [copy.deepcopy(have[number % len(have)]) for number in range(len(have), layers)]
    generator = torch.Generator().manual_seed(layers)
    for layer in more:
        for parameter in layer.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data.add_(noise * 0.1)
    setattr(owner, name, torch.nn.ModuleList([*have, *more]))
    if hasattr(made.config, "layer_types"):
        made.config.layer_types = [layer.attention_type for layer in getattr(owner, name)]
    return made


def draw(seed: int, clock: list[int], sample: int, position: int) -> int:
    key = randomness.run_key(seed, 0, randomness.DROP)
    for word in (*clock, sample):
        key = randomness.absorb(key, word & randomness.WORD)
    return randomness.draw(key, position) >> 11


def kept(scores: list[float], always: list[bool], draws: list[int], share: float) -> list[bool]:
    """Of one sample of n tokens."""
    many = max(1, int(len(scores) * share + 0.5), sum(always))
    order = sorted(
        range(len(scores)),
        key=lambda i: (not always[i], 0.0 if scores[i] != scores[i] else 1.0, -scores[i]
                       if scores[i] == scores[i] else 0.0, draws[i]),
    )  # fmt: skip
    return [i in order[:many] for i in range(len(scores))]


def states(
    model: Any, batch: dict[str, Any], chosen: torch.Tensor, first: int, last: int
) -> torch.Tensor:
    """``(B, S, H)`` of a backbone whose middle layers see, and change, chosen tokens only."""
    base, ids, real = model.base_model, batch["input_ids"], batch["attention_mask"] == 1
    modern = hasattr(base, "layers")
    layers = base.layers if modern else base.encoder.layer
    slots = torch.arange(ids.shape[1]).expand_as(ids)
    hidden = base.embeddings(ids)
    for number, layer in enumerate(layers):
        middle = first <= number < len(layers) - last
        seen = real & chosen if middle else real
        allowed = seen[:, None, None, :].expand(-1, 1, ids.shape[1], -1)
        given: dict[str, Any] = {}
        if modern:
            given["position_embeddings"] = base.rotary_emb(hidden, slots, layer.attention_type)
            if layer.attention_type == "sliding_attention":
                reach = model.config.sliding_window
                near = (slots[:, :, None] - slots[:, None, :]).abs() <= reach
                allowed = allowed & near[:, None]
        mask = torch.where(allowed, 0.0, -1e9).to(hidden.dtype)
        after = layer(hidden, attention_mask=mask, **given)
        hidden = torch.where(seen.unsqueeze(-1), after, hidden) if middle else after
    return base.final_norm(hidden) if modern else hidden


def loss(
    model: Any, batch: dict[str, Any], chosen: torch.Tensor, first: int, last: int
) -> torch.Tensor:
    found = states(model, batch, chosen, first, last)
    if model.config.model_type == "bert":
        logits = model.cls(found)
    elif model.config.model_type == "roberta":
        logits = model.lm_head(found)
    else:
        logits = model.decoder(model.head(found))
    return functional.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten())
