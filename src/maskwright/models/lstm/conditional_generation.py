"""The model with its output layer: it is trained, saved and made to generate like any
encoder–decoder of transformers."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import GenerationMixin

from maskwright.corruption.emit import IGNORE
from maskwright.errors import ModelError
from maskwright.models.lstm.configuration import LstmSeq2SeqConfig
from maskwright.models.lstm.model import LstmModel
from maskwright.models.lstm.output_mask import masked_logits, refuse_forbidden
from maskwright.models.lstm.outputs import LstmSeq2SeqLMOutput
from maskwright.models.lstm.pretrained import LstmPreTrainedModel
from maskwright.models.lstm.state import LstmState


class LstmForConditionalGeneration(LstmPreTrainedModel, GenerationMixin):
    """An LSTM encoder–decoder with attention that translates, summarises, or writes otherwise.

        p(y_t | y_<t, x) = softmax(W_s h~_t)    (Luong et al. 2015, 1508.04025, equation 6)

    It is called, trained, saved and made to `generate` like any encoder–decoder of transformers.
    Masks go onto its inputs (``decoder_input_ids`` with mask tokens), its cross-attention
    (`maskwright.hf.attach` with ``cross=``, or ``cross_attention_mask``) and its outputs
    (``output_mask``).

    >>> config = LstmSeq2SeqConfig(vocab_size=20, hidden_size=8)
    >>> model = LstmForConditionalGeneration(config).eval()
    >>> ids = torch.tensor([[5, 6, 7, 2]])
    >>> model(input_ids=ids, labels=ids).logits.shape
    torch.Size([1, 4, 20])
    """

    _tied_weights_keys: ClassVar[Any] = {"lm_head.weight": "model.encoder.embed_tokens.weight"}
    # a loss divided by num_items_in_batch is right over micro-batches and ranks
    accepts_loss_kwargs = True

    def __init__(self, config: LstmSeq2SeqConfig) -> None:
        super().__init__(config)
        self.model = LstmModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def set_output_embeddings(self, new_embeddings: Any) -> None:
        self.lm_head = new_embeddings

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        # its state comes with the outputs of the first step
        return False

    def prepare_decoder_input_ids_from_labels(self, labels: Tensor) -> Tensor:
        """``(B, T)``: labels moved by one, behind the token that the decoder starts from."""
        start, pad = self.config.decoder_start_token_id, self.config.pad_token_id
        if start is None or pad is None:
            raise ModelError(
                "The config has no decoder_start_token_id or no pad_token_id, so what the decoder "
                "reads cannot be made of labels. Set both, or give decoder_input_ids."
            )
        moved = functional.pad(labels[:, :-1], (1, 0), value=start)
        return moved.masked_fill(moved == IGNORE, pad)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        encoder_outputs: Any = None,
        past_key_values: LstmState | None = None,
        inputs_embeds: Tensor | None = None,
        decoder_inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
        cross_attention_mask: Tensor | None = None,
        output_mask: Tensor | None = None,
        sampled: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Logits of the target, and with labels their loss.

        Args:
            input_ids: ``(B, S)`` of the source.
            attention_mask: ``(B, S)``, 0 at padding, wherever it is; None: there is none.
            decoder_input_ids: ``(B, T)``: what the decoder reads; labels moved by one unless given.
            decoder_attention_mask: ``(B, T)``, or with ``past_key_values`` of the tokens before as
                well; 0 at padding, where the state stands still.
            encoder_outputs: of the encoder, in place of the source.
            past_key_values: the state of the last call; the inputs are then the tokens after it.
            inputs_embeds, decoder_inputs_embeds: ``(B, S, E)`` and ``(B, T, E)`` in place of ids.
            labels: ``(B, T)``, -100 where nothing is compared.
            use_cache: whether to give the state; it does unless in training.
            output_attentions: whether to give the weights of the cross-attention.
            return_dict: False: a tuple.
            cross_attention_mask: ``(B, T, S)`` Boolean, True = may attend; with
                ``past_key_values``, of all tokens from the first one on.
            output_mask: ``(V,)``, ``(B, V)`` or ``(B, T, V)`` Boolean: the tokens that may be said.
            sampled: ``(B, T)`` Boolean: where the decoder reads the token that it has just found
                likeliest instead of what it was given (scheduled sampling, Bengio et al. 2015,
                1506.03099). No gradient goes through that choice. The output says what was read.
            num_items_in_batch: what the loss is divided by; its number of labels unless given.

        Raises:
            ModelError: arguments that do not fit each other.
        """
        if labels is not None and decoder_input_ids is None and decoder_inputs_embeds is None:
            decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)

        def choose(vectors: Tensor) -> Tensor:
            with torch.no_grad():
                # not through lm_head, whose calls others count
                scores = functional.linear(vectors, self.lm_head.weight).unsqueeze(1)
                return masked_logits(scores, output_mask).argmax(-1).squeeze(1)

        if sampled is not None and output_mask is not None and output_mask.ndim == 3:
            raise ModelError("sampled= takes an output_mask of (V,) or (B, V).")
        found = self.model(
            input_ids,
            attention_mask,
            decoder_input_ids,
            decoder_attention_mask,
            encoder_outputs,
            past_key_values,
            inputs_embeds,
            decoder_inputs_embeds,
            use_cache=use_cache if use_cache is not None or labels is None else False,
            output_attentions=output_attentions,
            cross_attention_mask=cross_attention_mask,
            sampled=sampled,
            choose=choose,
        )
        logits = masked_logits(self.lm_head(found.last_hidden_state), output_mask)
        output = LstmSeq2SeqLMOutput(
            loss=None if labels is None else _loss(logits, labels, num_items_in_batch, output_mask),
            logits=logits,
            past_key_values=found.past_key_values,
            cross_attentions=found.cross_attentions,
            encoder_last_hidden_state=found.encoder_last_hidden_state,
            decoder_input_ids=found.decoder_input_ids,
        )
        return output.to_tuple() if return_dict is False else output


def _loss(
    logits: Tensor, labels: Tensor, count: Tensor | int | None, output_mask: Tensor | None
) -> Tensor:
    """Cross-entropy by the number of labels; 0 where there is none."""
    if labels.shape != logits.shape[:2]:
        raise ModelError(
            f"labels have the shape {tuple(labels.shape)}, the logits are of "
            f"{tuple(logits.shape[:2])} tokens."
        )
    if output_mask is not None:
        refuse_forbidden(labels, logits)
    exact = torch.promote_types(logits.dtype, torch.float32)
    total = functional.cross_entropy(
        logits.flatten(0, 1).to(exact), labels.flatten(), ignore_index=IGNORE, reduction="sum"
    )
    if count is None:
        count = (labels != IGNORE).sum()
    return total / torch.as_tensor(count, device=total.device).clamp(min=1)
