"""A policy that learns beside a model: what it learns, and that runs come back the same."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from transformers import Trainer, TrainerCallback

from maskwright import Masking, Ragged
from maskwright.corruption import Weighted
from maskwright.errors import BatchError, CacheError, ConfigError
from maskwright.guidance import ScoreStore
from maskwright.guidance.learned import FrozenPolicy, LearnedPolicy, PolicySettings
from maskwright.hf import Guidance, MaskingCollator, with_sample_ids
from maskwright.hf.guided.learnable import check_learnable
from maskwright.hf.guided.learned import NAME, LearnedMasking
from tests.core import tokenizers
from tests.hf import tiny
from tests.hf.seen import RecordingTrainer

ROWS = tiny.samples(24)
TOKENS = Ragged.from_lists([row["input_ids"] for row in ROWS])
POLICY = Masking(select=Weighted(), rate=0.3, exact=True, at_least=1)


class Broken(Exception):
    """The run was killed."""


class Kill(TrainerCallback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.step:
            raise Broken


@dataclass
class Run:
    trainer: RecordingTrainer
    policy: LearnedPolicy

    @property
    def seen(self) -> list[Any]:
        return [(ids, clock, views) for ids, clock, views, _ in self.trainer.batches]

    @property
    def losses(self) -> list[float]:
        return [loss for *_, loss in self.trainer.batches]

    @property
    def logits(self) -> np.ndarray:
        return self.policy.logits(TOKENS).values


def prepare(
    path: Path,
    *,
    reward: Any = "difficulty",
    rows: Any = None,
    tokens: Ragged = TOKENS,
    masking: Masking = POLICY,
    model: Any = None,
    kill: int | None = None,
    plain: bool = False,
    guided: bool = True,
    learned: dict[str, Any] | None = None,
    **changes: Any,
) -> Run:
    rows = ROWS if rows is None else rows
    file = path / "scores.store"
    store = (
        ScoreStore.open(file)
        if file.exists()
        else ScoreStore.create(file, np.array([len(row["input_ids"]) for row in rows]), decay=0)
    )
    policy = LearnedPolicy(PolicySettings(100, width=8, hidden=8, score="loss"))
    reader = FrozenPolicy(policy, tokens, scores=store)
    collator = MaskingCollator(tokenizers.words(), masking, seed=5, scores=reader, carry=True)
    settings = {"every": 1, "learning_rate": 0.03} | (learned or {})
    callbacks: list[Any] = [LearnedMasking(reader, reward, store=store, **settings)]
    if guided:
        callbacks.append(Guidance(store, "loss"))
    if kill is not None:
        callbacks.append(Kill(kill))
    trainer: Any = (Trainer if plain else RecordingTrainer)(
        tiny.model() if model is None else model,
        tiny.arguments(path / "run", **({"num_train_epochs": 3} | changes)),
        collator,
        train_dataset=with_sample_ids(rows),
        callbacks=callbacks,
    )
    return Run(trainer, policy)


def train(path: Path, resume: str | None = None, **others: Any) -> Run:
    run = prepare(path, **others)
    run.trainer.train(resume_from_checkpoint=resume)
    return run


# -- the same again -----------------------------------------------------------------------


def test_workers_and_a_second_run_change_nothing(tmp_path):
    one = train(tmp_path / "one")
    two = train(tmp_path / "two", dataloader_num_workers=2, dataloader_persistent_workers=True)
    assert one.seen == two.seen
    assert one.losses == two.losses
    np.testing.assert_array_equal(one.logits, two.logits)
    assert np.ptp(one.logits) > 0.1


def test_micro_batches_of_a_step_are_one_look(tmp_path):
    whole = train(tmp_path / "whole", per_device_train_batch_size=8)
    parts = train(tmp_path / "parts", per_device_train_batch_size=4, gradient_accumulation_steps=2)
    assert [view for *_, views in parts.seen for view in views] == [
        view for *_, views in whole.seen for view in views
    ]
    assert len(parts.seen) == 2 * len(whole.seen) == 18
    np.testing.assert_allclose(parts.logits, whole.logits, atol=1e-5)
    assert parts.policy.version == whole.policy.version
    assert np.ptp(whole.logits) > 0.1


def test_it_begins_with_chance_and_then_leaves_it(tmp_path):
    learns = train(tmp_path / "learns")
    still = train(tmp_path / "still", learned={"learning_rate": 0.0})
    steps = len(learns.seen) // 3
    assert learns.seen[:steps] == still.seen[:steps]
    assert learns.seen[steps : 2 * steps] != still.seen[steps : 2 * steps]
    assert learns.policy.version == 4  # two epochs' ends, the last, and the run's
    assert (still.logits == 0).all()


@pytest.mark.parametrize("saved, killed", [(8, 10), (6, 9)], ids=["mid-epoch", "epoch's end"])
def test_a_resumed_run_goes_on_bit_for_bit(saved, killed, tmp_path):
    # 6 steps an epoch; `share` and the two-step rhythm are part of what must go on
    settings = {"learned": {"every": 2, "share": 0.7}, "reward": "learning_progress"}
    saving = {"save_strategy": "steps", "save_steps": saved}
    whole = train(tmp_path / "whole", **settings, **saving)
    with pytest.raises(Broken):
        train(tmp_path / "broken", kill=killed, **settings, **saving)
    checkpoint = str(tmp_path / "broken" / "run" / f"checkpoint-{saved}")
    resumed = train(tmp_path / "broken", resume=checkpoint, **settings, **saving)
    assert resumed.seen == whole.seen[saved:]
    assert resumed.losses == whole.losses[saved:]
    np.testing.assert_array_equal(resumed.logits, whole.logits)
    assert resumed.policy.version == whole.policy.version
    assert np.ptp(whole.logits) > 0


def test_a_checkpoint_without_its_policy_or_damaged_is_refused(tmp_path):
    saving = {"save_strategy": "steps", "save_steps": 6, "num_train_epochs": 1}
    train(tmp_path, **saving)
    folder = tmp_path / "run" / "checkpoint-6"
    saving["num_train_epochs"] = 2
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)
    (folder / NAME).unlink()
    with pytest.raises(CacheError, match=f"{NAME} is missing"):  # it was sealed
        train(tmp_path, resume=str(folder), **saving)
    (folder / "manifest.json").unlink()  # as if by a trainer that seals nothing
    with pytest.raises(ConfigError, match="checkpoint=folder"):
        train(tmp_path, resume=str(folder), **saving)
    train(tmp_path, resume=str(folder), learned={"checkpoint": moved}, **saving)
    (folder / NAME).write_bytes(b"no policy")
    with pytest.raises(CacheError, match=NAME):
        train(tmp_path, resume=str(folder), **saving)


# -- what it learns -----------------------------------------------------------------------


def test_learning_progress_finds_what_can_be_learned(tmp_path):
    # a token of 5 … 9 says what stands before it, that of 50 … 99 is noise
    generator = np.random.default_rng(0)
    rows = []
    for _ in range(32):
        body = np.empty(16, int)
        body[::2] = np.arange(8) % 5 + 5
        body[1::2] = generator.integers(50, 100, 8)
        rows.append({"input_ids": [2, *body.tolist(), 3]})
    tokens = Ragged.from_lists([row["input_ids"] for row in rows])
    settings = {
        "reward": "learning_progress", "rows": rows, "tokens": tokens, "num_train_epochs": 16,
        "per_device_train_batch_size": 8, "learning_rate": 2e-3, "lr_scheduler_type": "constant",
        "learned": {"pull": 0.0},
    }  # fmt: skip

    def contrast(run: Run) -> float:
        found = run.policy.logits(tokens).values
        return float(
            found[(tokens.values >= 5) & (tokens.values < 10)].mean()
            - found[tokens.values >= 50].mean()
        )

    def share(run: Run) -> float:
        """Of what was masked in the last quarter, how much can be learned; half of all can."""
        late = run.seen[-len(run.seen) // 4 :]
        labels = np.array([label for *_, views in late for _, row in views for label in row])
        return float((labels[labels != -100] < 10).mean())

    learns = train(tmp_path / "learns", **settings)
    settings["learned"] = {"learning_rate": 0.0}
    control = train(tmp_path / "control", **settings)
    assert contrast(learns) > 0.2
    assert contrast(control) == 0
    assert abs(share(control) - 0.5) < 0.06  # of 614 draws: three standard errors
    assert share(learns) > 0.7


# -- refusals -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"masking": Masking(select=Weighted(chance=0.1), rate=0.3)}, "how likely a mask is"),
        ({"masking": Masking(select=Weighted(hints=0.1), rate=0.3)}, "how likely a mask is"),
        ({"masking": Masking(select=Weighted(temperature=0.0), rate=0.3)}, "above 0"),
        ({"plain": True}, "MaskingTrainer"),
        ({"guided": False, "reward": "learning_progress"}, "Nothing writes losses"),
    ],
    ids=["chance", "hints", "temperature", "plain", "no losses"],
)
def test_runs_that_cannot_learn_are_refused(changes, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        train(tmp_path, **changes)


def test_devices_and_ranks_that_cannot_learn_are_refused():
    reader = FrozenPolicy(LearnedPolicy(PolicySettings(100)), TOKENS)
    collator = MaskingCollator(tokenizers.words(), POLICY, scores=reader)
    arguments = {"n_gpu": 1, "world_size": 1, "dataloader_drop_last": False}
    assert check_learnable(SimpleNamespace(**arguments), collator, reader) == 1
    for changes, message in (({"n_gpu": 2}, "DataParallel"), ({"world_size": 2}, "drop_last")):
        with pytest.raises(ConfigError, match=message):
            check_learnable(SimpleNamespace(**(arguments | changes)), collator, reader)
    collator.masking = Masking(select=Weighted(temperature=0.5, end="low")).bind(
        collator.vocabulary
    )
    assert check_learnable(SimpleNamespace(**arguments), collator, reader) == -2


def test_tokens_of_another_data_set_are_refused(tmp_path):
    run = prepare(tmp_path)
    object.__setattr__(run.trainer.data_collator.scores, "samples", TOKENS.take(range(23, -1, -1)))
    with pytest.raises(BatchError, match="tokens"):
        run.trainer.train()


def test_settings(tmp_path):
    reader = FrozenPolicy(LearnedPolicy(PolicySettings(100)), TOKENS)
    for reward, settings, message in (
        ("progress", {}, "reward"),
        ("learning_progress", {}, "store"),
        ("difficulty", {"every": 0}, "every"),
        ("difficulty", {"share": 0.0}, "share"),
    ):
        with pytest.raises(ConfigError, match=message):
            LearnedMasking(reader, reward, **settings)


def test_what_is_logged(tmp_path):
    run = train(tmp_path, logging_strategy="steps", logging_steps=1, learned={"every": 4})
    logged = [entry for entry in run.trainer.state.log_history if "loss" in entry]
    assert [entry["policy/version"] for entry in logged] == [0.0] * 6 + [1.0] * 6 + [2.0] * 6
    assert all(0 < entry["policy/reward"] <= 5 for entry in logged)
    assert "policy/entropy" not in logged[0]
    assert logged[-1]["policy/entropy"] > 0
