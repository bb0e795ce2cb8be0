"""Heads that see nothing, taken out of a model: their projections are not computed either."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from maskwright.attention import Pattern, full
from maskwright.errors import ModelError, PatternError
from maskwright.hf.attachment.attach import attached_to
from maskwright.hf.attachment.closed_heads import closed_heads, without_heads
from maskwright.hf.attachment.seats import ROLES, find_seats
from maskwright.hf.interaction.projections import Projections, projections_of


def prune(
    model: nn.Module,
    encoder: Sequence[Pattern | None] | None = None,
    decoder: Sequence[Pattern | None] | None = None,
    cross: Sequence[Pattern | None] | None = None,
) -> int:
    """Take out the heads that patterns close, for good; returns how many.

    A head is taken out where its pattern is `nothing` (``per_head([full, nothing])``): its rows go
    from the projections of query, key and value, its columns from that of the output. A layer all
    of whose heads are closed gives the bias of its output projection, and computes nothing. All
    other patterns must be `full`; what the model gives is what it gives with the patterns attached.

    The smaller matrices do not fit the model's config, so ``from_pretrained`` cannot load them:
    save the model before, and the patterns beside it, and prune what was loaded.

    Args:
        model: of transformers, with nothing attached.
        encoder, decoder, cross: a pattern for each layer, as `InteractionMask.export` gives them.

    Raises:
        ModelError: the model lacks a role; its query, key and value are one matrix, or its heads
            share keys or have position biases of their own.
        PatternError: another number of patterns than layers, or other patterns.
    """
    if attached_to(model) is not None:
        raise ModelError(
            f"{type(model).__name__} has patterns attached. detach(model), then prune it: it then "
            "needs none."
        )
    seats = find_seats(model)
    jobs: list[tuple[nn.Module, str, Projections, frozenset[int]]] = []
    for role, patterns in zip(ROLES, (encoder, decoder, cross), strict=True):
        if patterns is None:
            continue
        modules = [(module, seat.name) for module, seat in seats if seat.role == role]
        if len(modules) != len(patterns):
            raise PatternError(
                f"{role}= of prune has {len(patterns)} patterns; {type(model).__name__} has "
                f"{len(modules)} layers there."
            )
        for layer, ((module, path), pattern) in enumerate(zip(modules, patterns, strict=True)):
            found = projections_of(model, module, path)
            closed = _closed(role, layer, pattern, found.heads)
            if closed:
                _check(module, path, role, found)
                jobs.append((module, path, found, closed))
    for module, path, found, closed in jobs:
        _take_out(model, module, path, found, closed)
    if jobs:
        _part_biases(module for module, seat in seats if seat.role == "cross")
    return sum(len(closed) for *_, closed in jobs)


def _closed(role: str, layer: int, pattern: Any, heads: int) -> frozenset[int]:
    if pattern is None or pattern == full:
        return frozenset()
    closed = closed_heads(pattern, heads) if isinstance(pattern, Pattern) else frozenset()
    if not closed or (len(closed) < heads and without_heads(pattern, closed) != full):
        raise PatternError(
            f"{role}= of prune, layer {layer}: {pattern!r} says more than which of the {heads} "
            "heads see everything and which see nothing. Attach it instead."
        )
    return closed


def _check(module: Any, path: str, role: str, found: Projections) -> None:
    kind = f"{path} ({type(module).__name__})"
    if found.inputs is None:
        raise ModelError(
            f"{kind} projects query, key and value with one matrix, so its heads cannot be taken "
            "out. Attach the patterns instead."
        )
    width = found.heads * found.size
    if any(one.weight.shape[0] != width for one in found.inputs):  # type: ignore[index]
        raise ModelError(
            f"{kind}: several heads share their keys, so they cannot be taken out one by one. "
            "Attach the patterns instead."
        )
    if role != "cross" and _biased(module):
        raise ModelError(
            f"{kind}: each head has a position bias that all layers share, so heads cannot be "
            "taken out. Attach the patterns instead."
        )


def _biased(module: Any) -> bool:
    """Whether this is an attention of T5 and its kin, which hands a bias on to the next layer."""
    return hasattr(module, "has_relative_attention_bias")


def _take_out(
    model: nn.Module, module: Any, path: str, found: Projections, closed: frozenset[int]
) -> None:
    heads = [head for head in range(found.heads) if head not in closed]
    if not heads:
        parent, _, name = path.rpartition(".")
        inside = any(one is found.output for one in module.modules())
        setattr(model.get_submodule(parent), name, ClosedHeads(module, found.output, inside))
        if inside:
            return
    weight: Any = found.output.weight
    kept = [head * found.size + at for head in heads for at in range(found.size)]
    places = torch.tensor(kept, dtype=torch.int64, device=weight.device)
    for one in found.inputs if heads and found.inputs else ():
        _narrow(one, places, 0)
    _narrow(found.output, places, 1)
    for name in ("num_heads", "n_heads", "num_attention_heads"):
        if hasattr(module, name):
            setattr(module, name, len(heads))


def _narrow(layer: Any, places: Tensor, side: int) -> None:
    """Keep rows (0) or columns (1) of a linear layer."""
    layer.weight = _parameter(layer.weight, layer.weight.data.index_select(side, places))
    if side == 0:
        layer.out_features = len(places)
        if layer.bias is not None:
            layer.bias = _parameter(layer.bias, layer.bias.data.index_select(0, places))
    else:
        layer.in_features = len(places)


def _parameter(old: nn.Parameter, values: Tensor) -> nn.Parameter:
    return nn.Parameter(values.contiguous(), requires_grad=old.requires_grad)


class ClosedHeads(nn.Module):
    """Stands where an attention was all of whose heads are closed.

    Args:
        module: that it stands for.
        output: its output projection, whose bias is what is left of it.
        inside: whether that projection is a part of it, or stands behind it (BERT).
    """

    def __init__(self, module: Any, output: Any, inside: bool) -> None:
        super().__init__()
        self.bias = output.bias if inside else None
        self.width = output.weight.shape[0] if inside else 0
        self.handed_on = _biased(module)

    def forward(self, hidden_states: Tensor, *_: Any, **named: Any) -> tuple[Any, ...]:
        shape = (*hidden_states.shape[:-1], self.width)
        if self.bias is None:
            made = hidden_states.new_zeros(shape)
        else:
            made = self.bias.to(hidden_states.dtype).expand(shape)
        return (made, named.get("position_bias"), None) if self.handed_on else (made, None)


def _part_biases(modules: Iterable[nn.Module]) -> None:
    """Let each cross-attention of T5 make its own bias, which is zeros for as many heads as it has;
    it would take that of the layer before, which may have others."""
    for module in modules:
        if _biased(module):
            module.register_forward_pre_hook(_without_bias, with_kwargs=True)


def _without_bias(_module: Any, inputs: Any, named: dict[str, Any]) -> Any:
    return inputs, {**named, "position_bias": None}
