"""The scores of a guided run: the store that it trains with, and what is kept for its replay.

For a learned policy, also the network that weighs tokens by them.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import TrainerCallback

from maskwright.corruption import RollingWindow
from maskwright.errors import CacheError, ResultsError
from maskwright.guidance import ScoreStore
from maskwright.guidance.learned import NAME, FrozenPolicy, LearnedPolicy, PolicySettings
from maskwright.guidance.reader import ScoreReader
from maskwright.hf import Guidance, LearnedMasking
from maskwright.lab.policy import Guided, Policy
from maskwright.lab.policy_sections import LearnedWeights
from maskwright.placing import placing
from maskwright.ragged import Ragged, offsets_of
from maskwright.vocabulary import Vocabulary

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
        learning: the one that learns to weigh tokens; None unless the policy is learned.
    """

    settings: Guided
    folder: Path
    store: ScoreStore
    ids: np.ndarray
    guidance: Guidance
    learning: LearnedMasking | None = None

    @classmethod
    def open(
        cls,
        policy: Policy,
        folder: Path,
        table: Any,
        ids: np.ndarray,
        vocabulary: Vocabulary,
        seed: int,
    ) -> GuidedTraining:
        """With the store that is there, or a new one.

        Args:
            policy: a guided one.
            table: the `TokenTable` of the training split.
            seed: of the choice of queries, and of a network's first weights.
        """
        settings = policy.guided
        assert settings is not None
        own = np.zeros_like(table.lengths)
        own[ids] = table.lengths[ids]
        path = folder / _STORE
        folder.mkdir(parents=True, exist_ok=True)
        if path.exists():
            store = ScoreStore.open(path, lengths=own)
        else:
            refresh = policy.masking().refresh
            store = ScoreStore.create(
                path, own, decay=settings.decay, window=settings.window,
                update_window=refresh.width if isinstance(refresh, RollingWindow) else None,
            )  # fmt: skip
        assert settings.source is not None
        guidance = Guidance(
            store,
            settings.source,
            layers=settings.layers,
            queries=settings.queries,
            seed=seed,
        )
        learning = None
        if policy.learned is not None:
            learning = learning_of(policy.learned, store, table, vocabulary, seed)
        return cls(settings, folder, store, np.asarray(ids), guidance, learning)

    @property
    def reader(self) -> ScoreReader:
        """What masks go by: the scores, or the weights that are learned from them."""
        return self.store if self.learning is None else self.learning.reader

    @property
    def callbacks(self) -> list[TrainerCallback]:
        keep = [KeepScores(self)] if self.settings.keep else []
        return [*keep, *([] if self.learning is None else [self.learning]), self.guidance]

    def finish(self, folder: Path) -> None:
        """Puts the last state of the store, and what was kept, into ``folder``."""
        target = folder / SCORES
        target.mkdir()
        self.store.snapshot(target)
        for path in sorted(self.folder.glob("epoch-*.npz")):
            shutil.copyfile(path, target / path.name)
        if self.learning is not None:
            self.learning.reader.policy.save(folder)
            for path in sorted(self.folder.glob(f"epoch-*/{NAME}")):
                (target / path.parent.name).mkdir()
                shutil.copyfile(path, target / path.parent.name / NAME)
        self.close()

    def close(self) -> None:
        self.guidance.detach()
        self.store.close()


def learning_of(
    settings: LearnedWeights, store: ScoreStore, table: Any, vocabulary: Vocabulary, seed: int
) -> LearnedMasking:
    """A network that reads tokens of ``table`` and their losses in ``store``, and its training."""
    form = PolicySettings(vocabulary.size, score="loss", bound=settings.bound, seed=seed)
    return LearnedMasking(
        FrozenPolicy(LearnedPolicy(form), table, scores=store),
        settings.reward,
        store=store,
        every=settings.every,
        share=settings.share,
        seed=seed,
        learning_rate=settings.learning_rate,
        entropy=settings.entropy,
        pull=settings.pull,
    )


class KeepScores(TrainerCallback):
    """Writes the scores that each epoch begins with, and the network that weighs by them.

    A sample is visited once an epoch, so its mask went by the scores of the epoch's beginning; and
    a network draws by what it had learned when the epoch began.
    """

    def __init__(self, run: GuidedTraining) -> None:
        self.run = run

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        epoch = int((state.epoch or 0.0) + 1e-6)
        kept = epoch_policy(self.run.folder, epoch)
        if self.run.learning is not None and not kept.exists():
            self.run.learning.reader.policy.save(kept.parent)
        path = epoch_file(self.run.folder, epoch)
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


def kept_reader(run: Path, epoch: int, policy: Policy, table: Any) -> ScoreReader:
    """What the masks of an epoch of a finished run went by: its scores, or learned weights.

    Args:
        table: the `TokenTable` that it was trained on.

    Raises:
        ResultsError: as `kept_scores`.
    """
    scores = kept_scores(run, epoch)
    if policy.learned is None:
        return scores
    path = epoch_policy(run / SCORES, epoch)
    try:
        return FrozenPolicy(LearnedPolicy.load(path.parent), table, scores=scores)
    except CacheError as error:
        raise ResultsError(
            f"{run} drew its masks by learned weights, and those of epoch {epoch} cannot be read: "
            f"its masks cannot be made again. {error}"
        ) from None


def epoch_file(folder: Path, epoch: int) -> Path:
    return folder / f"epoch-{epoch:04d}.npz"


def epoch_policy(folder: Path, epoch: int) -> Path:
    return folder / f"epoch-{epoch:04d}" / NAME
