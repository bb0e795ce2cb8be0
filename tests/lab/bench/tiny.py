"""A model folder as people have it, but small: BERT, GPT-2 or BART, with a tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import Regex, normalizers
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
)

from maskwright.lab.bench.words import word_tokenizer

VOCABULARY = 60
IDS = {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}


def model(kind: str) -> Any:
    """Dropout is on, as in what people save."""
    if kind == "bert":
        return BertForMaskedLM(
            BertConfig(
                vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                intermediate_size=16, max_position_embeddings=66,
            )
        )  # fmt: skip
    if kind == "gpt2":
        return GPT2LMHeadModel(
            GPT2Config(vocab_size=VOCABULARY, n_embd=16, n_layer=1, n_head=2, n_positions=66, **IDS)
        )
    return BartForConditionalGeneration(
        BartConfig(
            vocab_size=VOCABULARY, d_model=16, encoder_layers=1, decoder_layers=1,
            encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=16,
            decoder_ffn_dim=16, max_position_embeddings=66, decoder_start_token_id=3,
            forced_eos_token_id=3, **IDS,
        )
    )  # fmt: skip


def folder_of(kind: str, folder: Path) -> Path:
    """Its configuration and its tokenizer; no weights."""
    made = model(kind)
    made.config.architectures = [type(made).__name__]
    made.config.save_pretrained(folder)
    tokenizer = word_tokenizer(VOCABULARY)
    # which takes every English word for one of its own
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace(Regex(r"\w+"), "w7")
    tokenizer.save_pretrained(folder)
    return folder
