"""The learning rate follows the budget, whatever it is in."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskwright.lab.translate.budget import Budget
from maskwright.lab.translate.config import TranslationTraining
from maskwright.lab.translate.learned import Falling
from maskwright.lab.translate.learning_rate import factor

SCHEDULERS = ("inverse-sqrt", "cosine", "linear", "constant")


@given(
    st.sampled_from(SCHEDULERS),
    st.integers(0, 10_000),
    st.integers(0, 500),
    st.floats(0, 1),
)
def test_factors_are_shares(scheduler, step, warmup, progress):
    assert 0 <= factor(scheduler, step, warmup, progress) <= 1 + 1e-12


@pytest.mark.parametrize("scheduler", SCHEDULERS[:3])
def test_nothing_is_left_when_the_budget_is_spent(scheduler):
    assert factor(scheduler, 900, 100, 1.0) == pytest.approx(0.0)
    assert factor(scheduler, 900, 100, 1.7) == pytest.approx(0.0)


def test_inverse_square_root_literally():
    assert factor("inverse-sqrt", 0, 4, 0.0) == 0.25
    assert factor("inverse-sqrt", 3, 4, 0.1) == 1.0
    assert factor("inverse-sqrt", 15, 4, 0.5) == 0.5
    assert factor("inverse-sqrt", 15, 4, 0.925) == pytest.approx(0.25)  # half of the last 15%


def test_a_constant_rate_only_warms_up():
    assert [factor("constant", step, 2, 0.9) for step in range(3)] == [0.5, 1.0, 1.0]


def test_minutes_end_a_run_and_are_shared_by_threads():
    wall = Budget(TranslationTraining(minutes=2), threads=2)
    wall.watch.seconds, wall.watch.cpu_seconds = 60.0, 200.0
    assert wall.progress(5) == 0.5
    cpu = Budget(TranslationTraining(minutes=2, clock="processor"), threads=2)
    cpu.watch.seconds, cpu.watch.cpu_seconds = 60.0, 200.0
    assert cpu.progress(5) == pytest.approx(100 / 120)
    control = SimpleNamespace(should_training_stop=False)
    cpu.on_step_end(None, SimpleNamespace(global_step=5), control)
    assert not control.should_training_stop
    cpu.watch.cpu_seconds = 240.0
    cpu.on_step_end(None, SimpleNamespace(global_step=6), control)
    assert control.should_training_stop


def test_steps_are_counted_by_the_trainer():
    budget = Budget(TranslationTraining(steps=10), threads=1)
    budget.on_train_begin(None, SimpleNamespace(max_steps=10), None)
    assert [budget.progress(step) for step in (0, 5, 10, 12)] == [0.0, 0.5, 1.0, 1.0]


def test_gates_close_by_the_minutes_where_those_are_the_budget():
    budget = Budget(TranslationTraining(minutes=2), threads=1)
    falling = Falling(0.5)
    assert [falling(progress) for progress in (0.0, 0.25, 0.5, 1.0)] == [1.0, 0.75, 0.5, 0.5]
    falling.spent = lambda: budget.progress(0)
    assert falling(0.01) == pytest.approx(0.99)  # the steps alone say this
    budget.watch.seconds = 30.0
    assert falling(0.01) == 0.75
