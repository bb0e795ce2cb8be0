"""The model of a run: a new ModernBERT, or a pretrained encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from maskwright.errors import ModelError
from maskwright.lab.config import Model

# A damaged folder surfaces as whatever its reader meets first.
UNREADABLE = (OSError, ValueError, RuntimeError, KeyError, SafetensorError)


def build_model(config: Model, tokenizer: Any, *, seed: int, max_length: int) -> Any:
    """A masked language model with weights that depend on ``seed`` alone.

    Raises:
        ModelError: the width is not a multiple of the heads; or a pretrained model cannot be
            loaded, takes shorter samples, or has fewer ids than the tokenizer.
    """
    from transformers import ModernBertConfig, ModernBertForMaskedLM, set_seed

    set_seed(seed)
    if config.pretrained is not None:
        model = load_model(resolve(config.pretrained), new_head=True)
        check_fits(model, config.pretrained, tokenizer, max_length)
        return model
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


def load_model(place: str | Path, *, new_head: bool = False) -> Any:
    """A masked language model from a folder or the Hub.

    Args:
        new_head: take an encoder whose output head is missing, and give it a new one; otherwise
            a model with missing weights is refused.

    Raises:
        ModelError: nothing can be loaded from there, or weights are missing.
    """
    from transformers import AutoModelForMaskedLM

    try:
        model, found = AutoModelForMaskedLM.from_pretrained(place, output_loading_info=True)
    except UNREADABLE as error:
        raise ModelError(
            f"No masked language model can be loaded from {place}: {first_line(error)}"
        ) from None
    missing = sorted(found["missing_keys"])
    if missing and not new_head:
        raise ModelError(
            f"{place} is not a whole masked language model: {len(missing)} weights are missing "
            f"({', '.join(missing[:3])}), so its figures would be those of random ones. Train it "
            "first: maskwright train --set model.pretrained=…"
        )
    return model


def check_fits(model: Any, name: object, tokenizer: Any, max_length: int) -> None:
    """Refuses samples that a pretrained model cannot take.

    Raises:
        ModelError: samples are longer than its positions, or ids larger than its embedding.
    """
    limit = longest_sample(model)
    if limit is not None and max_length > limit:
        raise ModelError(
            f"Samples of data.max_length={max_length} tokens are longer than {name} takes "
            f"({limit}). Use data.max_length={limit} or less."
        )
    size = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > size:
        raise ModelError(
            f"The tokenizer has {len(tokenizer)} ids and {name} only {size}. Use the tokenizer "
            f"that it was trained with: data.tokenizer={name}"
        )


def longest_sample(model: Any) -> int | None:
    """How many tokens a model takes; ``None`` where it has no limit."""
    limit = getattr(model.config, "max_position_embeddings", None)
    embeddings = getattr(model.base_model, "embeddings", None)
    table = getattr(embeddings, "position_embeddings", None)
    offset = getattr(table, "padding_idx", None)
    # RoBERTa counts positions from behind its padding id: of 514 it has 512 to give
    return limit if limit is None or offset is None else limit - offset - 1


def first_line(error: BaseException) -> str:
    """What a library says, without the advice that follows."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def resolve(name: str) -> str:
    """A folder or Hub name as it is; ``package:NAME`` as the folder that was fetched for it."""
    if not name.startswith("package:"):
        return name
    from maskwright.data.packages import fetched

    return str(fetched(name.removeprefix("package:")))
