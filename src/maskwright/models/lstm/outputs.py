"""What the parts of an LSTM encoder–decoder give."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from transformers.modeling_outputs import Seq2SeqLMOutput, Seq2SeqModelOutput
from transformers.utils import ModelOutput


@dataclass
class LstmEncoderOutput(ModelOutput):
    """The source, read.

    Attributes:
        last_hidden_state: ``(B, S, H)``, zeros at padding.
        final_hidden, final_cell: ``(B, layers, H)``: where each direction ended.
    """

    last_hidden_state: Tensor | None = None
    final_hidden: Tensor | None = None
    final_cell: Tensor | None = None


@dataclass
class LstmSeq2SeqModelOutput(Seq2SeqModelOutput):
    """The attentional vectors, and what led to them.

    Attributes:
        decoder_input_ids: ``(B, T)``: what the decoder read, where some of it was its own.
    """

    decoder_input_ids: Tensor | None = None


@dataclass
class LstmSeq2SeqLMOutput(Seq2SeqLMOutput):
    """Logits, and what led to them.

    Attributes:
        decoder_input_ids: ``(B, T)``: what the decoder read, where some of it was its own.
    """

    decoder_input_ids: Tensor | None = None
