"""Tiny models of every architecture that patterns are tested on, random weights, no dropout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import transformers as hf
from torch import Tensor

VOCABULARY = 40
PAD, BOS, EOS = 0, 1, 2
_IDS: dict[str, Any] = {"pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS}
_BERT: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 64,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    **_IDS,
}
LLAMA: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 64,
    **_IDS,
}
_BART: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "max_position_embeddings": 64,
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "decoder_start_token_id": BOS,
    "forced_eos_token_id": None,
    **_IDS,
}


def _bert() -> Any:
    return hf.BertForMaskedLM(hf.BertConfig(**_BERT))


def _roberta() -> Any:
    return hf.RobertaForMaskedLM(hf.RobertaConfig(**_BERT))


def _distilbert() -> Any:
    return hf.DistilBertForMaskedLM(
        hf.DistilBertConfig(
            vocab_size=VOCABULARY, dim=16, n_layers=2, n_heads=2, hidden_dim=24,
            max_position_embeddings=64, dropout=0.0, attention_dropout=0.0, **_IDS,
        )
    )  # fmt: skip


def _modernbert() -> Any:
    return hf.ModernBertForMaskedLM(
        hf.ModernBertConfig(
            vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=24, max_position_embeddings=64, local_attention=6,
            global_attn_every_n_layers=2, cls_token_id=BOS, sep_token_id=EOS, **_IDS,
        )
    )  # fmt: skip


def _gpt2(cross: bool = False) -> Any:
    return hf.GPT2LMHeadModel(
        hf.GPT2Config(
            vocab_size=VOCABULARY, n_positions=64, n_embd=16, n_layer=2, n_head=2, n_inner=24,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
            add_cross_attention=cross, is_decoder=cross, **_IDS,
        )
    )  # fmt: skip


def _llama() -> Any:
    return hf.LlamaForCausalLM(hf.LlamaConfig(**LLAMA))


def _qwen2() -> Any:
    return hf.Qwen2ForCausalLM(
        hf.Qwen2Config(**LLAMA, use_sliding_window=True, sliding_window=5, max_window_layers=1)
    )


def _bart() -> Any:
    return hf.BartForConditionalGeneration(hf.BartConfig(**_BART))


def _marian() -> Any:
    return hf.MarianMTModel(hf.MarianConfig(**_BART))


def _t5() -> Any:
    return hf.T5ForConditionalGeneration(
        hf.T5Config(
            vocab_size=VOCABULARY, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2,
            dropout_rate=0.0, relative_attention_num_buckets=8, relative_attention_max_distance=12,
            decoder_start_token_id=BOS, **_IDS,
        )
    )  # fmt: skip


def _whisper() -> Any:
    return hf.WhisperForConditionalGeneration(
        hf.WhisperConfig(
            vocab_size=VOCABULARY, num_mel_bins=8, d_model=16, encoder_layers=2, decoder_layers=2,
            encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=24,
            decoder_ffn_dim=24, max_source_positions=12, max_target_positions=32, dropout=0.0,
            attention_dropout=0.0, activation_dropout=0.0, decoder_start_token_id=BOS,
            suppress_tokens=None, begin_suppress_tokens=None, **_IDS,
        )
    )  # fmt: skip


def _encoder_decoder() -> Any:
    made = hf.EncoderDecoderModel(
        encoder=hf.BertModel(hf.BertConfig(**_BERT), add_pooling_layer=False),
        decoder=_gpt2(cross=True),
    )
    made.config.pad_token_id = made.generation_config.pad_token_id = PAD
    made.config.decoder_start_token_id = made.generation_config.decoder_start_token_id = BOS
    return made


@dataclass(frozen=True)
class Kind:
    """An architecture, the roles it has, and what its forward pass is fed."""

    make: Callable[[], Any]
    roles: tuple[str, ...]


_BOTH = ("encoder", "decoder", "cross")
KINDS: dict[str, Kind] = {
    "bert": Kind(_bert, ("encoder",)),
    "roberta": Kind(_roberta, ("encoder",)),
    "distilbert": Kind(_distilbert, ("encoder",)),
    "modernbert": Kind(_modernbert, ("encoder",)),
    "gpt2": Kind(_gpt2, ("decoder",)),
    "llama": Kind(_llama, ("decoder",)),
    "qwen2": Kind(_qwen2, ("decoder",)),
    "bart": Kind(_bart, _BOTH),
    "marian": Kind(_marian, _BOTH),
    "t5": Kind(_t5, _BOTH),
    "whisper": Kind(_whisper, _BOTH),
    "encoder-decoder": Kind(_encoder_decoder, _BOTH),
}
SEATS = [(kind, role) for kind, known in KINDS.items() for role in known.roles]


def make(kind: str, *, implementation: str = "sdpa") -> Any:
    """A new model with the weights of seed 0, large enough that attention is not uniform."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = KINDS[kind].make()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.ndim > 1 and "embed" not in name and "wte" not in name:
                    parameter.normal_(0, 0.3)
    if implementation != "sdpa":
        model.set_attn_implementation(implementation)
    return model.eval()


def inputs(kind: str, batch: int = 2, source: int = 9, target: int = 7) -> dict[str, Tensor]:
    """A batch without padding; ``source`` tokens for an encoder, ``target`` for a decoder."""
    generator = torch.Generator().manual_seed(1)

    def ids(length: int) -> Tensor:
        return torch.randint(3, VOCABULARY, (batch, length), generator=generator)

    if kind == "whisper":
        # two mel frames become one frame of the encoder
        features = torch.randn(batch, 8, 24, generator=generator)
        return {"input_features": features, "decoder_input_ids": ids(target)}
    if "cross" in KINDS[kind].roles:
        return {"input_ids": ids(source), "decoder_input_ids": ids(target)}
    return {"input_ids": ids(source)}
