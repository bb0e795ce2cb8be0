"""Tiny encoder–decoders and the form of their targets."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    EncoderDecoderConfig,
    EncoderDecoderModel,
    MarianConfig,
    MarianMTModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from maskwright.hf.conditional.target_form import TargetForm

VOCABULARY = 24
PAD, END, UNKNOWN, MASK = range(4)
KINDS = ("marian", "bart", "t5", "bert2bert")
FORM = TargetForm(MASK, PAD, (), (END,), (PAD, END, UNKNOWN, MASK), VOCABULARY)
FRAMED = TargetForm(MASK, PAD, (UNKNOWN,), (END,), (PAD, END, UNKNOWN, MASK), VOCABULARY - 2)


def seq2seq(kind: str = "marian", attention: str = "sdpa", positions: int = 40) -> Any:
    """A new model without dropout, with the weights of seed 0."""
    off: dict[str, Any] = {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0}
    sizes: dict[str, Any] = {
        "d_model": 16, "encoder_layers": 1, "decoder_layers": 2, "encoder_ffn_dim": 32,
        "decoder_ffn_dim": 32, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
        "max_position_embeddings": positions, "vocab_size": VOCABULARY, "pad_token_id": PAD,
        "eos_token_id": END, "bos_token_id": END, "decoder_start_token_id": PAD,
        "forced_eos_token_id": None,
    }  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if kind == "marian":
            made: Any = MarianMTModel(MarianConfig(**sizes, **off, init_std=0.3))
        elif kind == "bart":
            made = BartForConditionalGeneration(BartConfig(**sizes, **off, init_std=0.3))
            with torch.no_grad():
                made.final_logits_bias.normal_()  # which a head of its own must not forget
        elif kind == "t5":
            made = T5ForConditionalGeneration(
                T5Config(
                    vocab_size=VOCABULARY, d_model=16, d_kv=8, d_ff=32, num_layers=1,
                    num_decoder_layers=2, num_heads=2, dropout_rate=0.0, pad_token_id=PAD,
                    eos_token_id=END, decoder_start_token_id=PAD, initializer_factor=2.0,
                )
            )  # fmt: skip
        else:
            side = BertConfig(
                vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                intermediate_size=32, max_position_embeddings=positions, hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0, pad_token_id=PAD, initializer_range=0.3,
            )  # fmt: skip
            config = EncoderDecoderConfig.from_encoder_decoder_configs(side, side)
            config.pad_token_id, config.decoder_start_token_id = PAD, END
            made = EncoderDecoderModel(config=config)
    made.set_attn_implementation(attention)
    return made.eval()


def tokenizer() -> PreTrainedTokenizerFast:
    """Letters, and ``</s>`` behind them."""
    words = ["<pad>", "</s>", "<unk>", "<mask>", *"abcdefghijklmnopqrst"]
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, "<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", END)]
    )
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, mask_token="<mask>", **names)


def sources(lengths: list[int], width: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """``(B, S)`` ids and mask, padded on the right."""
    generator = torch.Generator().manual_seed(sum(lengths))
    width = max(lengths) if width is None else width
    ids = torch.randint(4, VOCABULARY - 2, (len(lengths), width), generator=generator)
    mask = (torch.arange(width) < torch.tensor(lengths).unsqueeze(1)).long()
    return ids * mask, mask
