"""One, two and four ranks with the same global batches: one store, one policy, the same masks.

Ranks of a run are the same bit for bit. Runs of other numbers of ranks add up gradients in another
order, so their weights differ by rounding, and with them losses and attention, by some 1e-7. Stores
are in half precision, where one score in thousands then rounds the other way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskwright import Masking, Ragged, recipe
from maskwright.corruption import Weighted
from maskwright.guidance import ScoreStore
from maskwright.guidance.learned import FrozenPolicy, LearnedPolicy, PolicySettings
from maskwright.hf import Guidance, LearnedMasking, MaskingCollator
from tests.core import tokenizers
from tests.hf import tiny
from tests.hf.forked import on_ranks
from tests.hf.seen import RecordingTrainer

STEP = 12  # samples of a step over all ranks and micro-batches
STEPS = 11  # four an epoch, two samples are left out of each
SAVED = 6  # in the midst of the second epoch
ROWS = tiny.samples(50)
TOKENS = Ragged.from_lists([row["input_ids"] for row in ROWS])
PLAIN = Weighted()
slow = pytest.mark.slow


@dataclass(frozen=True)
class Seen:
    """Of one rank: its batches, its store in half precision as bits, what its policy learned."""

    batches: list[Any]
    store: np.ndarray
    logits: np.ndarray
    policy: dict[str, float]


@dataclass(frozen=True)
class Setting:
    """How a run is guided, and how its steps are shared out."""

    kind: str = "attention"
    world: int = 1
    micro: int = 1  # batches of a step on one rank
    select: Weighted = PLAIN

    def train(self, folder: Path, checkpoint: str | None = None) -> list[Seen]:
        """What each rank saw."""
        return on_ranks(self.world, lambda rank: self._rank(folder, rank, checkpoint))

    def _rank(self, folder: Path, rank: int, checkpoint: str | None) -> Seen:
        path = folder / f"store-{rank}-of-{self.world}"
        store = ScoreStore.create(path, TOKENS.lengths, decay=0.5)
        policy = LearnedPolicy(PolicySettings(100, width=8, hidden=8, score="loss"))
        if self.kind == "learned":
            reader: Any = FrozenPolicy(policy, TOKENS, scores=store)
            masking = Masking(select=self.select, rate=0.3, exact=True, at_least=1)
            callbacks = [
                Guidance(store, "loss"),
                LearnedMasking(reader, store=store, every=1, share=0.9, learning_rate=0.03),
            ]
        else:
            reader, masking = store, recipe(f"{self.kind}-guided")
            callbacks = [Guidance(store, self.kind)]
        several = {"ddp_backend": "gloo", "ddp_find_unused_parameters": False}
        trainer = RecordingTrainer(
            tiny.model(),
            tiny.arguments(
                folder / "run",
                per_device_train_batch_size=STEP // self.world // self.micro,
                gradient_accumulation_steps=self.micro,
                dataloader_drop_last=True,
                max_steps=STEPS,
                save_strategy="steps",
                save_steps=SAVED,
                **(several if self.world > 1 else {}),
            ),
            MaskingCollator(tokenizers.words(), masking, seed=5, scores=reader),
            train_dataset=ROWS,
            callbacks=callbacks,
        )
        trainer.train(resume_from_checkpoint=checkpoint)
        values = store.read(np.arange(len(store))).values.astype(np.float16)
        return Seen(
            trainer.batches, values, policy.logits(TOKENS).values, {"version": policy.version}
        )


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Callable[[Setting], tuple[Path, list[Seen]]]:
    """The folder of a run and what came of it, made once."""
    made: dict[Setting, tuple[Path, list[Seen]]] = {}

    def of(setting: Setting) -> tuple[Path, list[Seen]]:
        if setting not in made:
            folder = tmp_path_factory.mktemp("run")
            made[setting] = folder, setting.train(folder)
        return made[setting]

    return of


def masks(ranks: list[Seen]) -> dict[tuple[int, int, int], Any]:
    """What was made of each sample at each clock (seed, epoch, step), whoever had it."""
    return {
        (sample, *clock[:2]): view
        for seen in ranks
        for ids, clock, views, _ in seen.batches
        for sample, view in zip(ids, views, strict=True)
    }


def require_alike(several: list[Seen], one: Seen, some: float = 0.01) -> None:
    """The same on all ranks; that of one, but for scores at the edge of a rounding."""
    for seen in several[1:]:
        np.testing.assert_array_equal(seen.store.view(np.uint16), several[0].store.view(np.uint16))
        np.testing.assert_array_equal(seen.logits, several[0].logits)
    found, expected = several[0].store, one.store
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    np.testing.assert_allclose(found, expected, rtol=2e-3)
    assert (~np.isnan(expected)).mean() > 0.25
    assert np.mean((found != expected) & ~np.isnan(found)) < some
    np.testing.assert_allclose(several[0].logits, one.logits, atol=1e-4)
    assert several[0].policy == one.policy


@pytest.mark.parametrize(
    "setting",
    [
        pytest.param(Setting("attention", 2), marks=slow),
        pytest.param(Setting("attention", 4), marks=slow),
        pytest.param(Setting("loss", 4), marks=slow),
        pytest.param(Setting("loss", 2, micro=2), marks=slow),
        Setting("learned", 4),
        Setting("learned", 2, micro=3),
        pytest.param(Setting("learned", 2, select=Weighted(0.5, "low")), marks=slow),
    ],
    ids=lambda one: f"{one.kind} {one.world}x{one.micro}{one.select.end[:1]}",
)
def test_several_ranks_are_as_one(setting, trained):
    _, several = trained(setting)
    _, (one,) = trained(Setting(setting.kind, select=setting.select))
    assert len(several) == setting.world
    assert len(masks([one])) == STEPS * STEP
    assert masks(several) == masks([one])
    require_alike(several, one)
    assert (np.ptp(one.logits) > 0.1) == (setting.kind == "learned")


@pytest.mark.parametrize("before, after", [(4, 1), pytest.param(1, 2, marks=slow)])
def test_a_policy_goes_on_with_another_number_of_ranks(before, after, trained, tmp_path):
    folder, _ = trained(Setting("learned", before))
    _, (one,) = trained(Setting("learned"))
    checkpoint = folder / "run" / f"checkpoint-{SAVED}"
    resumed = Setting("learned", after).train(tmp_path, str(checkpoint))
    late = {key: view for key, view in masks([one]).items() if key in masks(resumed)}
    assert len(late) == (STEPS - SAVED) * STEP
    assert masks(resumed) == late
    require_alike(resumed, one)


def test_a_rank_that_fails_is_heard():
    with pytest.raises(AssertionError, match="no such rank"):
        on_ranks(1, _fail)


def _fail(rank: int) -> None:
    raise ValueError("no such rank")
