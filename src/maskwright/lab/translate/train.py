"""Trains one translation model under one pair of masks; plain transformers loads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from maskwright.errors import ConfigError
from maskwright.lab.compare import Watcher, is_done
from maskwright.lab.files import read_json
from maskwright.lab.pool import Event
from maskwright.lab.run import RUN_FILE
from maskwright.lab.train import check_folder
from maskwright.lab.translate.budget import Budget
from maskwright.lab.translate.config import Translation, Variant
from maskwright.lab.translate.jobs import single_job
from maskwright.lab.translate.preparation import prepare_pairs
from maskwright.lab.translate.run import execute

CHECKPOINT_EVERY = 500


class TrainingWatcher(Watcher):
    """What the training of one model tells besides."""

    def watching(self, budget: Budget, trainer: Any) -> None:
        """Before training: what knows how much is spent, and what counts tokens."""


def train_translation(
    experiment: Translation,
    out: Path,
    *,
    decoder: str | None = None,
    cross: str | None = None,
    seed: int = 0,
    watcher: TrainingWatcher | None = None,
) -> dict[str, Any]:
    """Trains from the start, translates the test sentences, and writes the model to ``out``.

    An interrupted training goes on from its last checkpoint; a finished one is not repeated.

    Args:
        decoder, cross: names of the masks, of those in the experiment; its only one unless given.

    Raises:
        ConfigError: there are several masks and none is named, or ``out`` holds something else.
        SaveError: something cannot be written.
    """
    watcher = watcher or TrainingWatcher()
    variant = Variant(
        decoder=_one("decoder_masks", experiment.decoder_masks, decoder),
        cross=_one("cross_masks", experiment.cross_masks, cross),
    )
    check_folder(out)
    prepared = prepare_pairs(experiment, say=watcher.note)
    # it has the machine to itself
    threads = experiment.threads * experiment.workers
    every = experiment.training.checkpoint_every or CHECKPOINT_EVERY
    single = experiment.model_copy(
        update={
            "threads": threads,
            "workers": 1,
            "training": experiment.training.model_copy(update={"checkpoint_every": every}),
        }
    )
    job = single_job(single, prepared, variant, seed, out)
    if is_done(job):
        watcher.note(f"{out} is trained already; delete it to train again.")
        return read_json(out / RUN_FILE)
    torch.set_num_threads(threads)
    watcher.begin([job], set())

    def tell(step: int, loss: float | None) -> None:
        watcher.event(Event(job, step, loss))

    try:
        return execute(job, prepared, tell, watching=watcher.watching)
    finally:
        watcher.end()


def _one(setting: str, known: dict[str, Any], name: str | None) -> Any:
    if name is not None:
        return known[name]
    if len(known) != 1:
        raise ConfigError(
            f"{setting} has several ({', '.join(known)}), and one model is trained. Name one of "
            "them: --decoder-mask or --cross-mask."
        )
    return next(iter(known.values()))
