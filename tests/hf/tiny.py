"""Tiny models and data sets whose every id is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AlbertConfig,
    AlbertForMaskedLM,
    BertConfig,
    BertForMaskedLM,
    DistilBertConfig,
    DistilBertForMaskedLM,
    ElectraConfig,
    ElectraForMaskedLM,
    ModernBertConfig,
    ModernBertForMaskedLM,
    RobertaConfig,
    RobertaForMaskedLM,
    TrainingArguments,
)

VOCABULARY = 100
_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
_NO_DROPOUT: dict[str, Any] = {
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
MODELS = ("bert", "roberta", "distilbert", "modernbert", "albert", "electra")


def model(kind: str = "bert", *, dropout: bool = False) -> Any:
    """A new model with the weights of seed 0; without dropout unless asked."""
    off = {} if dropout else _NO_DROPOUT
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if kind == "bert":
            made = BertForMaskedLM(BertConfig(**_SIZES, **off))
        elif kind == "roberta":
            made = RobertaForMaskedLM(RobertaConfig(**_SIZES, **off))
        elif kind == "albert":
            made = AlbertForMaskedLM(AlbertConfig(**_SIZES, **off, embedding_size=16))
        elif kind == "electra":
            made = ElectraForMaskedLM(ElectraConfig(**_SIZES, **off, embedding_size=16))
        elif kind == "modernbert":
            made = ModernBertForMaskedLM(
                ModernBertConfig(
                    **_SIZES, cls_token_id=2, sep_token_id=3, bos_token_id=2, eos_token_id=3,
                    local_attention=8, global_attn_every_n_layers=2,
                )
            )  # fmt: skip
        else:
            off = {} if dropout else {"dropout": 0.0, "attention_dropout": 0.0}
            made = DistilBertForMaskedLM(
                DistilBertConfig(
                    vocab_size=VOCABULARY, dim=32, hidden_dim=48, n_layers=2, n_heads=2,
                    max_position_embeddings=64, pad_token_id=0, **off,
                )
            )  # fmt: skip
    return made


def samples(count: int = 24) -> list[dict[str, list[int]]]:
    """Rows of 6 to 20 tokens between [CLS] and [SEP], no two alike."""
    generator = torch.Generator().manual_seed(count)
    rows = []
    for number in range(count):
        length = 6 + (7 * number) % 15
        body = torch.randint(5, VOCABULARY, (length,), generator=generator).tolist()
        rows.append({"input_ids": [2, *body, 3]})
    return rows


def arguments(path: Path, **changes: Any) -> TrainingArguments:
    """On the CPU, silent, nothing saved, plain SGD-like settings; ``changes`` win."""
    settings: dict[str, Any] = {
        "output_dir": str(path),
        "use_cpu": True,
        "report_to": [],
        "disable_tqdm": True,
        "save_strategy": "no",
        "logging_strategy": "no",
        "per_device_train_batch_size": 4,
        "num_train_epochs": 2,
        "learning_rate": 1e-3,
        "seed": 1,
    }
    return TrainingArguments(**(settings | changes))
