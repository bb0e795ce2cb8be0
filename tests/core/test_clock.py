"""Clock: counts from 0 and says what it does not know."""

from __future__ import annotations

import pytest

from maskwright import Clock
from maskwright.errors import ConfigError, ScheduleError


def test_progress_is_the_share_of_steps():
    assert Clock(step=50, total_steps=200).progress == 0.25
    assert Clock(step=0, total_steps=1).progress == 0.0
    assert Clock(step=300, total_steps=200).progress == 1.0


def test_a_clock_is_a_value():
    assert Clock(1, 2, 3, 4) == Clock(seed=1, epoch=2, step=3, total_steps=4)
    assert len({Clock(1), Clock(1), Clock(2)}) == 2
    assert (Clock().seed, Clock().epoch, Clock().step) == (0, 0, 0)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"epoch": -1}, "Clock.epoch counts from 0, got -1"),
        ({"step": -5}, "Clock.step counts from 0, got -5"),
        ({"total_steps": 0}, "at least 1, got 0"),
    ],
)
def test_values_below_their_rule(fields, message):
    with pytest.raises(ConfigError, match=message):
        Clock(**fields)


@pytest.mark.parametrize("clock", [Clock(), Clock(step=None, total_steps=10)])
def test_progress_that_is_not_known(clock):
    with pytest.raises(ScheduleError, match=r"step=(0|None) and total_steps=(None|10)"):
        clock.progress
