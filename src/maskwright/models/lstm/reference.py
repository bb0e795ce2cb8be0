"""The slow, obvious LSTM encoder–decoder: one sample, one token and one layer at a time.

It knows no batches, no padding and no kernels, only weights. Nothing fast imports it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

Layers = list[tuple[Tensor, Tensor]]


def cell(
    lstm: nn.LSTM, layer: int, backward: bool, read: Tensor, hidden: Tensor, memory: Tensor
) -> tuple[Tensor, Tensor]:
    """One step of one layer (Hochreiter and Schmidhuber 1997, with forget gates): ``(H,)`` each."""
    name = f"l{layer}{'_reverse' if backward else ''}"
    gates = (
        getattr(lstm, f"weight_ih_{name}") @ read
        + getattr(lstm, f"bias_ih_{name}")
        + getattr(lstm, f"weight_hh_{name}") @ hidden
        + getattr(lstm, f"bias_hh_{name}")
    )
    enter, forget, fresh, leave = gates.chunk(4)
    memory = torch.sigmoid(forget) * memory + torch.sigmoid(enter) * torch.tanh(fresh)
    return torch.sigmoid(leave) * torch.tanh(memory), memory


def encode(model: Any, source: Sequence[int]) -> tuple[list[Tensor], Layers]:
    """The states of the source, and where each layer ended."""
    encoder = model.model.encoder
    lstm = encoder.lstm
    states = [encoder.embed_tokens.weight[token] for token in source]
    final: Layers = []
    for layer in range(lstm.num_layers):
        ways: list[list[Tensor]] = []
        ends: list[tuple[Tensor, Tensor]] = []
        for backward in [False, True][: encoder.directions]:
            hidden = memory = states[0].new_zeros(lstm.hidden_size)
            way = []
            for read in reversed(states) if backward else states:
                hidden, memory = cell(lstm, layer, backward, read, hidden, memory)
                way.append(hidden)
            ways.append(way[::-1] if backward else way)
            ends.append((hidden, memory))
        states = [torch.cat(parts) for parts in zip(*ways, strict=True)]
        final.append((torch.cat([h for h, _ in ends]), torch.cat([c for _, c in ends])))
    return states, final


def look(model: Any, top: Tensor, states: Sequence[Tensor], allowed: Sequence[bool]) -> Tensor:
    """The context of one query: per head, a softmax over the allowed states alone."""
    attention = model.model.decoder.cross_attn
    asked = (attention.q_proj.weight @ top).split(attention.head_dim)
    found = []
    for head, query in enumerate(asked):
        slices = [state.split(attention.head_dim)[head] for state in states]
        seen = [one for one, may in zip(slices, allowed, strict=True) if may]
        if not seen:
            found.append(torch.zeros_like(query))
            continue
        powers = [torch.exp(query @ one) for one in seen]
        total = torch.zeros_like(query)
        for power, one in zip(powers, seen, strict=True):
            total = total + power * one
        found.append(total / sum(powers))
    return torch.cat(found)


def logits(
    model: Any,
    source: Sequence[int],
    target: Sequence[int],
    allowed: Sequence[Sequence[bool]] | None = None,
    sampled: Sequence[bool] | None = None,
) -> Tensor:
    """``(T, V)``: what the model says after each token of what its decoder reads.

    Args:
        model: a `LstmForConditionalGeneration` without dropout.
        source: token ids, none of them padding.
        target: ids that the decoder reads.
        allowed: for each of them, which source tokens it may look at; None: all.
        sampled: where it reads what it finds likeliest instead.
    """
    config, decoder = model.config, model.model.decoder
    if source:
        states, now = encode(model, source)
    else:
        zeros = torch.zeros(config.hidden_size)
        states, now = [], [(zeros, zeros)] * config.num_hidden_layers
    if config.initial_state == "zeros":
        now = [(0 * hidden, 0 * memory) for hidden, memory in now]
    vector = torch.zeros(config.hidden_size)
    said: list[Tensor] = []
    for step, token in enumerate(target):
        if sampled is not None and sampled[step]:
            token = int(said[-1].argmax())
        read = model.model.encoder.embed_tokens.weight[token]
        if config.input_feeding:
            read = torch.cat((read, vector))
        after: Layers = []
        for layer, (hidden, memory) in enumerate(now):
            hidden, memory = cell(decoder.lstm, layer, False, read, hidden, memory)
            after.append((hidden, memory))
            read = hidden
        now = after
        may = [True] * len(states) if allowed is None else allowed[step]
        context = look(model, read, states, may)
        both = torch.cat((decoder.cross_attn.c_proj.weight, decoder.combine.weight), 1)
        vector = torch.tanh(both @ torch.cat((context, read)))
        said.append(model.lm_head.weight @ vector)
    return torch.stack(said)
