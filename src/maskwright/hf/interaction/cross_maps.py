"""What a model's cross-attention looks at in a batch, for pictures and alignments."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from maskwright.attention import full
from maskwright.corruption.emit import IGNORE
from maskwright.errors import BatchError, ConfigError, ModelError
from maskwright.hf.attachment.attach import attach, attached_to
from maskwright.hf.attachment.score_gates import ScoreGate
from maskwright.hf.attachment.seats import Seat
from maskwright.hf.compute.batch import for_decoder

_FED = (
    "input_ids", "attention_mask", "input_features", "decoder_input_ids",
    "decoder_attention_mask", "columns",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class CrossMaps:
    """The cross-attention of a batch. B samples, H heads, T target and S source tokens.

    Attributes:
        weights: of each layer, ``(B, H, T, S)`` float32: how much of what the target token's query
            looks at is that source token. Row ``t`` is of the query that writes target token ``t``.
        allowed: of each layer, the same shape, Boolean: what patterns, padding and gates leave.
        target: ``(B, T)`` Boolean, True at tokens.
        source: ``(B, S)`` Boolean.
    """

    weights: list[np.ndarray]
    allowed: list[np.ndarray]
    target: np.ndarray
    source: np.ndarray

    def of(
        self, sample: int, layer: int | None = None, head: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The map of one sample without padding: weights and allowed, ``(tokens, tokens)``.

        Args:
            sample: from 0.
            layer: None: the mean of all; what any of them allows is allowed.
            head: the same.

        Raises:
            ConfigError: there is no such sample, layer or head.
        """
        layers = self._layers(layer)
        if sample not in range(len(self.target)):
            raise ConfigError(
                f"sample={sample!r}: the batch has samples 0 to {len(self.target) - 1}."
            )
        weights, allowed = [], []
        for one in layers:
            heads = self.weights[one].shape[1]
            if head is not None and head not in range(heads):
                raise ConfigError(f"head={head!r}: layer {one} has heads 0 to {heads - 1}.")
            few = slice(None) if head is None else slice(head, head + 1)
            weights.append(self.weights[one][sample, few].mean(0))
            allowed.append(self.allowed[one][sample, few].any(0))
        rows, columns = self.target[sample], self.source[sample]
        real = np.ix_(rows, columns)
        return np.mean(weights, 0)[real], np.any(allowed, 0)[real]

    def _layers(self, layer: int | None) -> range:
        count = len(self.weights)
        if layer is None:
            return range(count)
        if layer not in range(-count, count):
            raise ConfigError(
                f"layer={layer!r}: the model has cross-attention in 0 to {count - 1}."
            )
        return range(layer % count, layer % count + 1)


class _Recorder:
    """A `ScoreGate` that changes nothing, and keeps what it sees."""

    def __init__(self, seat: Seat) -> None:
        self.seat, self.inner = seat, seat.gate
        self.weights: Tensor | None = None
        self.allowed: Tensor | None = None

    def __call__(
        self, query: Tensor, key: Tensor, allowed: Tensor, scores: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        more: Tensor | None = None
        inner: ScoreGate | None = self.inner
        if inner is not None:
            allowed, more = inner(query, key, allowed, scores)
        seen = scores.float() if more is None else scores.float() + more
        seen = seen.masked_fill(~allowed, -torch.inf)
        self.weights = seen.softmax(-1).nan_to_num(0.0)  # a row that sees nothing
        self.allowed = allowed.expand_as(seen)
        return allowed, more


@torch.no_grad()
def cross_attention_maps(model: Any, batch: Mapping[str, Any]) -> CrossMaps:
    """The cross-attention weights of a batch, in evaluation, under what is attached to the model.

    Args:
        model: an encoder–decoder of transformers.
        batch: ``input_ids`` (or ``input_features``), ``attention_mask``, and ``labels`` or
            ``decoder_input_ids``; anything else in it is left alone.

    Raises:
        ModelError: the model has no cross-attention, or patterns cannot be attached to it.
        BatchError: the batch has no target.
    """
    inputs = {name: batch[name] for name in _FED if batch.get(name) is not None}
    labels = batch.get("labels")
    if labels is None and "decoder_input_ids" not in inputs:
        raise BatchError(
            "The batch has neither labels nor decoder_input_ids, so there is no target whose "
            "attention could be shown. Tokenize with text_target=…, or put labels into it."
        )
    if labels is not None:
        if not hasattr(model, "prepare_decoder_input_ids_from_labels"):  # Whisper
            inputs.setdefault("decoder_input_ids", _shifted(model, labels))
        inputs = for_decoder(model, "seq2seq", inputs, labels)
    was = model.training
    with ExitStack() as around:
        around.callback(model.train, was)
        model.eval()
        held = attached_to(model)
        attachment = around.enter_context(attach(model, cross=full)) if held is None else held
        recorders = [_recorded(seat, around) for _, seat in _cross(attachment.seats, model)]
        model(**inputs)
    weights = [_array(one.weights) for one in recorders]
    return CrossMaps(
        weights,
        [_array(one.allowed) for one in recorders],
        _target(inputs, weights[0].shape),
        _source(inputs, weights[0].shape),
    )


def _cross(seats: list[tuple[nn.Module, Seat]], model: Any) -> list[tuple[nn.Module, Seat]]:
    found = [(module, seat) for module, seat in seats if seat.role == "cross"]
    if not found:
        raise ModelError(f"{type(model).__name__} has no cross-attention to look at.")
    return found


def _recorded(seat: Seat, around: ExitStack) -> _Recorder:
    """Keep what a seat's attention sees, until the stack is closed."""
    recorder = _Recorder(seat)
    pattern, gate = seat.pattern, seat.gate

    def restore() -> None:
        seat.pattern, seat.gate = pattern, gate

    around.callback(restore)
    seat.pattern, seat.gate = full if pattern is None else pattern, recorder
    return recorder


def _shifted(model: Any, labels: Tensor) -> Tensor:
    """Labels moved by one behind what the decoder starts with, as the model itself has it."""
    config: Any = model.config
    start = torch.full_like(labels[:, :1], config.decoder_start_token_id)
    moved = torch.cat([start, labels[:, :-1]], 1)
    return moved.masked_fill(moved == IGNORE, config.pad_token_id)


def _array(values: Tensor | None) -> np.ndarray:
    assert values is not None
    return values.cpu().numpy()


def _target(inputs: dict[str, Any], shape: tuple[int, ...]) -> np.ndarray:
    mask = inputs.get("decoder_attention_mask")
    return np.ones((shape[0], shape[2]), bool) if mask is None else (mask != 0).cpu().numpy()


def _source(inputs: dict[str, Any], shape: tuple[int, ...]) -> np.ndarray:
    mask = inputs.get("attention_mask")
    # of a source of frames, the mask is of other frames than the keys
    if mask is None or mask.shape[1] != shape[3]:
        return np.ones((shape[0], shape[3]), bool)
    return (mask != 0).cpu().numpy()
