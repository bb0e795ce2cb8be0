"""The attention that tokens receive in a training step, read where the model computes it.

An attention module asks transformers' registry for its kernel by the name in its config. While a
probed module runs it has a copy of that config with another name: ours, which looks at queries and
keys as the kernel gets them (rotary embedding done, position biases at hand) and hands them on to
the kernel it would have had. No second forward pass, no attention weights of the whole layer; the
model's mask and its output are what they were.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from maskwright.errors import ConfigError, ModelError
from maskwright.guidance import attention_received
from maskwright.hf.attachment.attention_function import registered
from maskwright.hf.attachment.model_mask import ModelMask
from maskwright.hf.attachment.pose import pose
from maskwright.hf.attachment.seats import Role, is_attention, role_of, seat_of
from maskwright.hf.compute.row_attention import RowMask
from maskwright.hf.guided.places import Texts

_NAME = "maskwright-probe"
_MARK = "_maskwright_probe"
_KNOWN = ("sdpa", "eager", "maskwright-sdpa", "maskwright-eager")


@dataclass(frozen=True, eq=False)
class _Batch:
    """The forward pass that is on: its step, and which tokens are no padding."""

    step: int
    mask: Tensor | None
    target_mask: Tensor | None


class AttentionProbe:
    """Reads the attention that tokens receive in some layers of a model.

    Args:
        model: of transformers; running "sdpa" or "eager" attention, with patterns or without.
        role: which attention: ``"encoder"`` (both sides), ``"decoder"`` (causal) or ``"cross"``
            (source tokens, by what the target attends to). Unless given: the self-attention that
            reads ``input_ids``, or that of the decoder where it alone reads the samples' tokens.
        layers: numbers of layers, the mean of which counts; the first layer of the last third
            unless given, where attention is no longer about position alone.
        heads: which heads, all unless given.
        queries: how many queries of each sample are looked at.
        seed: of the choice of queries.
        texts: where an encoder–decoder reads the tokens that scores are wanted of: its encoder
            (``"source"``), its decoder (``"target"``), or ``"both"``.

    Raises:
        ModelError: the model's attention cannot be read.
        ConfigError: a layer or a role that it does not have, or a role that reads no tokens that
            scores are wanted of.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        role: Role | None = None,
        layers: Sequence[int] | None = None,
        heads: Sequence[int] | None = None,
        queries: int | None = 16,
        seed: int = 0,
        texts: Texts = "source",
    ) -> None:
        self.role, modules, two = _modules(model, role, texts)
        self._of_target = two and self.role == "decoder"
        config: Any = getattr(model, "config", None)
        depth = len(modules)
        if depth == 1:  # one module for all layers, as in ALBERT
            depth = getattr(config, "num_hidden_layers", 1)
        self.layers = _layers(model, self.role, depth, layers)
        self.heads, self.queries, self.seed = heads, queries, seed
        self._batch: _Batch | None = None
        self._found: list[Tensor] = []
        AttentionInterface.register(_NAME, _attention)
        shared = len(modules) == 1
        wanted = {0: set(self.layers)} if shared else {layer: {0} for layer in self.layers}
        self._taps = [_Tap(self, *modules[at], calls) for at, calls in wanted.items()]

    def open(self, step: int, mask: Tensor | None, target_mask: Tensor | None = None) -> None:
        """A forward pass of a training step begins.

        Args:
            mask: ``(B, S)`` of ``input_ids``, 0 at padding; None for a decoder's self-attention
                in an encoder–decoder alone.
            target_mask: ``(B, T)`` of the target of an encoder–decoder.
        """
        self._found = []
        for tap in self._taps:
            tap.calls = 0
        self._batch = _Batch(step, mask, target_mask)

    def close(self) -> None:
        """It is over: what layers compute again for their gradients is not looked at."""
        self._batch = None

    def take(self) -> Tensor:
        """The attention received in the pass that was closed, ``(B, S)`` float32, NaN: unknown;
        ``(B, T)`` of a decoder's self-attention in an encoder–decoder.

        Raises:
            ModelError: no attention was seen.
        """
        if len(self._found) != len(self.layers):
            raise ModelError(
                f"{len(self._found)} of {len(self.layers)} probed layers ran in the forward pass. "
                "A layer that is skipped (layerdrop) cannot be probed: name others with layers=, "
                "or set layerdrop to 0."
            )
        found, self._found = self._found, []
        return found[0] if len(found) == 1 else torch.stack(found).nanmean(0)

    def remove(self) -> None:
        """Take it off the model; again does nothing more."""
        for tap in self._taps:
            tap.remove()
        self._taps = []

    def _see(self, module: Any, query: Tensor, key: Tensor, mask: Any, options: Any) -> None:
        batch = self._batch
        assert batch is not None
        if isinstance(mask, RowMask):  # an accelerated model, whose batch came without padding
            row = mask
            query, key, mask = row.padded(query, key)
            seat = seat_of(module)
            if seat is not None and seat.pattern is not None:
                mask = row.of_padded  # a pattern asks more of a mask than who sees whom
        keys = batch.target_mask if self._of_target else batch.mask
        valid = batch.target_mask if self._of_target or self.role == "cross" else batch.mask
        if valid is not None and valid.shape[1] != query.shape[2]:
            valid = None
        if keys is None or key.shape[2] != keys.shape[1]:
            tokens = "no mask of its tokens" if keys is None else f"{keys.shape[1]} tokens"
            raise ModelError(
                f"The probed {self.role} attention has {key.shape[2]} keys where the batch has "
                f"{tokens} (prefix tuning, or a cache): which key is which token cannot be told."
            )
        causal = mask is None and bool(
            options.get("is_causal", getattr(module, "is_causal", False))
        )
        seen = _mask(module, query, key, mask, options.get("position_bias"), causal)
        if seen is None:
            seen = keys
        self._found.append(
            attention_received(
                query,
                key,
                queries=self.queries,
                seed=self.seed,
                step=batch.step,
                mask=seen,
                causal=causal,
                valid=valid,
                scale=options.get("scaling"),
                heads=self.heads,
            )
        )


class _Tap:
    """One probed module: our name in its config, while it runs in a pass that is looked at."""

    def __init__(
        self, probe: AttentionProbe, module: nn.Module, name: str, wanted: set[int]
    ) -> None:
        before = getattr(module, _MARK, None)
        if before is not None:  # of a run that was broken off
            before.remove()
        self.probe, self.module, self.wanted = probe, module, wanted
        self.config: Any = module.config
        if self.config._attn_implementation not in _KNOWN:
            raise ModelError(
                f"{name} runs attn_implementation={self.config._attn_implementation!r}; its "
                'attention can be read with "sdpa" and "eager". Call '
                'model.set_attn_implementation("sdpa") first, or use another source of scores.'
            )
        self.calls = 0
        self.named = copy.copy(self.config)
        self.named._attn_implementation_internal = _NAME
        object.__setattr__(module, _MARK, self)
        self.handles = [
            module.register_forward_pre_hook(self.enter),
            module.register_forward_hook(self.leave, always_call=True),
        ]

    def enter(self, module: nn.Module, _inputs: Any) -> None:
        if self.probe._batch is None or not module.training:
            return
        if self.calls in self.wanted:
            self.config = module.config  # of an accelerated model a copy, while a step runs
            module.__dict__["config"] = self.named
        self.calls += 1

    def leave(self, module: nn.Module, _inputs: Any, _output: Any) -> None:
        if module.config is self.named:
            module.__dict__["config"] = self.config

    def remove(self) -> None:
        for handle in self.handles:
            handle.remove()
        self.leave(self.module, None, None)
        if getattr(self.module, _MARK, None) is self:
            delattr(self.module, _MARK)


def _attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **options: Any
) -> tuple[Tensor, Tensor | None]:
    """Looks, and does what the module would have done."""
    tap: _Tap = getattr(module, _MARK)
    tap.leave(module, None, None)
    tap.probe._see(module, query, key, attention_mask, options)
    function = registered(module.config._attn_implementation, module)
    return function(module, query, key, value, attention_mask, **options)


def _mask(
    module: Any, query: Tensor, key: Tensor, mask: Any, bias: Tensor | None, causal: bool
) -> Tensor | None:
    """Who may attend to whom, and the bias of each pair, as `attention_received` takes them."""
    seat = seat_of(module)
    if seat is not None and seat.pattern is not None:
        mask = pose(seat, module, query, key, mask).mask
    elif isinstance(mask, ModelMask):
        mask = mask.original("sdpa")
    shape = (query.shape[2], key.shape[2])
    if mask is not None:
        mask = mask[..., : key.shape[2]].expand(*mask.shape[:2], *shape)
    if bias is None:
        return mask
    bias = bias.detach()[..., : key.shape[2]].expand(-1, -1, *shape)
    if mask is None:
        return bias
    return torch.where(mask, bias, -torch.inf) if mask.dtype == torch.bool else bias + mask


def _modules(
    model: nn.Module, role: Role | None, texts: Texts
) -> tuple[Role, list[tuple[nn.Module, str]], bool]:
    """The role, its attention modules in order, with their names, and whether the model is an
    encoder–decoder."""
    found: dict[str, list[tuple[nn.Module, str]]] = {}
    for path, module in model.named_modules():
        if is_attention(module) and getattr(module, "config", None) is not None:
            found.setdefault(role_of(path, module), []).append((module, path))
    name = type(model).__name__
    if not found:
        raise ModelError(
            f"{name} has no attention that asks transformers' registry for its kernel, so its "
            "attention cannot be read. Use another source of scores."
        )
    both = "cross" in found
    if both and role == "decoder" and texts == "source":
        raise ConfigError(
            f"{name} is an encoder–decoder: scores belong to its input_ids, which its encoder "
            'reads. Use role="encoder", or "cross" for what the target attends to.'
        )
    if both and role in ("encoder", "cross") and texts == "target":
        raise ConfigError(
            f"{name} is an encoder–decoder, and the samples are what its decoder reads: "
            f'role="{role}" scores other tokens. Use role="decoder".'
        )
    if role is None:
        encoder = texts != "target" if both else "encoder" in found
        role = "encoder" if encoder else "decoder"
    if role not in found:
        raise ConfigError(f"{name} has no {role} attention. It has: {', '.join(found)}.")
    return role, found[role], both


def _layers(
    model: nn.Module, role: str, depth: int, layers: Sequence[int] | None
) -> tuple[int, ...]:
    if layers is None:
        return (2 * depth // 3,)
    wrong = [layer for layer in layers if layer not in range(depth)]
    if wrong or not layers or len(set(layers)) < len(layers):
        raise ConfigError(
            f"layers={list(layers)}: {type(model).__name__} has {role} layers 0 to {depth - 1}; "
            "name at least one of them, each once."
        )
    return tuple(layers)
