"""Optimizers by name, a learning rate that follows the masks, and what the log says of both."""

from __future__ import annotations

import sys

import pytest
from transformers import AutoModelForMaskedLM

from maskwright import Clock, Masking, recipe
from maskwright.corruption import Above, Cautious, Tokens
from maskwright.corruption.rate import SampledRate
from maskwright.errors import ConfigError, MissingExtra
from maskwright.lab.config import Training
from maskwright.lab.evaluate import evaluate
from maskwright.lab.optimizer import arguments_of, trainer_of
from maskwright.lab.scheduled import scheduled
from maskwright.lab.train import train
from maskwright.schedule import Linear
from tests.lab import tiny
from tests.lab.test_train import Notes

STEPS = 14
FALLING = {"rate": {"schedule": "linear", "start": 0.6, "end": 0.1}}


def experiment(text, training, **policies):
    policies = {"dynamic": FALLING} | policies
    given = {"batch_size": 4, "warmup_steps": 4, "checkpoint_every": 5} | training
    return tiny.experiment(text, training=given, policies=policies)


@pytest.mark.parametrize(
    "training",
    [
        {"optimizer": "schedule-free", "lr_scaling": "per-predicted-token"},
        {"optimizer": "prodigy"},
        {"lr_scaling": "per-predicted-token", "lr_reference": 30},
    ],
    ids=lambda value: value.get("optimizer", "adamw"),
)
def test_a_run_goes_on_bit_for_bit_and_is_evaluated_as_it_is_saved(training, text, tmp_path):
    settings = experiment(text, training)
    whole = train(settings, tmp_path / "a", policy="dynamic", steps=STEPS)
    assert evaluate(tmp_path / "a").reproduced
    with pytest.raises(KeyboardInterrupt):
        train(settings, tmp_path / "b", policy="dynamic", steps=STEPS, watcher=Notes(stop_at=10))
    again = train(settings, tmp_path / "b", policy="dynamic", steps=STEPS)
    assert (again["final"], again["history"]) == (whole["final"], whole["history"])
    # (the Trainer's mean loss of the log begins anew at a resume)
    for key in ("learning_rate", "predicted", "mask_rate"):
        assert [line[key] for line in again["training"]] == [
            line[key] for line in whole["training"]
        ]
    one, two = (AutoModelForMaskedLM.from_pretrained(tmp_path / name) for name in "ab")
    for name, weight in one.state_dict().items():
        assert weight.equal(two.state_dict()[name])


def test_the_log_has_the_learning_rate_that_was_used(text, tmp_path):
    plain = train(experiment(text, {}), tmp_path / "a", policy="dynamic", steps=STEPS)
    scaled = experiment(text, {"lr_scaling": "per-predicted-token"})
    followed = train(scaled, tmp_path / "b", policy="dynamic", steps=STEPS)
    (before,), (after,) = (
        [line["learning_rate"] for line in run["training"]] for run in (plain, followed)
    )
    # at the tenth step the rate has fallen from 60% to a little below 30%
    assert 0.5 < after / before < 0.8


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"optimizer": "schedule-free", "lr_scheduler": "linear"}, "takes the place of"),
        ({"optimizer": "prodigy", "learning_rate": 3e-3}, r"0\.1 to 10, 1 as a rule; got 0\.003"),
        ({"lr_reference": 100}, "lr_scaling=per-predicted-token"),
    ],
)
def test_settings_that_contradict_the_optimizer(settings, said, text):
    with pytest.raises(ConfigError, match=said):
        tiny.experiment(text, training=settings)


@pytest.mark.parametrize("optimizer", ["adamw", "schedule-free", "prodigy"])
def test_settings_come_back_from_a_record(optimizer):
    training = Training(optimizer=optimizer)
    assert Training.model_validate(training.model_dump(mode="json")) == training
    assert training.learning_rate == (1.0 if optimizer == "prodigy" else 3e-3)


def test_adamw_is_left_as_it_was():
    assert "optim" not in arguments_of(Training())
    assert trainer_of(Training()) == {"lr": None}


def test_schedule_free_warms_up_once():
    found = arguments_of(Training(optimizer="schedule-free", warmup_steps=7))
    assert (found["lr_scheduler_type"], found["warmup_steps"]) == ("constant", 7)


@pytest.mark.parametrize(
    "name, package", [("schedule-free", "schedulefree"), ("prodigy", "prodigyopt")]
)
def test_a_missing_package_is_named_with_its_command(name, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    training = Training(optimizer=name)
    with pytest.raises(MissingExtra, match=rf'{package} .*pip install "maskwright\[lab\]"'):
        trainer_of(training), arguments_of(training)


# -- what the schedules say -------------------------------------------------------------------


@pytest.mark.parametrize(
    "masking, found",
    [
        (Masking(rate=0.3), {}),
        (recipe("attention-guided"), {}),
        (recipe("attention-threshold"), {"threshold": 0.7, "probability": 0.5}),
        (
            Masking(Above(Linear(0.8, 0.4)) | Tokens().at(0.02), rate=Linear(0.1, 0.5)),
            {"threshold": 0.7, "probability": 0.2},
        ),
        (Masking(Cautious(Above(0.5)), rate=SampledRate()), {"threshold": 0.5}),
    ],
)
def test_the_threshold_and_the_probability_of_a_step(masking, found):
    assert scheduled(masking, Clock(0, None, 5, 20)) == pytest.approx(found)


def test_the_log_has_the_threshold(text, tmp_path):
    policy = {"recipe": "attention-threshold", "rate": FALLING["rate"], "start_rate": 0.3}
    settings = experiment(text, {"checkpoint_every": None}, guided=policy)
    result = train(settings, tmp_path / "a", policy="guided", steps=STEPS)
    (line,) = result["training"]
    assert line["threshold"] == 0.7
    assert line["probability"] == pytest.approx(0.6 - 0.5 * 9 / STEPS)
