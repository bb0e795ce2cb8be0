"""Schedules: literal values, bounds, and which way they run."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskwright import Clock
from maskwright.errors import ScheduleError
from maskwright.schedule import (
    Constant,
    Cosine,
    Linear,
    Schedule,
    Step,
    WarmupHoldDecay,
    value_at,
)
from tests.strategies import schedules


@pytest.mark.parametrize(
    "schedule, values",
    [
        (Constant(0.3), [0.3, 0.3, 0.3, 0.3, 0.3]),
        (Linear(0.3, 0.1), [0.3, 0.25, 0.2, 0.15, 0.1]),
        (Cosine(0.4, 0.0), [0.4, 0.2 + 0.2 * 0.5**0.5, 0.2, 0.2 - 0.2 * 0.5**0.5, 0.0]),
        (Step((1.0, 2.0, 3.0), (0.25, 0.8)), [1.0, 2.0, 2.0, 2.0, 3.0]),
        (WarmupHoldDecay(0.0, 1.0, 0.5, warmup=0.5, decay=0.25), [0, 0.5, 1, 1, 0.5]),
        (WarmupHoldDecay(0.0, 1.0, 0.5, warmup=0.0, decay=0.0), [1, 1, 1, 1, 1]),
        (WarmupHoldDecay(0.0, 1.0, 0.0, warmup=0.5, decay=0.5), [0, 0.5, 1, 0.5, 0]),
    ],
)
def test_values_at_the_quarters(schedule, values):
    assert isinstance(schedule, Schedule)
    np.testing.assert_allclose([schedule(i / 4) for i in range(5)], values, atol=1e-12)


@given(schedules(), st.floats(0, 1))
def test_values_stay_between_the_lowest_and_the_highest(schedule, progress):
    assert 0 <= schedule(progress) <= 1


@given(st.sampled_from([Linear, Cosine]), st.floats(0, 1), st.floats(0, 1))
def test_lines_run_one_way(kind, start, end):
    steps = np.diff([kind(start, end)(i / 50) for i in range(51)])
    assert (steps * np.sign(end - start) >= -1e-12).all()


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Step((0.1,), (0.5,)), "one value more than boundaries, got 1 values and 1"),
        (lambda: Step((0.1, 0.2, 0.3), (0.5, 0.5)), r"rise inside \(0, 1\)"),
        (lambda: Step((0.1, 0.2, 0.3), (0.6, 0.5)), r"rise inside \(0, 1\)"),
        (lambda: Step((0.1, 0.2), (1000,)), "shares of the run, not steps"),
        (lambda: WarmupHoldDecay(0, 1, 0, warmup=0.7, decay=0.5), "together at most 1"),
        (lambda: WarmupHoldDecay(0, 1, 0, warmup=-0.1, decay=0.5), "at least 0"),
    ],
)
def test_malformed_schedules(make, message):
    with pytest.raises(ScheduleError, match=message):
        make()


def test_value_at_takes_a_number_or_a_schedule():
    clock = Clock(step=5, total_steps=10)
    assert value_at(0.15, Clock()) == 0.15
    assert value_at(Constant(0.2), Clock()) == 0.2  # needs no clock
    assert value_at(Linear(0.0, 1.0), clock) == 0.5
    assert value_at(lambda progress: progress**2, clock) == 0.25
    with pytest.raises(ScheduleError, match="total_steps=None"):
        value_at(Linear(0.0, 1.0), Clock())
