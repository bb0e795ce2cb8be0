"""What an encoder–decoder says of its own inputs: how its decoder starts, and how long they are."""

from __future__ import annotations

from typing import Any

from maskwright.errors import ConfigError

# Where configurations keep the number of positions of each side, the surest name first.
_SOURCE = ("max_encoder_position_embeddings", "max_position_embeddings")
_TARGET = (
    "max_decoder_position_embeddings",
    "max_target_positions",
    "max_position_embeddings",
)
# Their positions are counted from the one behind the padding id.
_COUNTED_FROM_PADDING = ("roberta", "xlm-roberta", "camembert")


def decoder_start_of(model: Any) -> int:
    """The id that the model's decoder reads first.

    Raises:
        ConfigError: the model does not say it.
    """
    for settings in (model.config, getattr(model, "generation_config", None)):
        start = getattr(settings, "decoder_start_token_id", None)
        if start is not None:
            return int(start)
    raise ConfigError(
        f"{type(model).__name__} does not say what its decoder reads first. Set "
        "model.config.decoder_start_token_id (the cls or bos token of the decoder), or give "
        "PairCollator(decoder_start_id=…)."
    )


def longest_of(model: Any) -> tuple[int | None, int | None]:
    """How many tokens the model's encoder and its decoder take; None: as many as one likes.

    An encoder of sounds or pictures counts no tokens, so its limit is None as well.
    """
    config = model.config
    encoder = getattr(config, "encoder", None) or config
    decoder = getattr(config, "decoder", None) or config
    heard = getattr(model, "main_input_name", "input_ids") != "input_ids"
    return None if heard else _positions(encoder, _SOURCE), _positions(decoder, _TARGET)


def _positions(config: Any, names: tuple[str, ...]) -> int | None:
    for name in names:
        positions = getattr(config, name, None)
        if isinstance(positions, int) and positions > 0:
            counted = getattr(config, "model_type", "") in _COUNTED_FROM_PADDING
            return positions - (config.pad_token_id + 1 if counted else 0)
    return None
