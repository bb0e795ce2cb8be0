"""The step size follows the predicted tokens: for one step, and the same after a resume."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import LinearLR
from transformers import TrainerCallback

from maskwright import Masking, recipe
from maskwright.errors import ConfigError
from maskwright.hf import MaskingCollator, MaskingTrainer, PerPredictedToken
from maskwright.hf.learning_rate import StepSize, count_of, power_of, scaling_of
from maskwright.schedule import Linear
from tests.core import tokenizers
from tests.hf import tiny

ROWS = tiny.samples(22)
FALLING = {"rate": Linear(0.8, 0.1)}


class Watch(TrainerCallback):
    """What each step predicted, and its learning rates: during it, and before and after."""

    def __init__(self, trainer):
        self.trainer, self.seen = trainer, []
        self.predicted = 0

    def rate(self):
        return float(self.trainer.optimizer.param_groups[0]["lr"])

    def on_step_begin(self, *_, **__):
        self.before = self.rate()

    def on_step_end(self, *_, **__):
        count = self.trainer.predicted_tokens - self.predicted
        self.predicted = self.trainer.predicted_tokens
        self.seen.append((count, self.during, self.before))

    def step(self, *_, **__):
        self.during = self.rate()


def run(
    path,
    *,
    lr="per-predicted-token",
    policy=None,
    resume=None,
    optimizer=None,
    watches=(),
    **changes,
):
    settings = {
        "num_train_epochs": 2, "logging_strategy": "steps", "logging_steps": 1,
        "lr_scheduler_type": "linear",
    }  # fmt: skip
    model = tiny.model(dropout=True)
    optimizers = (None, None) if optimizer is None else optimizer(model)
    made = MaskingTrainer(
        model,
        tiny.arguments(path, **(settings | changes)),
        MaskingCollator(tokenizers.words(), recipe("roberta", **(policy or FALLING)), seed=5),
        train_dataset=ROWS,
        lr=lr,
        optimizers=optimizers,
        callbacks=list(watches),
    )
    watch = Watch(made)
    made.add_callback(watch)
    create = made.create_optimizer

    def created(*args):
        made_by_parent = create(*args)
        made_by_parent.register_step_pre_hook(watch.step)
        return made_by_parent

    made.create_optimizer = created
    made.train(resume_from_checkpoint=resume)
    return made, watch.seen


def logged(trainer):
    return [e["learning_rate"] for e in trainer.state.log_history if "loss" in e]


def weights(trainer):
    return [p.detach().clone() for p in trainer.model.parameters()]


# -- the rule ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "predicted, reference, power, bound, factor",
    [
        (100, 100, 0.5, 4, 1.0),
        (25, 100, 0.5, 4, 0.5),
        (25, 100, 1.0, 4, 0.25),
        (400, 100, 0.5, 4, 2.0),
        (1, 10_000, 1.0, 4, 0.25),
        (10_000, 1, 0.5, 4, 4.0),
        (0, 100, 0.5, 4, 0.25),
        (10_000, 1, 0.5, 1, 1.0),
        (7, 100, 0.0, 4, 1.0),
    ],
)
def test_the_factor(predicted, reference, power, bound, factor):
    assert PerPredictedToken(bound=bound).factor(predicted, reference, power) == factor


@given(st.integers(0, 10**9), st.integers(1, 10**9), st.floats(0, 1), st.floats(1, 100))
def test_the_factor_stays_in_its_bound_and_grows_with_the_tokens(n, reference, power, bound):
    rule = PerPredictedToken(bound=bound)
    factor = rule.factor(n, reference, power)
    assert 1 / bound <= factor <= bound
    assert factor <= rule.factor(n + 1, reference, power)


@pytest.mark.parametrize(
    "settings",
    [
        {"reference": 0}, {"reference": math.inf}, {"reference": math.nan}, {"power": -0.1},
        {"power": 2}, {"bound": 0.5}, {"bound": math.inf}, {"bound": math.nan},
    ],
    ids=str,
)  # fmt: skip
def test_wrong_settings_are_refused(settings):
    with pytest.raises(ConfigError, match=f"PerPredictedToken: {next(iter(settings))}"):
        PerPredictedToken(**settings)


@pytest.mark.parametrize(
    "kind, power",
    [
        (torch.optim.SGD, 1.0), (torch.optim.AdamW, 0.5), (torch.optim.RMSprop, 0.5),
        (torch.optim.NAdam, 0.5), (torch.optim.Adagrad, 0.5),
    ],
)  # fmt: skip
def test_the_power_goes_with_the_optimizer(kind, power):
    assert power_of(kind([torch.nn.Parameter(torch.ones(1))], lr=0.1)) == power


def test_the_power_of_an_unknown_optimizer_must_be_said():
    with pytest.raises(ConfigError, match=r"Rprop .*PerPredictedToken\(power="):
        power_of(torch.optim.Rprop([torch.nn.Parameter(torch.ones(1))]))


def test_names_of_rules():
    assert scaling_of(None) is None
    assert scaling_of("per-predicted-token") == PerPredictedToken()
    with pytest.raises(ConfigError, match="Did you mean 'per-predicted-token'"):
        scaling_of("per-predicted-tokens")
    with pytest.raises(ConfigError, match="learning_rate="):
        scaling_of(1e-3)


def test_the_count_comes_in_several_forms():
    assert count_of(None) is None
    assert [count_of(n) for n in (3, torch.tensor(3), torch.full((2, 1), 3))] == [3.0] * 3


# -- runs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("accumulation", [1, 3])
def test_each_step_is_scaled_by_its_tokens_and_the_scheduler_never_sees_it(accumulation, tmp_path):
    made, seen = run(tmp_path, gradient_accumulation_steps=accumulation)
    _, plain = run(tmp_path, lr=None, gradient_accumulation_steps=accumulation)
    assert [count for count, *_ in seen] == [count for count, *_ in plain]
    assert [before for *_, before in seen] == [before for *_, before in plain]
    first = seen[0][0]
    expected = [before * min(max((n / first) ** 0.5, 0.25), 4) for n, _, before in seen]
    assert [during for _, during, _ in seen] == pytest.approx(expected, rel=1e-12)
    assert logged(made) == pytest.approx(expected, rel=1e-12)
    assert len({round(d / b, 6) for _, d, b in seen}) > 2
    assert made.optimizer.param_groups[0]["lr"] == 0.0  # where the linear schedule ends


def test_without_a_rule_steps_and_logs_are_the_parents(tmp_path):
    made, seen = run(tmp_path, lr=None)
    assert logged(made) == [during for _, during, _ in seen] == [before for *_, before in seen]


def test_sgd_with_a_scheduler_that_multiplies_what_it_finds(tmp_path):
    def optimizers(model):
        sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        return sgd, LinearLR(sgd, 1.0, 0.5, total_iters=20)

    rule = PerPredictedToken(reference=40)
    made, seen = run(tmp_path, lr=rule, optimizer=optimizers)
    wanted = [before * min(max(n / 40, 0.25), 4) for n, _, before in seen]
    assert logged(made) == pytest.approx(wanted, rel=1e-12)
    befores = [before for *_, before in seen]
    assert befores == pytest.approx([0.1 * (1 - 0.5 * i / 20) for i in range(len(seen))])


def test_a_step_of_sgd_is_the_one_that_the_rule_says(tmp_path):
    """Of the weights themselves: one step with the rule is one step at the scaled rate."""

    def moved(lr, rate):
        def sgd(model):
            return torch.optim.SGD(model.parameters(), lr=rate), None

        made, seen = run(
            tmp_path, lr=lr, optimizer=sgd, max_steps=1, lr_scheduler_type="constant",
            max_grad_norm=0.0,
        )  # fmt: skip
        return weights(made), seen[0][0]

    _, n = moved(None, 0.1)
    (scaled, _), (by_hand, _) = moved(PerPredictedToken(reference=n / 2), 0.1), moved(None, 0.2)
    for one, other in zip(scaled, by_hand, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("checkpoint", [4, 6])
def test_a_resumed_run_is_the_uninterrupted_one(checkpoint, tmp_path):
    settings = {"save_strategy": "steps", "save_steps": checkpoint}
    whole, seen = run(tmp_path / "whole", **settings)
    saved = str(tmp_path / "whole" / f"checkpoint-{checkpoint}")
    again, rest = run(tmp_path / "again", resume=saved, **settings)
    assert [during for _, during, _ in rest] == [during for _, during, _ in seen[checkpoint:]]
    for one, other in zip(weights(whole), weights(again), strict=True):
        assert torch.equal(one, other)


def test_a_checkpoint_without_the_rule_needs_a_reference(tmp_path):
    run(tmp_path / "a", lr=None, save_strategy="steps", save_steps=4)
    saved = str(tmp_path / "a" / "checkpoint-4")
    with pytest.raises(ConfigError, match=r"PerPredictedToken\(reference="):
        run(tmp_path / "b", resume=saved)
    made, _ = run(tmp_path / "b", resume=saved, lr=PerPredictedToken(reference=30))
    assert made.state.global_step == 12


def test_a_second_run_of_a_trainer_begins_anew(tmp_path):
    made, _ = run(tmp_path, policy={"rate": 0.2})
    first = logged(made)
    made.optimizer, made.lr_scheduler = None, None
    made.train()
    assert logged(made)[0] == pytest.approx(first[0])


def test_a_step_that_predicts_nothing_is_no_reference(tmp_path):
    made = StepSize(PerPredictedToken())
    arguments = tiny.arguments(tmp_path)
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))], lr=0.5)

    class State:
        global_step, stateful_callbacks = 0, {}

    made.on_train_begin(arguments, State, None, optimizer=optimizer)
    factors = []
    for made.predicted in (0.0, 16.0, 4.0, 0.0):
        made.on_step_begin(arguments, State, None)
        factors.append(made.factor)
    assert factors == [1.0, 1.0, 0.5, 0.25]


def test_masked_diffusion_counts_what_its_loss_is_divided_by(tmp_path):
    made = MaskingTrainer(
        tiny.model(), tiny.arguments(tmp_path, max_steps=2),
        MaskingCollator(tokenizers.words(), recipe("mdlm"), seed=5), train_dataset=ROWS[:4],
        lr="per-predicted-token",
    )  # fmt: skip
    made.train()
    special = 2
    assert made._step_size.predicted == sum(len(row["input_ids"]) - special for row in ROWS[:4])


def test_ranks_that_would_not_agree_are_refused(tmp_path):
    made = StepSize(PerPredictedToken())
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))], lr=0.5)

    class Arguments:
        deepspeed, optim, world_size, average_tokens_across_devices = None, "adamw", 2, False

    with pytest.raises(ConfigError, match="average_tokens_across_devices=True"):
        made.on_train_begin(Arguments, None, None, optimizer=optimizer)
    Arguments.optim = "galore_adamw_layerwise"
    with pytest.raises(ConfigError, match="galore_adamw_layerwise"):
        made.on_train_begin(Arguments, None, None, optimizer=optimizer)


# -- optimizers from their libraries ----------------------------------------------------------


class Iterates(TrainerCallback):
    """The last iterate ``z`` of one weight after each step, and its start."""

    def __init__(self, name):
        self.name, self.start, self.z = name, None, []

    def on_train_begin(self, args, state, control, model=None, **_):
        self.start = model.get_parameter(self.name).detach().double()

    def on_step_end(self, args, state, control, model=None, optimizer=None, **_):
        state = optimizer.optimizer.state[model.get_parameter(self.name)]
        self.z.append(state["z"].double().clone())


def schedule_free(path, resume=None, lr=None, **changes):
    settings = {
        "optim": "schedule_free_adamw", "lr_scheduler_type": "constant", "learning_rate": 3e-3,
        "warmup_steps": 4, "save_strategy": "steps", "save_steps": 5,
    }  # fmt: skip
    return run(path, lr=lr, resume=resume, **(settings | changes))


def test_schedule_free_ends_with_and_saves_the_averaged_weights(tmp_path):
    name = "bert.embeddings.LayerNorm.weight"
    made, _ = schedule_free(tmp_path, watches=[watch := Iterates(name)])
    optimizer = made.optimizer.optimizer
    assert not any(group["train_mode"] for group in optimizer.param_groups)
    # the average of the iterates, weighed by the squares of their learning rates (2405.15682)
    average, total = watch.start, 0.0
    for k, z in enumerate(watch.z):
        weight = min(1, (k + 1) / 4) ** 2
        total += weight
        average = average + weight / total * (z - average)
    found = made.model.get_parameter(name).double()
    torch.testing.assert_close(found, average, rtol=0, atol=1e-6)
    assert (found - watch.z[-1]).abs().max() > 1e-4  # it is not the last iterate
    made.save_model(str(tmp_path / "model"))
    loaded = type(made.model).from_pretrained(tmp_path / "model")
    for one, other in zip(loaded.parameters(), made.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert not any(group["train_mode"] for group in optimizer.param_groups)


def test_a_schedule_free_checkpoint_holds_what_was_evaluated(tmp_path):
    made, _ = schedule_free(tmp_path, max_steps=5)
    loaded = type(made.model).from_pretrained(tmp_path / "checkpoint-5")
    for one, other in zip(loaded.parameters(), made.model.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("lr", [None, "per-predicted-token"])
def test_schedule_free_resumes_bit_for_bit(lr, tmp_path):
    whole, _ = schedule_free(tmp_path / "whole", lr=lr)
    saved = str(tmp_path / "whole" / "checkpoint-5")
    again, _ = schedule_free(tmp_path / "again", resume=saved, lr=lr)
    for one, other in zip(weights(whole), weights(again), strict=True):
        assert torch.equal(one, other)
    assert logged(again) == logged(whole)


def test_the_log_has_the_warm_up_of_schedule_free(tmp_path):
    made, _ = schedule_free(tmp_path)
    rates = [3e-3 * min(1, (k + 1) / 4) for k in range(12)]
    assert logged(made) == pytest.approx(rates)


def test_the_best_checkpoint_is_loaded_as_it_was_saved(tmp_path):
    made = MaskingTrainer(
        tiny.model(),
        tiny.arguments(
            tmp_path, optim="schedule_free_adamw", lr_scheduler_type="constant", max_steps=7,
            eval_strategy="steps", eval_steps=3, save_strategy="steps", save_steps=3,
            load_best_model_at_end=True, learning_rate=3e-3,
        ),
        MaskingCollator(tokenizers.words(), Masking(rate=0.5), seed=5),
        train_dataset=ROWS,
        eval_dataset=ROWS[:8],
    )  # fmt: skip
    made.train()
    best = type(made.model).from_pretrained(made.state.best_model_checkpoint)
    for one, other in zip(best.parameters(), made.model.parameters(), strict=True):
        assert torch.equal(one, other)
    found = [e["eval_loss"] for e in made.state.log_history if "eval_loss" in e]
    assert made.evaluate()["eval_loss"] == min(found)


def prodigy(path, resume=None, lr=None):
    from prodigyopt import Prodigy

    made = MaskingTrainer(
        tiny.model(dropout=True),
        tiny.arguments(
            path, logging_strategy="steps", logging_steps=1, save_strategy="steps", save_steps=5,
            lr_scheduler_type="constant", learning_rate=1.0,
        ),
        MaskingCollator(tokenizers.words(), recipe("roberta", **FALLING), seed=5),
        train_dataset=ROWS,
        lr=lr,
        optimizer_cls_and_kwargs=(Prodigy, {"lr": 1.0, "d_coef": 1.0}),
    )  # fmt: skip
    made.train(resume_from_checkpoint=resume)
    return made


@pytest.mark.parametrize("lr", [None, "per-predicted-token"])
def test_prodigy_trains_logs_its_own_step_size_and_resumes(lr, tmp_path):
    whole = prodigy(tmp_path / "whole", lr=lr)
    again = prodigy(tmp_path / "again", resume=str(tmp_path / "whole" / "checkpoint-5"), lr=lr)
    for one, other in zip(weights(whole), weights(again), strict=True):
        assert torch.equal(one, other)
    assert logged(again) == logged(whole)
    rates = logged(whole)
    assert rates[0] == pytest.approx(1e-6)  # its first guess
    assert max(rates) > 1e-6
    assert not np.isnan(rates).any()
