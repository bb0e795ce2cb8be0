"""The model of a run: a new ModernBERT, or a pretrained encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from maskwright.errors import ModelError
from maskwright.lab.config import Model


def build_model(config: Model, tokenizer: Any, *, seed: int, max_length: int) -> Any:
    """A masked language model with weights that depend on ``seed`` alone.

    Raises:
        ModelError: the width is not a multiple of the heads, or a pretrained model cannot be
            loaded or takes shorter samples.
    """
    from transformers import ModernBertConfig, ModernBertForMaskedLM, set_seed

    set_seed(seed)
    if config.pretrained is not None:
        return load_model(resolve(config.pretrained), max_length=max_length)
    if config.width % config.heads:
        raise ModelError(
            f"A model of width {config.width} cannot have {config.heads} heads: the width must be "
            "a multiple of model.heads."
        )
    rope = {"rope_type": "default", "rope_theta": config.rope_theta}
    settings: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "intermediate_size": config.intermediate,
        "max_position_embeddings": max_length,
        "global_attn_every_n_layers": 2,
        "local_attention": config.window,
        "rope_parameters": {"full_attention": rope, "sliding_attention": rope},
        "initializer_range": config.initializer_range,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.cls_token_id,
        "eos_token_id": tokenizer.sep_token_id,
        "cls_token_id": tokenizer.cls_token_id,
        "sep_token_id": tokenizer.sep_token_id,
    }
    return ModernBertForMaskedLM(ModernBertConfig(**settings))


def load_model(folder: str | Path, *, max_length: int | None = None) -> Any:
    """A masked language model from a folder or the Hub.

    Raises:
        ModelError: nothing can be loaded from there, or samples are longer than the model takes.
    """
    from transformers import AutoModelForMaskedLM

    try:
        model = AutoModelForMaskedLM.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"No masked language model can be loaded from {folder}: {str(error).splitlines()[0]}"
        ) from None
    limit = getattr(model.config, "max_position_embeddings", None)
    if max_length is not None and limit is not None and max_length > limit:
        raise ModelError(
            f"Samples of data.max_length={max_length} tokens are longer than {folder} takes "
            f"({limit}). Use data.max_length={limit} or less."
        )
    return model


def resolve(name: str) -> str:
    """A folder or Hub name as it is; ``package:NAME`` as the folder that was fetched for it."""
    if not name.startswith("package:"):
        return name
    from maskwright.data.packages import fetched

    return str(fetched(name.removeprefix("package:")))
