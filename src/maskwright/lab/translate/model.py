"""The encoder–decoder of a run: a new one of the given size, or a pretrained one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from maskwright.errors import ModelError
from maskwright.lab.model import UNREADABLE, first_line, resolve
from maskwright.lab.translate.config import TranslationModel

MINILM = "package:minilm"


def build_translation_model(
    config: TranslationModel,
    tokenizer: Any,
    target_tokenizer: Any,
    *,
    seed: int,
    max_length: int,
    beams: int = 1,
) -> Any:
    """An encoder–decoder whose new weights depend on ``seed`` alone.

    Args:
        tokenizer, target_tokenizer: of the two sides; one and the same but for ``minilm``.
        max_length: tokens of a sentence.
        beams: what `generate` takes by itself, later.

    Raises:
        ModelError: a pretrained model cannot be loaded, is no encoder–decoder, or takes shorter
            sentences.
    """
    from transformers import set_seed

    set_seed(seed)
    if config.pretrained is not None:
        model = load_seq2seq(resolve(config.pretrained))
        _check_length(model, config.pretrained, max_length)
    else:
        new = {"marian": _marian, "lstm": _lstm, "minilm": _minilm}[config.kind]
        model = new(config, tokenizer, target_tokenizer, max_length)
        _generates(model, target_tokenizer, max_length, beams)
    return model


def load_seq2seq(place: str | Path) -> Any:
    """An encoder–decoder from a folder or the Hub, in evaluation mode.

    Raises:
        ModelError: nothing can be loaded from there, or weights are missing.
    """
    from transformers import AutoModelForSeq2SeqLM

    know_own_models(place)
    try:
        model, found = AutoModelForSeq2SeqLM.from_pretrained(place, output_loading_info=True)
    except UNREADABLE as error:
        raise ModelError(
            f"No encoder–decoder can be loaded from {place}: {first_line(error)}"
        ) from None
    missing = sorted(found["missing_keys"])
    if missing:
        raise ModelError(
            f"{place} is not a whole model: {len(missing)} weights are missing "
            f"({', '.join(missing[:3])}). Train it again, or choose another folder."
        )
    return model.eval()


def know_own_models(place: str | Path) -> None:
    """Tells transformers of the model type in a folder, where it is one of ours."""
    config = Path(place) / "config.json"
    if config.is_file() and '"maskwright_lstm"' in config.read_text("utf-8", "replace"):
        import maskwright.models.lstm  # noqa: F401


def _marian(config: TranslationModel, tokenizer: Any, _: Any, max_length: int) -> Any:
    from transformers import MarianConfig, MarianMTModel

    sides = {
        f"{side}_{name}": value
        for side in ("encoder", "decoder")
        for name, value in {
            "layers": config.layers,
            "attention_heads": config.heads,
            "ffn_dim": config.feedforward,
        }.items()
    }
    settings: dict[str, Any] = {
        **sides,
        "vocab_size": len(tokenizer),
        "d_model": config.width,
        "dropout": config.dropout,
        "activation_function": "relu",
        "scale_embedding": True,
        # embeddings are scaled by the root of the width, so that they begin at unit size
        "init_std": config.width**-0.5,
        "max_position_embeddings": max_length,
        "share_encoder_decoder_embeddings": True,
        "tie_word_embeddings": True,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "forced_eos_token_id": None,
        "decoder_start_token_id": tokenizer.pad_token_id,
    }
    return MarianMTModel(MarianConfig(**settings))


def _lstm(config: TranslationModel, tokenizer: Any, _: Any, max_length: int) -> Any:
    from maskwright.models.lstm import LstmForConditionalGeneration, LstmSeq2SeqConfig

    return LstmForConditionalGeneration(
        LstmSeq2SeqConfig(
            vocab_size=len(tokenizer),
            hidden_size=config.width,
            num_hidden_layers=config.layers,
            dropout=config.dropout,
            bidirectional=config.bidirectional,
            # all that the decoder knows of its source then comes through cross-attention, as masks
            # on it suppose
            initial_state="zeros",
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            decoder_start_token_id=tokenizer.pad_token_id,
        )
    )


def _minilm(config: TranslationModel, _: Any, target: Any, max_length: int) -> Any:
    from transformers import AutoModel, BertConfig, BertLMHeadModel, EncoderDecoderModel

    encoder: Any = AutoModel.from_pretrained(resolve(MINILM))
    longest = encoder.config.max_position_embeddings
    if max_length > longest:
        raise ModelError(
            f"data.max_length={max_length} is more than MiniLM takes. Use {longest} or less."
        )
    decoder = BertConfig(
        vocab_size=len(target),
        hidden_size=config.width,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        intermediate_size=config.feedforward,
        hidden_dropout_prob=config.dropout,
        attention_probs_dropout_prob=config.dropout,
        # as above; BERT's own 0.02 is for wider models, and learns slowly here
        initializer_range=config.width**-0.5,
        max_position_embeddings=max_length,
        is_decoder=True,
        add_cross_attention=True,
        pad_token_id=target.pad_token_id,
        bos_token_id=target.bos_token_id,
        eos_token_id=target.eos_token_id,
    )
    model: Any = EncoderDecoderModel(encoder=encoder, decoder=BertLMHeadModel(decoder))
    model.config.pad_token_id = target.pad_token_id
    model.config.eos_token_id = target.eos_token_id
    model.config.decoder_start_token_id = target.bos_token_id
    return model


def _generates(model: Any, target: Any, max_length: int, beams: int) -> None:
    """What `generate` does by itself, kept with the model."""
    from transformers import GenerationConfig

    model.generation_config = GenerationConfig(
        max_new_tokens=max_length - 1,
        num_beams=beams,
        pad_token_id=target.pad_token_id,
        bos_token_id=target.bos_token_id,
        eos_token_id=target.eos_token_id,
        decoder_start_token_id=model.config.decoder_start_token_id,
    )


def longest_text(model: Any) -> int | None:
    """Tokens that encoder and decoder both take; ``None`` where there is no limit."""
    configs = [getattr(model.config, name, None) for name in ("encoder", "decoder")]
    limits = [
        limit
        for config in (model.config, *configs)
        if (limit := getattr(config, "max_position_embeddings", None)) is not None
    ]
    return min(limits, default=None)


def _check_length(model: Any, name: str, max_length: int) -> None:
    limit = longest_text(model)
    if limit is not None and max_length > limit:
        raise ModelError(
            f"Sentences of data.max_length={max_length} tokens are longer than {name} takes "
            f"({limit}). Use data.max_length={limit} or less."
        )
