"""Where the settings of a translation experiment come from: as `maskwright.lab.settings` says."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from maskwright.lab.settings import gather
from maskwright.lab.translate.config import Translation, parse_translation
from maskwright.lab.translate.masks import cross_masks, decoder_masks

TO_TRAIN, TO_COMPARE = "tatoeba-small", "translate-quick"
PRESETS = (TO_TRAIN, TO_COMPARE)
_KINDS = ("marian", "lstm", "minilm")


def load_translation(
    first: str,
    *,
    file: Path | None = None,
    preset: str | None = None,
    model: str | None = None,
    decoder: Iterable[str] | None = None,
    cross: Iterable[str] | None = None,
    budget: dict[str, float | int | None] | None = None,
    changes: Iterable[str] = (),
    seeds: int | None = None,
) -> Translation:
    """The experiment that preset, file, options and changes describe together.

    Args:
        first: the preset that is taken without a file, one of `PRESETS`.
        model: ``marian``, ``lstm``, ``minilm``, or a folder or Hub name.
        decoder, cross: keep only these masks; known ones by their names.
        budget: ``minutes``, ``epochs`` or ``steps``; one that is given takes the place of the
            budget of the settings.
        others: as for `maskwright.lab.settings.load`.

    Raises:
        ConfigError: a name is unknown, the file cannot be read, or the schema is broken.
    """
    ordered = (first, *(name for name in PRESETS if name != first))
    changes = _one_budget(list(changes))
    settings = gather(ordered, file=file, preset=preset, changes=changes, seeds=seeds)
    given = {name: value for name, value in (budget or {}).items() if value is not None}
    if given:
        none = dict.fromkeys(("minutes", "epochs", "steps"))
        settings["training"] = {**settings.get("training", {}), **none, **given}
    if model is not None:
        chosen = {"kind": model, "pretrained": None} if model in _KINDS else {"pretrained": model}
        settings["model"] = {**settings.get("model", {}), **chosen}
    found = parse_translation(settings)
    masks: dict[str, Any] = {}
    if decoder is not None:
        masks["decoder_masks"] = decoder_masks(decoder, found.decoder_masks)
    if cross is not None:
        masks["cross_masks"] = cross_masks(cross, found.cross_masks)
    # checked anew: names of both kinds may meet
    return (
        parse_translation({**found.model_dump(mode="json"), **_dumped(masks)}) if masks else found
    )


def _dumped(masks: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {key: mask.model_dump(mode="json") for key, mask in several.items()}
        for name, several in masks.items()
    }


def _one_budget(changes: list[str]) -> list[str]:
    """``--set training.steps=…`` also takes the minutes of a preset away, and so on."""
    names = [f"training.{name}" for name in ("minutes", "epochs", "steps")]
    given = {change.partition("=")[0] for change in changes} & {*names}
    if len(given) != 1:
        return changes
    return [*(f"{name}=null" for name in names if name not in given), *changes]
