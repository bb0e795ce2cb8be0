"""The case of a user's own model: its shape and its tokenizer, from a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import (
    MODEL_FOR_MASKED_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
)

from maskwright.errors import ConfigError, DataError, ModelError
from maskwright.lab.bench.cases import RATE, Case, masked, pairs, prompted
from maskwright.lab.bench.texts import Language

LONGEST = 512  # where nothing else is asked for


def own_case(
    folder: Path, *, length: int | None = None, slots: int = 4096, rate: float = RATE
) -> Case:
    """A model of the shape that a folder's ``config.json`` gives, on real text in its tokenizer.

    Its weights are at random, which no time depends on, and it has no dropout, so that two ways of
    computing a step can be compared. Texts of an encoder–decoder have targets of half the length.

    Args:
        folder: of a language model of transformers with its tokenizer; weights are not read.
        length: of the padded batch; at most 512 and what the model can take unless given.
        slots: places of a batch.
        rate: share of the tokens that a masked model predicts.

    Raises:
        DataError: the folder has no configuration, or no tokenizer.
        ConfigError: the model does not take so many tokens.
        ModelError: it is no language model.
    """
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{folder} is not the folder of a model of transformers with its tokenizer: {reason} "
            "Write both there with save_pretrained."
        ) from None
    most = _most(config)
    if length is None:
        length = min(LONGEST, most or LONGEST)
    elif most is not None and length > most:
        raise ConfigError(f"--length {length}: {folder} takes at most {most} tokens.")
    _without_dropout(config)
    language = Language.of(tokenizer)
    kind = _auto_class(config)
    size = getattr(config, "vocab_size", None)
    if size is not None and len(tokenizer) > size:
        raise DataError(
            f"The tokenizer of {folder} has {len(tokenizer):,} ids, the model {size:,}: they do "
            "not belong together."
        )

    def make() -> Any:
        try:
            return kind.from_config(config)
        except ValueError as error:
            reason = str(error).splitlines()[0]
            raise ModelError(f"{folder} is no language model: {reason}") from None

    name = f"{folder.resolve().name} ({config.model_type}), S={length}"
    if kind is AutoModelForSeq2SeqLM:
        return pairs(f"{name} to {length // 2}", make, language, length, length // 2, slots)
    if kind is AutoModelForCausalLM:
        return prompted(f"{name}, prompts masked", make, language, length, slots)
    if tokenizer.mask_token is None:
        raise DataError(f"The tokenizer of {folder} has no mask token, which its model predicts.")
    return masked(name, make, language, length, slots, rate)


def _auto_class(config: Any) -> Any:
    if getattr(config, "is_encoder_decoder", False):
        return AutoModelForSeq2SeqLM
    causal = any(
        name.endswith(("ForCausalLM", "LMHeadModel")) for name in config.architectures or ()
    )
    return (
        AutoModelForMaskedLM
        if type(config) in MODEL_FOR_MASKED_LM_MAPPING and not causal
        else AutoModelForCausalLM
    )


def _most(config: Any) -> int | None:
    """Tokens that the model has positions for."""
    most = getattr(config, "max_position_embeddings", None)
    # RoBERTa and its like count positions from the one behind that of padding
    return None if most is None else most - 2


def _without_dropout(config: Any) -> None:
    for name, value in vars(config).items():
        if isinstance(value, float) and ("dropout" in name or "pdrop" in name):
            setattr(config, name, 0.0)
