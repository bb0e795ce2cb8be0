"""The encoder: embeddings, and an LSTM over the tokens of the source."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from maskwright.models.lstm.configuration import LstmSeq2SeqConfig
from maskwright.models.lstm.inputs import embedded, tokens_of
from maskwright.models.lstm.outputs import LstmEncoderOutput
from maskwright.models.lstm.pretrained import LstmPreTrainedModel
from maskwright.models.lstm.recurrence import read_tokens


class LstmEncoder(LstmPreTrainedModel):
    """Reads the source, one way or both ways; padding never enters."""

    def __init__(self, config: LstmSeq2SeqConfig) -> None:
        super().__init__(config)
        # padding never enters, so its row may belong to a token that decoders start from
        size = config.embedding_size or config.hidden_size
        self.embed_tokens = nn.Embedding(config.vocab_size, size)
        self.directions = 2 if config.bidirectional else 1
        self.lstm = nn.LSTM(
            size,
            config.hidden_size // self.directions,
            config.num_hidden_layers,
            batch_first=True,
            dropout=config.dropout if config.num_hidden_layers > 1 else 0.0,
            bidirectional=config.bidirectional,
        )
        self.dropout = nn.Dropout(config.dropout)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.embed_tokens

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.embed_tokens = value

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        return_dict: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> LstmEncoderOutput | tuple[Tensor, ...]:
        """The states of the source.

        Args:
            input_ids: ``(B, S)``.
            attention_mask: ``(B, S)``, 0 at padding, which may be anywhere; None: there is none.
            inputs_embeds: ``(B, S, E)`` in place of ``input_ids``.
            return_dict: False: a tuple.
            output_attentions, output_hidden_states: asked by `generate`; there are none to give.

        Raises:
            ModelError: the source has no position, or the mask has another shape.
        """
        inputs = embedded("source", self.embed_tokens, input_ids, inputs_embeds)
        tokens = tokens_of("attention_mask", attention_mask, inputs.shape[0], inputs.shape[1])
        config = self.config
        zeros = inputs.new_zeros(
            config.num_hidden_layers * self.directions, len(inputs), self.lstm.hidden_size
        )
        states, (hidden, cell) = read_tokens(
            self.lstm, self.dropout(inputs), tokens, (zeros, zeros)
        )
        output = LstmEncoderOutput(states, self._joined(hidden), self._joined(cell))
        return output.to_tuple() if return_dict is False else output

    def _joined(self, final: Tensor) -> Tensor:
        """``(layers * directions, B, W)`` as ``(B, layers, directions * W)``."""
        parts = final.unflatten(0, (-1, self.directions)).permute(2, 0, 1, 3)
        return torch.flatten(parts, 2)
