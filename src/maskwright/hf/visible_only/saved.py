"""The decoder of visible-only encoding as files, beside those of the model that it was made for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from maskwright.errors import ModelError
from maskwright.placing import placing

FOLDER = "visible_only"
_WEIGHTS, _SETTINGS = "decoder.safetensors", "settings.json"


def write_decoder(folder: Path, settings: dict[str, Any], weights: dict[str, Tensor]) -> None:
    """Into the folder ``visible_only`` below ``folder``, each file whole or not at all."""
    place = folder / FOLDER
    place.mkdir(parents=True, exist_ok=True)
    with placing(place / _WEIGHTS) as temporary:
        save_file({name: value.contiguous() for name, value in weights.items()}, temporary)
    with placing(place / _SETTINGS) as temporary:
        temporary.write_text(json.dumps(settings) + "\n", "utf-8")


def has_decoder(folder: Path) -> bool:
    """Whether a decoder was saved beside the model in ``folder``."""
    return (folder / FOLDER / _SETTINGS).is_file()


def read_decoder(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Its settings and weights.

    Raises:
        ModelError: it is not there, or damaged.
    """
    if not has_decoder(folder):
        raise ModelError(
            f"{folder} holds no decoder of visible-only encoding (no {FOLDER}/{_SETTINGS}). Its "
            "model alone is loaded by AutoModelForMaskedLM.from_pretrained."
        )
    try:
        settings = json.loads((folder / FOLDER / _SETTINGS).read_text("utf-8"))
        return settings, load_file(folder / FOLDER / _WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(f"The decoder in {folder / FOLDER} cannot be read: {error}") from None
