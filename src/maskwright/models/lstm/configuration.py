"""The sizes of an LSTM encoder–decoder, and which of its parts it has."""

from __future__ import annotations

from typing import Any, ClassVar

from transformers import PreTrainedConfig

from maskwright.errors import ConfigError

_INITIAL = ("encoder", "zeros")


class LstmSeq2SeqConfig(PreTrainedConfig):
    """Settings of `LstmForConditionalGeneration`.

    Args:
        vocab_size: of source and target, which share their tokens.
        hidden_size: width of the states of the encoder (both directions together), of the decoder
            and of the attentional vector.
        embedding_size: of the token embeddings; ``hidden_size`` unless given.
        num_hidden_layers: of the encoder, and of the decoder.
        num_attention_heads: of the cross-attention, which is one layer. Luong's has one head;
            more see as many slices of the encoder's states.
        bidirectional: whether the encoder reads the source both ways.
        initial_state: what the decoder starts from: ``"encoder"``, the encoder's last state, or
            ``"zeros"``, so that all it knows of the source comes through cross-attention.
        input_feeding: whether each step reads the attentional vector of the step before (Luong,
            section 3.3). Training then goes step by step.
        dropout: on embeddings, between layers and on the attentional vector.
        attention_dropout: on the weights of the cross-attention.
        initializer_range: weights are drawn evenly between minus that and that.
        tie_word_embeddings: whether the output layer is the table of embeddings (Press and Wolf
            2017, 1608.05859).
        pad_token_id, bos_token_id, eos_token_id: of the vocabulary.
        decoder_start_token_id: what the decoder reads first; ``bos_token_id`` unless given.

    Raises:
        ConfigError: sizes that do not fit.

    >>> LstmSeq2SeqConfig(vocab_size=50, hidden_size=32).reads_in_step
    False
    """

    model_type = "maskwright_lstm"
    keys_to_ignore_at_inference: ClassVar[Any] = ["past_key_values"]

    vocab_size: int = 8000
    hidden_size: int = 256
    embedding_size: int | None = None
    num_hidden_layers: int = 1
    num_attention_heads: int = 1
    bidirectional: bool = True
    initial_state: str = "encoder"
    input_feeding: bool = False
    dropout: float = 0.2
    attention_dropout: float = 0.0
    initializer_range: float = 0.1
    tie_word_embeddings: bool = True
    use_cache: bool = True
    is_encoder_decoder: bool = True
    pad_token_id: int | None = 0
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    decoder_start_token_id: int | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        for name in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"{name}={value!r} of LstmSeq2SeqConfig: a whole number above 0.")
        for name in ("dropout", "attention_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(
                    f"{name}={getattr(self, name)!r} of LstmSeq2SeqConfig: from 0, and below 1."
                )
        if self.embedding_size is None:
            self.embedding_size = self.hidden_size
        if self.hidden_size % self.num_attention_heads:
            raise ConfigError(
                f"hidden_size={self.hidden_size} of LstmSeq2SeqConfig is no multiple of "
                f"num_attention_heads={self.num_attention_heads}."
            )
        if self.bidirectional and self.hidden_size % 2:
            raise ConfigError(
                f"hidden_size={self.hidden_size} of LstmSeq2SeqConfig is odd, and is shared "
                "between the two directions of the encoder. Use bidirectional=False."
            )
        if self.tie_word_embeddings and self.embedding_size != self.hidden_size:
            raise ConfigError(
                f"embedding_size={self.embedding_size} of LstmSeq2SeqConfig is not "
                f"hidden_size={self.hidden_size}, which the output layer has. Use "
                "tie_word_embeddings=False."
            )
        if self.initial_state not in _INITIAL:
            raise ConfigError(
                f"initial_state={self.initial_state!r} of LstmSeq2SeqConfig: it is one of "
                f"{', '.join(_INITIAL)}."
            )
        if self.decoder_start_token_id is None:
            self.decoder_start_token_id = self.bos_token_id
        super().__post_init__(**kwargs)

    @property
    def reads_in_step(self) -> bool:
        """Whether all that the decoder knows of a source token came through cross-attention to it,
        or to a token behind it.

        A cross-attention pattern such as `wait_k` then says what was read. Otherwise the encoder
        has carried the end of the source to its beginning, or to the decoder's first state.
        """
        return not self.bidirectional and self.initial_state == "zeros"
