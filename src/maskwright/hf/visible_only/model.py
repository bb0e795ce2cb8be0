"""Visible-only encoding: the encoder never computes masked tokens (MAE-LM, 2302.02060).

Meng et al., "Representation Deficiency in Masked Language Modeling": an encoder that reads [MASK]
gives some of its dimensions to a token that no downstream text has. Here masked tokens leave the
encoder; a light decoder reads its outputs at visible places and a mask embedding at the others,
each with its position, and predicts. What is kept in the end is the encoder.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from maskwright.errors import BatchError, ModelError
from maskwright.hf.attachment.attach import configs_of
from maskwright.hf.attachment.seats import find_seats
from maskwright.hf.compute.row_attention import register, row_name
from maskwright.hf.compute.stack import Stack
from maskwright.hf.replaced.shared_embeddings import save_shared_once
from maskwright.hf.visible_only.decoder import make_decoder
from maskwright.hf.visible_only.saved import read_decoder, write_decoder

_HELD = "_maskwright_visible_only"


@dataclass(frozen=True)
class LayerTokens:
    """Tokens times the layers that they go through, of one pass.

    Args:
        encoder: visible tokens × layers of the encoder.
        decoder: real tokens × layers of the decoder.
        plain: real tokens × layers of the encoder: what the model without this computes.
    """

    encoder: int
    decoder: int
    plain: int

    @property
    def share(self) -> float:
        """What is computed, of what the plain model computes without padding."""
        return (self.encoder + self.decoder) / max(1, self.plain)


@dataclass(frozen=True, eq=False)
class _Pass:
    """The batch that is in the model; each tensor ``(B, S)``."""

    real: Tensor
    hidden: Tensor
    positions: Tensor | None
    types: Tensor | None


class VisibleOnly(nn.Module):
    """A masked language model whose encoder sees, and computes, visible tokens only.

    For `MaskingTrainer`, or any loop: a call is that of the masked language model. Tokens that are
    the mask token leave the encoder; those that a policy replaces by a random one, or keeps, are
    read by it and predicted nevertheless. All visible tokens of a batch go through the encoder as
    one row, at the positions that they have in their sample (absolute, rotary and windows), in
    training and in evaluation. The decoder gets every real token back. The model's own head reads
    the decoder, so held-out loss is that of encoder and decoder together.

        model = VisibleOnly(BertForMaskedLM(config), 2, mask_token_id=tokenizer.mask_token_id)
        MaskingTrainer(model, args, MaskingCollator(tokenizer, masking), …).train()
        model.save_pretrained("encoder")

    ``save_pretrained`` writes the masked language model, which ``from_pretrained`` of transformers
    loads, and in a folder ``visible_only`` the decoder, which `VisibleOnly.from_pretrained` loads
    too. Checkpoints of the Trainer hold both. A head without its decoder predicts badly: what the
    saved model is good for is its encoder, to be fine-tuned.

    Args:
        model: that is trained, running "sdpa" or "eager": BERT, RoBERTa, ModernBERT and others
            whose batches can be unpadded (see `accelerate_model`).
        decoder_layers: of the encoder's own layer class, with weights of their own.
        mask_token_id: of the tokenizer.
        seed: of the decoder's first weights.

    Raises:
        ConfigError: a number outside its rule.
        ModelError: the model does not allow it.
    """

    # as the Trainer asks for it: it divides nothing by the micro-batches of a step
    accepts_loss_kwargs = True
    _keys_to_ignore_on_save = None

    def __init__(
        self, model: Any, decoder_layers: int = 2, *, mask_token_id: int, seed: int = 0
    ) -> None:
        super().__init__()
        name = type(model).__name__
        if getattr(model, "loss_type", None) != "ForMaskedLM" or model.base_model is model:
            raise ModelError(
                f"VisibleOnly takes a masked language model, got {name}. Load one with "
                "AutoModelForMaskedLM."
            )
        if getattr(model, _HELD, False):
            raise ModelError(f"{name} is encoded visible-only already: release() it first.")
        base = model.base_model
        self.decoder = make_decoder(base, decoder_layers, mask_token_id=mask_token_id, seed=seed)
        self.model = model
        self.mask_token_id = mask_token_id
        self.tail = _Tail()
        self.layer_tokens: LayerTokens | None = None
        self._pass: _Pass | None = None
        try:
            self._encoder_stack, self._decoder_stack = _stack(model, base), _stack(self.decoder)
        except ModelError as error:
            raise ModelError(f"VisibleOnly: {error}") from None
        self._hold()
        save_shared_once(self)

    @classmethod
    def from_pretrained(cls, folder: str | Path, model: Any = None) -> VisibleOnly:
        """What `save_pretrained` wrote, in evaluation mode.

        Args:
            folder: that it was written to.
            model: the masked language model, where it is loaded already.

        Raises:
            ModelError: there is no decoder in the folder, or it is not that of the model.
        """
        from transformers import AutoModelForMaskedLM

        settings, weights = read_decoder(Path(folder))
        model = AutoModelForMaskedLM.from_pretrained(folder) if model is None else model
        made = cls(model, settings["decoder_layers"], mask_token_id=settings["mask_token_id"])
        try:
            made.decoder.load_state_dict(weights)
        except RuntimeError as error:
            raise ModelError(f"The decoder in {folder} is not that of its model: {error}") from None
        return made.eval()

    def save_pretrained(self, folder: Any, **settings: Any) -> None:
        """Writes the masked language model, which transformers loads, and the decoder beside."""
        self.model.save_pretrained(folder, **settings)
        write_decoder(
            Path(folder),
            {"decoder_layers": _layers(self.decoder), "mask_token_id": self.mask_token_id},
            self.decoder.state_dict(),
        )

    def release(self) -> Any:
        """The masked language model as it was given, but trained; this one is of no more use."""
        self._unname()
        if hasattr(self.model, _HELD):
            delattr(self.model, _HELD)
        return self.model

    # -- what others ask a masked language model for ----------------------------------------

    @property
    def base_model(self) -> nn.Module:
        """What the hidden states leave by, on their way to the head."""
        return self.tail

    @property
    def config(self) -> Any:
        return self.model.config

    @property
    def loss_type(self) -> str:
        return "ForMaskedLM"

    def get_output_embeddings(self) -> Any:
        return self.model.get_output_embeddings()

    def activation_checkpointing_enable(self, **settings: Any) -> None:
        """As the Trainer asks for it: in encoder and decoder."""
        self.model.activation_checkpointing_enable(**settings)
        self.decoder.activation_checkpointing_enable(**settings)

    def gradient_checkpointing_enable(self, **settings: Any) -> None:
        """The same, by the name that older releases of transformers know."""
        self.model.gradient_checkpointing_enable(**settings)
        self.decoder.gradient_checkpointing_enable(**settings)

    # -- a pass -----------------------------------------------------------------------------

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        **others: Any,
    ) -> Any:
        """What the masked language model gives, of states that the decoder made.

        Args:
            input_ids: ``(B, S)`` int64.
            attention_mask: ``(B, S)``, 0 at padding.
            labels: ``(B, S)`` int64, -100 where nothing is predicted; with them there is a loss.
            others: as the model takes them: ``token_type_ids``, ``position_ids``.

        Raises:
            BatchError: the mask is not ``(B, S)``, or there is no visible token in the batch.
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        if attention_mask.shape != input_ids.shape:
            raise BatchError(
                f"attention_mask has shape {tuple(attention_mask.shape)}, input_ids "
                f"{tuple(input_ids.shape)}; VisibleOnly takes the same, 0 at padding."
            )
        if labels is not None:
            others["labels"] = labels
        real = attention_mask != 0
        hidden = real & (input_ids == self.mask_token_id)
        visible = real & ~hidden
        self._count(int(visible.sum()), int(real.sum()))
        self._pass = _Pass(
            real,
            hidden,
            _positions(self.model.base_model, input_ids, others.get("position_ids")),
            others.get("token_type_ids"),
        )
        try:
            with self._installed():
                return self.model(input_ids=input_ids, attention_mask=visible.long(), **others)
        finally:
            self._pass = None

    def _count(self, visible: int, real: int) -> None:
        if not visible and real:
            raise BatchError(
                f"All {real} tokens of the batch are masked: the encoder has nothing to read. "
                "Leave special tokens visible, or mask less."
            )
        encoder, decoder = _layers(self.model), _layers(self.decoder)
        self.layer_tokens = LayerTokens(visible * encoder, real * decoder, real * encoder)

    @contextmanager
    def _installed(self) -> Iterator[None]:
        self._name()
        self._encoder_stack.install()
        self._decoder_stack.install()
        handle = self.model.base_model.register_forward_hook(self._decode)
        try:
            yield
        finally:
            handle.remove()
            self._decoder_stack.remove()
            self._encoder_stack.remove()
            if not self._runs_again:
                self._unname()

    def _decode(self, _base: Any, _inputs: Any, output: Any) -> Any:
        """Forward hook of the encoder: its states, ``(B, S, H)``, become the decoder's."""
        batch = self._pass
        assert batch is not None
        states = output[0]
        row = self.decoder.get_input_embeddings().weight[0].to(states.dtype)
        given: dict[str, Any] = {"position_ids": batch.positions, "token_type_ids": batch.types}
        decoded = self.decoder(
            inputs_embeds=torch.where(batch.hidden.unsqueeze(-1), row, states),
            attention_mask=batch.real.long(),
            **{name: value for name, value in given.items() if value is not None},
        )[0]
        if isinstance(output, tuple):
            return self.tail((decoded, *output[1:]))
        output["last_hidden_state"] = decoded
        return self.tail(output)

    def _hold(self) -> None:
        register()
        self._configs = [
            config
            for part, stack in (
                (self.model, self._encoder_stack),
                (self.decoder, self._decoder_stack),
            )
            for config in configs_of(part, list(stack.attentions))
        ]
        object.__setattr__(self.model, _HELD, True)

    def _name(self) -> None:
        """Rows of tokens find our attention; every other batch finds what it always found."""
        for config in self._configs:
            asked = str(config._attn_implementation)
            config._attn_implementation_internal = row_name(asked.removeprefix(row_name("")))

    def _unname(self) -> None:
        for config in self._configs:
            asked = str(config._attn_implementation)
            config._attn_implementation_internal = asked.removeprefix(row_name(""))

    @property
    def _runs_again(self) -> bool:
        """Whether layers are checkpointed, and run once more after the pass."""
        parts = self.modules() if self.training else ()
        return any(getattr(part, "gradient_checkpointing", False) for part in parts)


class _Tail(nn.Module):
    """Hands on what the decoder gave; hooks on a backbone's output have their place here."""

    def forward(self, output: Any) -> Any:
        return output


def _stack(model: nn.Module, base: nn.Module | None = None) -> Stack:
    """The stack that a model's tokens go through.

    Raises:
        ModelError: its batches cannot be unpadded.
    """
    base = model if base is None else base
    seats = [module for module, _ in find_seats(model)]
    inside = {id(part) for part in base.modules()}
    if any(id(seat) not in inside for seat in seats):
        raise ModelError(f"{type(model).__name__} attends outside of its encoder.")
    return Stack(base, seats)


def _positions(base: Any, input_ids: Tensor, given: Tensor | None) -> Tensor | None:
    """``(B, S)`` as the encoder counts them from its ids; None: by their slots."""
    if given is not None:
        return given
    embeddings = getattr(base, "embeddings", None)
    make = getattr(embeddings, "create_position_ids_from_input_ids", None)
    return None if make is None else make(input_ids, embeddings.padding_idx)  # type: ignore[union-attr]


def _layers(model: Any) -> int:
    return model.config.num_hidden_layers
