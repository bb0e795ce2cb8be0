"""Tiny encoder–decoders of each family, without dropout, and pairs whose every id is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers import (
    BertConfig,
    BertLMHeadModel,
    BertModel,
    EncoderDecoderModel,
    MarianConfig,
    MarianMTModel,
    WhisperConfig,
    WhisperForConditionalGeneration,
)

from tests.hf.test_emits import bart, t5

VOCABULARY = 100
START = {"bart": 3, "marian": 0, "t5": 0, "bert2bert": 2}
TEXT = tuple(START)
_STACKS: dict[str, Any] = {
    "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "dropout": 0.0,
    "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3,
}  # fmt: skip


def model(kind: str) -> Any:
    """A new model with the weights of seed 0."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if kind == "bart":
            return bart(VOCABULARY)
        if kind == "t5":
            return t5(VOCABULARY)
        if kind == "marian":
            return MarianMTModel(
                MarianConfig(
                    vocab_size=VOCABULARY, max_position_embeddings=64, decoder_start_token_id=0,
                    forced_eos_token_id=3, **_STACKS,
                )
            )  # fmt: skip
        if kind == "whisper":
            return WhisperForConditionalGeneration(
                WhisperConfig(
                    vocab_size=VOCABULARY, num_mel_bins=4, max_source_positions=8,
                    max_target_positions=16, decoder_start_token_id=2, **_STACKS,
                )
            )  # fmt: skip
        return _bert2bert()


def _bert2bert() -> Any:
    sizes: dict[str, Any] = {
        "vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 1,
        "num_attention_heads": 2, "intermediate_size": 48, "max_position_embeddings": 64,
        "pad_token_id": 0, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
    }  # fmt: skip
    decoder = BertConfig(**sizes, is_decoder=True, add_cross_attention=True)
    encoder = BertModel(BertConfig(**sizes))  # with a pooler, which nobody asks
    made = EncoderDecoderModel(encoder=encoder, decoder=BertLMHeadModel(decoder))
    made.config.decoder_start_token_id, made.config.pad_token_id = 2, 0
    return made


def pairs(count: int = 12) -> list[dict[str, Any]]:
    """Sources ``[CLS] … [SEP]`` of 4 to 11 tokens, targets ``… [SEP]`` of 3 to 10, with ids."""
    random = np.random.default_rng(count)
    rows = []
    for number in range(count):
        source, target = 2 + (5 * number) % 8, 2 + (3 * number) % 8
        rows.append(
            {
                "input_ids": [2, *random.integers(5, VOCABULARY, source).tolist(), 3],
                "labels": [*random.integers(5, VOCABULARY, target).tolist(), 3],
                # every second token begins a word
                "target_word_starts": [1 - place % 2 for place in range(target + 1)],
                "sample_id": number,
            }
        )
    return rows


def sounds(count: int = 3) -> list[dict[str, Any]]:
    """Whisper's samples: 4 mel bins of 16 frames."""
    random = np.random.default_rng(0)
    return [
        {
            "input_features": random.normal(size=(4, 16)).astype(np.float32),
            "labels": row["labels"],
            "sample_id": row["sample_id"],
        }
        for row in pairs(count)
    ]
