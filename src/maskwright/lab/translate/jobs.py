"""Which runs a translation experiment consists of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from maskwright.lab.translate.config import Translation, Variant
from maskwright.lab.translate.masks import NONE
from maskwright.lab.translate.preparation import PreparedPairs
from maskwright.lab.translate.run import TranslationJob


def plan_translation(
    experiment: Translation, prepared: PreparedPairs, out: Path
) -> tuple[list[TranslationJob], list[TranslationJob]]:
    """The shared starts, one per seed (none without a warm-up), and the runs that are compared.

    All runs of a seed have its start, its order of samples and its draws of masks.
    """
    free = experiment.variants[NONE]
    starts = {}
    if experiment.warmup is not None:
        for seed in experiment.seeds:
            # it holds its rate: the fall to zero belongs to the end of training
            training = experiment.training.model_copy(
                update={"steps": experiment.warmup, "epochs": None, "minutes": None}
            ).model_dump(mode="json") | {"lr_scheduler": "constant"}
            starts[seed] = _job(
                experiment, prepared, f"warmup/seed-{seed}", out, seed, free, training, None
            )
    training = experiment.training.model_dump(mode="json")
    runs = [
        _job(
            experiment, prepared, f"runs/{name}/seed-{seed}", out, seed, variant, training,
            starts.get(seed),
        )
        for seed in experiment.seeds
        for name, variant in experiment.variants.items()
    ]  # fmt: skip
    return list(starts.values()), runs


def single_job(
    experiment: Translation, prepared: PreparedPairs, variant: Variant, seed: int, out: Path
) -> TranslationJob:
    """The one run of `maskwright train`, in ``out`` itself."""
    training = experiment.training.model_dump(mode="json")
    return _job(experiment, prepared, "", out, seed, variant, training, None)


def _job(
    experiment: Translation,
    prepared: PreparedPairs,
    name: str,
    out: Path,
    seed: int,
    variant: Variant,
    training: dict[str, Any],
    start: TranslationJob | None,
) -> TranslationJob:
    masks = variant.model_dump(mode="json")
    for one in masks.values():
        del one["description"]  # words about it change nothing
    spec = {
        "task": "translate",
        "data": {**prepared.identity, "max_length": prepared.max_length},
        "model": experiment.model.model_dump(mode="json"),
        "training": training,
        "masks": masks,
        "evaluation": experiment.evaluation.model_dump(mode="json"),
        "threads": experiment.threads,
        "seed": seed,
        "is_start": name.startswith("warmup/"),
        "start": None if start is None else start.spec,
    }
    if variant.decoder.aligned and prepared.aligned is not None:
        spec["alignments"] = prepared.aligned.alignments.fingerprint
    folder = out / name if name else out
    shown = name.removeprefix("runs/") or "translate"
    return TranslationJob(shown, folder, spec, None if start is None else start.folder)
