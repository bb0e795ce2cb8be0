"""Encoder and decoder, up to what words are said from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from maskwright.errors import ModelError
from maskwright.models.lstm.configuration import LstmSeq2SeqConfig
from maskwright.models.lstm.cross_attention import Source
from maskwright.models.lstm.decoder import LstmDecoder, OwnWords
from maskwright.models.lstm.encoder import LstmEncoder
from maskwright.models.lstm.inputs import allowed_of, embedded, tokens_of
from maskwright.models.lstm.outputs import LstmEncoderOutput, LstmSeq2SeqModelOutput
from maskwright.models.lstm.pretrained import LstmPreTrainedModel
from maskwright.models.lstm.state import LstmState

Choose = Callable[[Tensor], Tensor]


class LstmModel(LstmPreTrainedModel):
    """Encoder and decoder, up to the attentional vectors ``(B, T, H)``."""

    base_model_prefix = ""

    def __init__(self, config: LstmSeq2SeqConfig) -> None:
        super().__init__(config)
        self.encoder = LstmEncoder(config)
        self.decoder = LstmDecoder(config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.encoder.embed_tokens

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.encoder.embed_tokens = value

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
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
        cross_attention_mask: Tensor | None = None,
        sampled: Tensor | None = None,
        choose: Choose | None = None,
    ) -> Any:
        """Read the source, then the target.

        Args: as for `LstmForConditionalGeneration`, and
            choose: the ids ``(B,)`` that are said from attentional vectors ``(B, H)``; needed with
                ``sampled``.
        """
        read = self._read(encoder_outputs, input_ids, attention_mask, inputs_embeds)
        states = read.last_hidden_state
        assert states is not None
        table = self.encoder.embed_tokens
        inputs = embedded("target", table, decoder_input_ids, decoder_inputs_embeds)
        batch, length, _ = inputs.shape
        if len(states) != batch:
            raise ModelError(f"The batch has {len(states)} sources and {batch} targets.")
        state = self._begin(read, past_key_values, inputs)
        total = state.read + length
        mask = decoder_attention_mask
        if mask is not None and state.read and mask.shape[-1] == length:
            # of these tokens alone: those before were none of them padding
            mask = torch.cat((mask.new_ones(batch, state.read), mask), 1)
        seen = tokens_of("decoder_attention_mask", mask, batch, total)
        tokens = None if seen is None else seen[:, -length:]
        if tokens is not None and bool(tokens.all()):
            tokens = None
        keys = states.shape[1]
        source = Source.of(
            states,
            tokens_of("attention_mask", attention_mask, batch, keys),
            allowed_of(cross_attention_mask, batch, state.read, total, keys),
        )
        own = None if sampled is None else self._own(sampled, tokens, decoder_input_ids, choose)
        found = self.decoder(
            inputs,
            source,
            state,
            tokens=tokens,
            seen=seen,
            own=own,
            output_attentions=bool(output_attentions or self.config.output_attentions),
        )
        if own is not None and found.said is not None and decoder_input_ids is not None:
            decoder_input_ids = torch.where(own.sampled, found.said, decoder_input_ids)
        keep = self.config.use_cache and not self.training if use_cache is None else use_cache
        output = LstmSeq2SeqModelOutput(
            last_hidden_state=found.vectors,
            past_key_values=found.state if keep else None,
            cross_attentions=None if found.weights is None else (found.weights,),
            encoder_last_hidden_state=states,
            decoder_input_ids=None if own is None else decoder_input_ids,
        )
        return output.to_tuple() if return_dict is False else output

    def _read(
        self,
        given: Any,
        input_ids: Tensor | None,
        attention_mask: Tensor | None,
        inputs_embeds: Tensor | None,
    ) -> LstmEncoderOutput:
        if given is None:
            return self.encoder(input_ids, attention_mask, inputs_embeds)
        if isinstance(given, LstmEncoderOutput):
            return given
        if isinstance(given, tuple | list):
            return LstmEncoderOutput(*given)
        # of another class, with the states alone
        return LstmEncoderOutput(given.last_hidden_state)

    def _begin(self, read: LstmEncoderOutput, past: LstmState | None, inputs: Tensor) -> LstmState:
        config = self.config
        if past is not None:
            if not isinstance(past, LstmState):
                raise ModelError(
                    f"past_key_values is a {type(past).__name__}; that of {type(self).__name__} is "
                    "an LstmState. Give None at first, then what the last call gave."
                )
            return past
        fed = inputs.new_zeros(len(inputs), config.hidden_size)
        if config.initial_state == "zeros":
            zeros = inputs.new_zeros(len(inputs), config.num_hidden_layers, config.hidden_size)
            return LstmState(zeros, zeros, fed, 0)
        if read.final_hidden is None or read.final_cell is None:
            raise ModelError(
                "encoder_outputs lack final_hidden and final_cell, which the decoder starts from. "
                'Give what the encoder gave, or use a config with initial_state="zeros".'
            )
        return LstmState(read.final_hidden, read.final_cell, fed, 0)

    def _own(
        self,
        sampled: Tensor,
        tokens: Tensor | None,
        ids: Tensor | None,
        choose: Choose | None,
    ) -> OwnWords:
        if ids is None or choose is None:
            raise ModelError("sampled= goes with decoder_input_ids, and with choose=.")
        if sampled.dtype != torch.bool or sampled.shape != ids.shape:
            raise ModelError(
                f"sampled has the shape {tuple(sampled.shape)} and the type {sampled.dtype}; it is "
                f"Boolean, of the shape of decoder_input_ids, {tuple(ids.shape)}."
            )
        first = torch.zeros_like(sampled)
        if tokens is None:
            first[:, 0] = True
        else:
            first = tokens.cumsum(1) <= 1
        if bool((sampled & first).any()):
            raise ModelError(
                "sampled is True at the first token of a sample, before which the model has said "
                "nothing. It is for the tokens after it."
            )
        return OwnWords(sampled, choose, self.encoder.embed_tokens)
