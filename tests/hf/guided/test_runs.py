"""Guided runs from end to end: masks follow the scores, and come back the same."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import pytest
from transformers import TrainerCallback

from maskwright import Clock, Ragged, TokenBatch
from maskwright.errors import CacheError, ConfigError
from maskwright.guidance import ScoreStore
from tests.hf import tiny
from tests.hf.guided import runs
from tests.hf.guided.runs import LENGTHS, ROWS, Broken, prepare, train

kinds = pytest.mark.parametrize("kind", runs.TRAINERS)
SOURCES = {"attention": "attention-guided", "loss": "loss-guided"}
EPOCHS = 3


class Remember(TrainerCallback):
    """The scores that the samples of each epoch have."""

    def __init__(self, store: ScoreStore) -> None:
        self.store = store
        self.epochs: list[Ragged] = []

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        self.epochs.append(self.store.read(np.arange(len(self.store))))


def planned(collator, sample, epoch, scores) -> tuple[bool, ...]:
    """Which tokens of a sample the policy selects, by itself."""
    tokens = Ragged.from_lists([ROWS[sample]["input_ids"]])
    batch = TokenBatch(tokens, np.array([sample]), scores=scores)
    plan = collator.masking.plan(batch, Clock(collator.seed, epoch))
    return tuple((plan.labels().values != -100).tolist())


def by_sample(run, epoch) -> dict[int, tuple[bool, ...]]:
    number = {tuple(row["input_ids"]): i for i, row in enumerate(ROWS)}
    rows = run.selected()[epoch * len(ROWS) : (epoch + 1) * len(ROWS)]
    found = {number[tokens]: chosen for tokens, chosen in rows}
    assert len(found) == len(ROWS)
    return found


@kinds
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_masks_are_those_of_the_scores_at_the_begin_of_the_epoch(kind, source, workers, tmp_path):
    changes = {"dataloader_num_workers": workers, "dataloader_persistent_workers": workers > 0}
    run = prepare(tmp_path, kind, policy=SOURCES[source], guidance={"source": source}, **changes)
    scores = Remember(run.store)
    run.trainer.add_callback(scores)
    run.trainer.train()
    collator = run.trainer.data_collator
    for epoch in range(EPOCHS):
        others = 0
        for sample, chosen in by_sample(run, epoch).items():
            assert chosen == planned(collator, sample, epoch, scores.epochs[epoch].take([sample]))
            others += chosen != planned(collator, sample, epoch, None)
        # chance in the first epoch, and not in those after it
        assert others == 0 if epoch == 0 else others > len(ROWS) // 4


@kinds
def test_the_same_seed_gives_the_same_losses_masks_and_scores(kind, tmp_path):
    one, two = train(tmp_path / "one", kind), train(tmp_path / "two", kind)
    assert one.losses == two.losses
    assert one.seen == two.seen
    np.testing.assert_array_equal(one.scores, two.scores)


@kinds
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(
    "saved, killed", [(8, 10), (6, 9), pytest.param(12, 14, marks=pytest.mark.slow)], ids=str
)
def test_a_killed_run_goes_on_as_if_it_had_not_been(kind, source, saved, killed, tmp_path):
    settings = {
        "policy": SOURCES[source], "guidance": {"source": source},
        "save_strategy": "steps", "save_steps": saved,
    }  # fmt: skip
    whole = train(tmp_path / "whole", kind, **settings)
    with pytest.raises(Broken):
        train(tmp_path / "killed", kind, kill=killed, **settings)
    # the store has gone on since the checkpoint: it is the checkpoint's that counts
    checkpoint = tmp_path / "killed" / "run" / f"checkpoint-{saved}"
    resumed = train(tmp_path / "killed", kind, resume=str(checkpoint), **settings)
    assert resumed.losses == whole.losses
    assert resumed.seen == whole.seen[saved * 4 :]
    np.testing.assert_array_equal(resumed.scores, whole.scores)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A run with a checkpoint in the midst of its second epoch."""
    path = tmp_path_factory.mktemp("saved")
    run = train(path, "plain", save_strategy="steps", save_steps=8)
    return path, run


def resume(path, tmp_path, **others):
    return train(tmp_path / "other", "plain", resume=str(path), **others)


def test_a_run_resumes_elsewhere_with_an_empty_store(saved, tmp_path):
    path, whole = saved
    resumed = resume(path / "run" / "checkpoint-8", tmp_path)
    assert resumed.seen == whole.seen[8 * 4 :]
    np.testing.assert_array_equal(resumed.scores, whole.scores)


def test_a_checkpoint_that_was_moved_is_asked_for(saved, tmp_path):
    path, whole = saved
    moved = tmp_path / "moved"
    shutil.copytree(path / "run" / "checkpoint-8", moved)
    (path / "run" / "checkpoint-8").rename(path / "run" / "hidden")
    try:
        with pytest.raises(ConfigError, match=r"Guidance\(…, checkpoint=folder\)"):
            resume(moved, tmp_path)
        resumed = resume(moved, tmp_path, guidance={"checkpoint": moved})
    finally:
        (path / "run" / "hidden").rename(path / "run" / "checkpoint-8")
    assert resumed.seen == whole.seen[8 * 4 :]


def test_the_checkpoint_of_another_run_is_not_taken_for_it(saved, tmp_path):
    path, _ = saved
    other = train(tmp_path / "another", "plain", save_strategy="steps", save_steps=8)
    assert other.store.visits(np.array([0])) == 3
    mixed = tmp_path / "mixed"
    shutil.copytree(path / "run" / "checkpoint-8", mixed)
    for name in ("guidance.maskwright", "scores.maskwright"):
        shutil.copy(tmp_path / "another" / "run" / "checkpoint-8" / name, mixed / name)
    state = mixed / "trainer_state.json"
    state.write_text(state.read_text().replace(str(path), str(tmp_path / "nowhere")))
    with pytest.raises(ConfigError, match="is not in"):
        resume(mixed, tmp_path, guidance={"checkpoint": mixed})


def test_a_damaged_checkpoint_is_named(saved, tmp_path):
    path, _ = saved
    damaged = tmp_path / "damaged"
    shutil.copytree(path / "run" / "checkpoint-8", damaged)
    file = damaged / "scores.maskwright"
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    with pytest.raises(CacheError, match=r"damaged/scores\.maskwright"):
        resume(damaged, tmp_path, guidance={"checkpoint": damaged})


def test_a_checkpoint_without_guidance_is_refused(tmp_path):
    run = prepare(tmp_path / "one", "ours", policy="roberta", save_strategy="steps", save_steps=8)
    run.trainer.remove_callback(run.guidance)
    run.guidance.detach()
    run.trainer.train()
    checkpoint = str(tmp_path / "one" / "run" / "checkpoint-8")
    with pytest.raises(ConfigError, match="without Guidance"):
        train(tmp_path / "two", "ours", resume=checkpoint)


@kinds
def test_looking_changes_nothing(kind, tmp_path):
    """The losses of a policy that goes by no scores are those without the callback, bit for bit."""
    guided = train(tmp_path / "with", kind, policy="roberta")
    alone = prepare(
        tmp_path / "without", kind, policy="roberta", collator={"carry": kind == "plain"}
    )
    if kind == "plain":
        # the callback tells the epoch and takes the ids out; it does no more before training
        alone.guidance.on_train_begin = lambda *_, train_dataloader, **__: None
        clock = alone.trainer.data_collator.set_clock
        alone.guidance.on_epoch_begin = lambda args, state, control, **_: clock(
            int((state.epoch or 0) + 1e-6)
        )
        alone.guidance.measures = dict
    else:
        alone.trainer.remove_callback(alone.guidance)
        alone.guidance.detach()
    alone.trainer.train()
    assert guided.losses == alone.losses
    assert not np.isnan(guided.scores).any()
    assert np.isnan(alone.scores).all()


@kinds
def test_one_callback_is_enough_for_several_trainings(kind, tmp_path):
    """After training the model takes batches with ids still; the next training begins anew."""
    run = train(tmp_path, kind, policy="roberta")
    assert run.guidance._probe is None
    if kind == "plain":
        run.trainer.evaluate(run.trainer.train_dataset)
    with pytest.raises(ConfigError, match="scores of another run"):
        run.trainer.train()
    run.guidance.detach()
    model = run.trainer.model
    assert not model._forward_pre_hooks
    assert not model._forward_hooks
    assert not any(module._forward_pre_hooks for module in model.modules())


@kinds
@pytest.mark.parametrize("source", ["attention", "loss", "entropy", "margin"])
@pytest.mark.parametrize("accumulation", [1, 3])
def test_each_source_scores_what_it_can(kind, source, accumulation, tmp_path):
    run = train(
        tmp_path, kind, epochs=1, policy="roberta",
        guidance={"source": source}, gradient_accumulation_steps=accumulation,
    )  # fmt: skip
    scored = ~np.isnan(run.scores)
    assert (run.store.visits(np.arange(len(ROWS))) == 1).all()
    if source == "attention":
        assert scored.all()
        sums = [row.sum() * 1 for row in run.store.read(np.arange(len(ROWS)))]
        np.testing.assert_allclose(sums, 1, rtol=5e-3)  # each query attends once
        return
    chosen = by_sample(run, 0)
    expected = np.concatenate([chosen[i] for i in range(len(ROWS))])
    np.testing.assert_array_equal(scored, expected)


@kinds
def test_losses_are_those_of_the_step(kind, tmp_path):
    """The mean of the token losses of a step is the loss that is logged."""
    run = train(
        tmp_path, kind, epochs=1, policy="roberta", guidance={"source": "loss"}, max_steps=1
    )
    known = run.scores[~np.isnan(run.scores)]
    assert np.mean(known) == pytest.approx(run.losses[0], rel=1e-3)  # half precision


def test_visible_only_leaves_out_what_was_masked(tmp_path):
    run = train(tmp_path, "ours", epochs=1, policy="roberta", guidance={"visible_only": True})
    chosen = by_sample(run, 0)
    expected = np.concatenate([chosen[i] for i in range(len(ROWS))])
    np.testing.assert_array_equal(np.isnan(run.scores), expected)


@kinds
def test_logs_say_how_guidance_goes(kind, tmp_path):
    run = train(tmp_path, kind, guidance={"spike": 3.0})
    logs = [entry for entry in run.trainer.state.log_history if "loss" in entry]
    assert logs[0]["guidance/scored"] == 0
    assert "guidance/age" not in logs[0]
    assert logs[-1]["guidance/scored"] == 1
    assert logs[-1]["guidance/age"] > 0
    assert all(0 <= entry["guidance/entropy"] <= np.log(100) for entry in logs)
    assert {entry["guidance/by_chance"] for entry in logs} == {0.0}


def test_evaluation_in_our_trainer_goes_by_no_scores(tmp_path):
    # other samples under the same numbers, and of other lengths
    run = train(tmp_path, "ours", eval_strategy="epoch", evaluated=tiny.samples(7)[::-1])
    evaluated = [e["eval_loss"] for e in run.trainer.state.log_history if "eval_loss" in e]
    assert len(evaluated) == EPOCHS
    assert (run.store.visits(np.arange(len(LENGTHS))) == EPOCHS).all()


def test_recipes_without_a_store_in_the_collator_are_refused(tmp_path):
    run = prepare(tmp_path, guided=False)
    with pytest.raises(ConfigError, match=r"scores=store"):
        run.trainer.train()
