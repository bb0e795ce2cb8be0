"""Damaged checkpoints, full disks and dying workers: what a run says, and what stays of it."""

from __future__ import annotations

import errno
import logging
import os
import resource
import shutil
import signal

import pytest
import torch
from torch.utils.data import get_worker_info
from transformers import Trainer, TrainerCallback

from maskwright import order, recipe
from maskwright.errors import CacheError, ConfigError, SaveError, TrainingError
from maskwright.hf import (
    ClockCallback,
    MaskingCollator,
    MaskingTrainer,
    SealedCheckpoints,
    latest_checkpoint,
    with_sample_ids,
)
from maskwright.hf.recovery.checkpoints import checkpoints_in
from tests.core import tokenizers
from tests.hf import tiny

ROWS = tiny.samples(24)  # six steps of four samples in an epoch


def collator():
    return MaskingCollator(tokenizers.words(), recipe("roberta"), seed=5)


def arguments(path, **changes):
    saving = {"save_strategy": "steps", "save_steps": 2, "num_train_epochs": 1}
    logging = {"logging_strategy": "steps", "logging_steps": 3}
    return tiny.arguments(path, **(saving | logging | changes))


def trainer_of(path, *callbacks, rows=None, **changes):
    return MaskingTrainer(
        tiny.model(dropout=True), arguments(path, **changes), collator(),
        ROWS if rows is None else rows, callbacks=list(callbacks),
    )  # fmt: skip


def outcome(trainer):
    losses = [one["loss"] for one in trainer.state.log_history if "loss" in one]
    return losses, {name: one.clone() for name, one in trainer.model.state_dict().items()}


def require_same(found, expected):
    assert found[0] == expected[0]
    assert all(torch.equal(one, expected[1][name]) for name, one in found[1].items())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run to its end, which keeps all its checkpoints, and its folder."""
    folder = tmp_path_factory.mktemp("whole")
    trainer = trainer_of(folder)
    trainer.train()
    return outcome(trainer), folder


def names(folder):
    return [one.name for one in checkpoints_in(folder)]


# -- resume ------------------------------------------------------------------------------------


def test_a_damaged_checkpoint_is_passed_over(tmp_path, whole, caplog):
    shutil.copytree(whole[1], tmp_path / "run")
    os.truncate(tmp_path / "run/checkpoint-6/optimizer.pt", 1000)
    (tmp_path / "run/checkpoint-4/manifest.json").unlink()
    trainer = trainer_of(tmp_path / "run")
    with caplog.at_level(logging.WARNING):
        trainer.train(resume_from_checkpoint=True)
    said = [one.getMessage() for one in caplog.records if "passed over" in one.getMessage()]
    assert len(said) == 2
    assert "checkpoint-6 is passed over: optimizer.pt has 1,000 bytes where " in said[0]
    assert "checkpoint-4 is passed over: it has no manifest.json" in said[1]
    # the mean of the losses of steps 1, 2 and 3, though it resumed after step 2
    require_same(outcome(trainer), whole[0])
    assert names(tmp_path / "run") == ["checkpoint-2", "checkpoint-4", "checkpoint-6"]
    assert latest_checkpoint(tmp_path / "run").name == "checkpoint-6"  # written anew


def test_a_damaged_one_that_was_named_is_refused(tmp_path, whole):
    shutil.copytree(whole[1] / "checkpoint-4", tmp_path / "checkpoint-4")
    os.truncate(tmp_path / "checkpoint-4/model.safetensors", 5)
    with pytest.raises(CacheError, match=r"checkpoint-4 is damaged: model\.safetensors has 5"):
        trainer_of(tmp_path).train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    with pytest.raises(ConfigError, match="no whole checkpoint to resume from"):
        trainer_of(tmp_path).train(resume_from_checkpoint=True)


class Before(TrainerCallback):
    """Which checkpoint would be resumed from, had the process been killed while it saved."""

    def __init__(self):
        self.found = []

    def on_save(self, args, state, control, **_):
        found = latest_checkpoint(args.output_dir)
        self.found.append(found and found.name)


def test_the_last_whole_one_stays_until_the_next_is_sealed(tmp_path):
    before = Before()
    trainer = trainer_of(tmp_path, before, save_total_limit=1)
    trainer.train()
    assert before.found == [None, "checkpoint-2", "checkpoint-4"]
    assert names(tmp_path) == ["checkpoint-6"]
    assert trainer.args.save_total_limit == 1
    kept = torch.load(tmp_path / "checkpoint-6/training_args.bin", weights_only=False)
    assert kept.save_total_limit == 1


def plain(path, *callbacks, **changes):
    masks = collator()
    return Trainer(
        tiny.model(dropout=True), arguments(path, **changes), masks,
        with_sample_ids(ROWS), callbacks=[ClockCallback(masks), *callbacks],
    )  # fmt: skip


def test_any_trainer_by_a_callback(tmp_path):
    straight = plain(tmp_path / "a")
    straight.train()
    before = Before()
    plain(tmp_path / "b", before, SealedCheckpoints(keep=2)).train()
    assert before.found == [None, "checkpoint-2", "checkpoint-4"]
    assert names(tmp_path / "b") == ["checkpoint-4", "checkpoint-6"]
    os.truncate(tmp_path / "b/checkpoint-6/model.safetensors", 5)
    last = latest_checkpoint(tmp_path / "b")
    assert last.name == "checkpoint-4"
    again = plain(tmp_path / "b", SealedCheckpoints(keep=2))
    again.train(resume_from_checkpoint=str(last))
    expected = straight.model.state_dict()
    assert all(torch.equal(one, expected[name]) for name, one in again.model.state_dict().items())
    assert latest_checkpoint(tmp_path / "b").name == "checkpoint-6"


def test_a_plain_trainer_must_not_delete_on_its_own(tmp_path):
    with pytest.raises(ConfigError, match=r"save_total_limit=1 deletes a checkpoint before"):
        plain(tmp_path, SealedCheckpoints(), save_total_limit=1).train()
    with pytest.raises(ConfigError, match="keep must be at least 1"):
        SealedCheckpoints(keep=0)


# -- a disk that takes no more -----------------------------------------------------------------


class From(TrainerCallback):
    """Calls something at the end of a step."""

    def __init__(self, step, what):
        self.step, self.what = step, what

    def on_step_end(self, args, state, control, **_):
        if state.global_step == self.step:
            self.what()


# of the model, 88 KB; of the optimizer's moments, twice as much; of the seal
@pytest.mark.parametrize("size", [10_000, 120_000, None], ids=["model", "optimizer", "seal"])
def test_a_full_disk(tmp_path, whole, monkeypatch, size):
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill():
        if size is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, limit[1]))
            return

        def full(*_):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "replace", full)

    trainer = trainer_of(tmp_path, From(3, fill), save_total_limit=1)
    try:
        with pytest.raises(SaveError, match=r"checkpoint-4 cannot be written: .*checkpoint-2 is k"):
            trainer.train()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        monkeypatch.undo()
    assert names(tmp_path) == ["checkpoint-2"]
    assert latest_checkpoint(tmp_path) is not None
    again = trainer_of(tmp_path, save_total_limit=1)
    again.train(resume_from_checkpoint=True)
    require_same(outcome(again), whole[0])


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    made = os.makedirs

    def read_only(path, *args, **kwargs):
        if "checkpoint-" in str(path):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return made(path, *args, **kwargs)

    monkeypatch.setattr(os, "makedirs", read_only)
    with pytest.raises(SaveError, match=r"checkpoint-2 cannot be written: Read-only .*no earlier"):
        trainer_of(tmp_path).train()


class Uploading(TrainerCallback):
    def on_save(self, args, state, control, **_):
        raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")


def test_another_error_while_it_saves_stays_itself(tmp_path):
    with pytest.raises(ConnectionRefusedError):
        trainer_of(tmp_path, Uploading()).train()
    assert names(tmp_path) == ["checkpoint-2"]  # whole perhaps, but nobody said so
    assert latest_checkpoint(tmp_path) is None


# -- workers -----------------------------------------------------------------------------------


class Deadly:
    """A data set whose last sample, in the order of the run, kills the worker that reads it."""

    last = int(list(order.visit(len(ROWS), seed=1, epoch=0))[-1])

    def __len__(self):
        return len(ROWS)

    def __getitem__(self, index):
        if index == self.last and get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return ROWS[index]


def test_a_worker_that_dies(tmp_path, whole):
    with pytest.raises(TrainingError, match=r"A worker of the DataLoader died after step \d .*res"):
        trainer_of(tmp_path, rows=Deadly(), dataloader_num_workers=1).train()
    assert latest_checkpoint(tmp_path) is not None
    again = trainer_of(tmp_path, rows=Deadly())
    again.train(resume_from_checkpoint=True)
    require_same(outcome(again), whole[0])


class Broken(Deadly):
    def __getitem__(self, index):
        raise KeyError("input_ids of row 9")


def test_an_error_of_the_data_stays_itself(tmp_path):
    with pytest.raises(KeyError, match="input_ids of row 9"):
        trainer_of(tmp_path, rows=Broken(), dataloader_num_workers=1).train()
