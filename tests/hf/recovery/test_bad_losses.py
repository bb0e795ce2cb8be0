"""A loss or a gradient that is no number moves no weight, is counted, and ends a run in the end."""

from __future__ import annotations

import copy
import logging
import math

import pytest
import torch
from transformers import TrainerCallback

from maskwright import recipe
from maskwright.errors import ConfigError, TrainingError
from maskwright.hf import MaskingCollator, MaskingTrainer
from tests.core import tokenizers
from tests.hf import tiny

ROWS = tiny.samples(24)  # six steps of four samples in an epoch


class Spoilt(MaskingTrainer):
    """The loss of some micro-batches is no number, or the gradient of some steps."""

    bad: tuple[int, ...] = ()
    value = math.nan
    bad_gradients: tuple[int, ...] = ()
    batches = 0

    def compute_loss(self, model, inputs, *args, **kwargs):
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        if self.batches in self.bad:
            loss = loss * self.value
        self.batches += 1
        return loss

    def spoil(self, gradient):
        return gradient * math.inf if self.state.global_step in self.bad_gradients else gradient


class Watch(TrainerCallback):
    """By step (from 0): whether a weight moved, or what the optimizer keeps."""

    def __init__(self):
        self.moved = {}

    def _state(self, model, optimizer):
        weights = [one.detach().clone() for one in model.parameters()]
        return weights, copy.deepcopy(optimizer.state_dict()["state"])

    def on_pre_optimizer_step(self, args, state, control, model=None, optimizer=None, **_):
        self.before = self._state(model, optimizer)

    def on_optimizer_step(self, args, state, control, model=None, optimizer=None, **_):
        weights, kept = self._state(model, optimizer)
        same = all(map(torch.equal, weights, self.before[0])) and str(kept) == str(self.before[1])
        self.moved[state.global_step] = not same


def trainer_of(path, *, bad=(), gradients=(), value=math.nan, **changes):
    ours = {name: changes.pop(name) for name in ("bad_losses",) if name in changes}
    watch = Watch()
    trainer = Spoilt(
        tiny.model(),
        tiny.arguments(path, **({"num_train_epochs": 1, "logging_strategy": "steps",
                                 "logging_steps": 1} | changes)),
        MaskingCollator(tokenizers.words(), recipe("roberta"), seed=5),
        ROWS,
        callbacks=[watch],
        **ours,
    )  # fmt: skip
    trainer.bad, trainer.value, trainer.bad_gradients = tuple(bad), value, tuple(gradients)
    next(trainer.model.parameters()).register_hook(trainer.spoil)
    return trainer, watch


def logged(trainer, name):
    return [one.get(name) for one in trainer.state.log_history if "loss" in one]


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("optim", ["adamw_torch", "sgd"])
def test_a_bad_step_moves_nothing(tmp_path, caplog, value, optim):
    trainer, watch = trainer_of(tmp_path, bad=[2, 4], value=value, optim=optim)
    with caplog.at_level(logging.WARNING):
        trainer.train()
    assert watch.moved == {step: step not in (2, 4) for step in range(6)}
    assert trainer.state.global_step == 6  # the clock, and so the masks, go on
    assert logged(trainer, "bad_losses") == [None, None, 1, 1, 2, 2]
    # the schedule is that of a run without them
    rates = [1e-3 * (6 - step) / 6 for step in range(6)]
    assert logged(trainer, "learning_rate") == pytest.approx(rates)
    lines = [one.getMessage() for one in caplog.records if "left out" in one.getMessage()]
    assert len(lines) == 2
    assert lines[0].startswith("Step 3 is left out: its loss is no number (samples ")
    assert all(torch.isfinite(one).all() for one in trainer.model.parameters())


def test_optimizers_that_average_weights_are_not_called_either(tmp_path):
    pytest.importorskip("schedulefree")
    changes = {"optim": "schedule_free_adamw", "lr_scheduler_type": "constant"}
    trainer, watch = trainer_of(tmp_path, bad=[1], **changes)
    trainer.train()
    assert watch.moved == {step: step != 1 for step in range(6)}
    inner = trainer.optimizer.optimizer
    assert inner.param_groups[0]["k"] == 5  # steps that it took


def test_without_the_check_weights_are_lost(tmp_path):
    trainer, _ = trainer_of(tmp_path, bad=[2], bad_losses=None)
    trainer.train()
    assert not all(torch.isfinite(one).all() for one in trainer.model.parameters())


def test_a_bad_gradient_of_a_good_loss(tmp_path, caplog):
    trainer, watch = trainer_of(tmp_path, gradients=[3])
    trainer.train()
    assert watch.moved == {step: step != 3 for step in range(6)}
    assert any("its gradient is no number" in one.getMessage() for one in caplog.records)


def test_one_bad_micro_batch_spoils_its_step_alone(tmp_path):
    trainer, watch = trainer_of(tmp_path, bad=[2], gradient_accumulation_steps=2)
    trainer.train()
    assert watch.moved == {0: True, 1: False, 2: True}


def test_many_in_a_row_end_the_run(tmp_path):
    trainer, watch = trainer_of(tmp_path, bad=[0, 2, 3, 4], bad_losses=3)
    with pytest.raises(TrainingError, match=r"3 steps in a row, the last of them step 5, .*sampl"):
        trainer.train()
    assert watch.moved == {0: False, 1: True, 2: False, 3: False}
    assert all(torch.isfinite(one).all() for one in trainer.model.parameters())


def test_the_count_outlives_a_resume(tmp_path):
    changes = {"save_strategy": "steps", "save_steps": 3, "bad_losses": 3}
    trainer, _ = trainer_of(tmp_path, bad=[1, 2], **changes)
    trainer.train()
    assert trainer.state.global_step == 6
    again, _ = trainer_of(tmp_path, bad=[0], **changes)  # its first step is the fourth
    with pytest.raises(TrainingError, match=r"3 steps in a row, the last of them step 4"):
        again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    good, _ = trainer_of(tmp_path, bad=[1, 2], **changes)
    good.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert logged(good, "bad_losses") == [None, 1, 2, 2, 3, 4]


@pytest.mark.parametrize("limit", [0, -1, True])
def test_a_limit_that_is_none(tmp_path, limit):
    with pytest.raises(ConfigError, match="bad_losses is a number of steps in a row"):
        trainer_of(tmp_path, bad_losses=limit)
