"""The scores of a guided run: the store that it trains with, and what is kept for its replay."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import TrainerCallback

from maskwright.errors import ResultsError
from maskwright.guidance import ScoreStore
from maskwright.hf import Guidance
from maskwright.lab.policy import Guided
from maskwright.placing import placing
from maskwright.ragged import Ragged, offsets_of

SCORES = "scores"  # a folder: among the checkpoints while the run goes on, beside the model after
_STORE = "store.maskwright"


@dataclass(frozen=True, eq=False)
class GuidedTraining:
    """What a guided run has besides.

    Args:
        settings: of its policy.
        folder: where its scores are while it goes on.
        store: of the training table; samples that the run does not train on have no tokens in it.
        ids: ``(n,)`` sample ids of the run.
        guidance: the callback that writes the store.
    """

    settings: Guided
    folder: Path
    store: ScoreStore
    ids: np.ndarray
    guidance: Guidance

    @classmethod
    def open(
        cls, settings: Guided, folder: Path, lengths: np.ndarray, ids: np.ndarray, seed: int
    ) -> GuidedTraining:
        """With the store that is there, or a new one.

        Args:
            lengths: tokens of every sample of the table.
            seed: of the choice of queries.
        """
        own = np.zeros_like(lengths)
        own[ids] = lengths[ids]
        path = folder / _STORE
        folder.mkdir(parents=True, exist_ok=True)
        if path.exists():
            store = ScoreStore.open(path, lengths=own)
        else:
            store = ScoreStore.create(path, own, decay=settings.decay, window=settings.window)
        assert settings.source is not None
        guidance = Guidance(
            store,
            settings.source,
            layers=settings.layers,
            queries=settings.queries,
            seed=seed,
        )
        return cls(settings, folder, store, np.asarray(ids), guidance)

    @property
    def callbacks(self) -> list[TrainerCallback]:
        return [*([KeepScores(self)] if self.settings.keep else []), self.guidance]

    def finish(self, folder: Path) -> None:
        """Puts the last state of the store, and what was kept, into ``folder``."""
        target = folder / SCORES
        target.mkdir()
        self.store.snapshot(target)
        for path in sorted(self.folder.glob("epoch-*.npz")):
            shutil.copyfile(path, target / path.name)
        self.close()

    def close(self) -> None:
        self.guidance.detach()
        self.store.close()


class KeepScores(TrainerCallback):
    """Writes the scores that each epoch begins with.

    A sample is visited once an epoch, so its mask went by the scores of the epoch's beginning.
    """

    def __init__(self, run: GuidedTraining) -> None:
        self.run = run

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        path = epoch_file(self.run.folder, int((state.epoch or 0.0) + 1e-6))
        if path.exists():  # resumed within the epoch, whose first visits have changed the store
            return
        scores = self.run.store.read(self.run.ids)
        values = scores.values.astype(np.float16)
        exact = np.array_equal(values.astype(np.float32), scores.values, equal_nan=True)
        with placing(path) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                allow_pickle=False,
                ids=self.run.ids,
                lengths=scores.lengths,
                values=values if exact else scores.values,
            )


@dataclass(frozen=True, eq=False)
class KeptScores:
    """A `ScoreReader` of the scores that an epoch began with.

    Args:
        ids: ``(n,)`` sample ids.
        rows: their scores, float32.
    """

    ids: np.ndarray
    rows: Ragged

    def read(self, sample_ids: np.ndarray) -> Ragged:
        order = np.argsort(self.ids)
        return self.rows.take(order[np.searchsorted(self.ids, sample_ids, sorter=order)])


def kept_scores(run: Path, epoch: int) -> KeptScores:
    """The scores that an epoch of a finished run began with.

    Raises:
        ResultsError: they were not kept, or their file is damaged.
    """
    path = epoch_file(run / SCORES, epoch)
    if not path.is_file():
        raise ResultsError(
            f"{run} went by scores, and those that epoch {epoch} began with are not in {path.name}:"
            " its masks cannot be made again. They are kept unless guidance.keep is false."
        )
    try:
        with np.load(path, allow_pickle=False) as file:
            values = file["values"].astype(np.float32)
            return KeptScores(file["ids"], Ragged(values, offsets_of(file["lengths"])))
    except Exception as error:  # zip and numpy raise a dozen kinds for a damaged file
        raise ResultsError(f"{path} is damaged ({type(error).__name__}: {error}).") from None


def epoch_file(folder: Path, epoch: int) -> Path:
    return folder / f"epoch-{epoch:04d}.npz"
