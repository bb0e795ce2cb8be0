"""Models of the size that one core trains: 3 to 6 layers of 256, a vocabulary of 30,000 words.

All without dropout, so that two ways of computing a step can be compared.
"""

from __future__ import annotations

from typing import Any

from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    ModernBertConfig,
    ModernBertForMaskedLM,
)

VOCABULARY = 30_000
WIDTH = 256


def bert(positions: int = 512, vocabulary: int = VOCABULARY) -> Any:
    """4 layers."""
    return BertForMaskedLM(
        BertConfig(
            vocab_size=vocabulary,
            hidden_size=WIDTH,
            num_hidden_layers=4,
            num_attention_heads=4,
            intermediate_size=4 * WIDTH,
            max_position_embeddings=positions,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
    )


def modernbert() -> Any:
    """6 layers, of which two see everything and four a window of 128."""
    return ModernBertForMaskedLM(
        ModernBertConfig(
            vocab_size=VOCABULARY,
            hidden_size=WIDTH,
            num_hidden_layers=6,
            num_attention_heads=4,
            intermediate_size=3 * WIDTH // 2,
            max_position_embeddings=2048,
            pad_token_id=0,
            cls_token_id=2,
            sep_token_id=3,
            bos_token_id=2,
            eos_token_id=3,
        )
    )


def gpt2() -> Any:
    """4 layers."""
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCABULARY,
            n_embd=WIDTH,
            n_layer=4,
            n_head=4,
            n_positions=512,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=2,
            eos_token_id=3,
            pad_token_id=0,
        )
    )


def bart() -> Any:
    """3 layers on each side."""
    return BartForConditionalGeneration(
        BartConfig(
            vocab_size=VOCABULARY,
            d_model=WIDTH,
            encoder_layers=3,
            decoder_layers=3,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=4 * WIDTH,
            decoder_ffn_dim=4 * WIDTH,
            max_position_embeddings=512,
            dropout=0.0,
            pad_token_id=0,
            bos_token_id=2,
            eos_token_id=3,
            decoder_start_token_id=3,
            forced_eos_token_id=3,
        )
    )
