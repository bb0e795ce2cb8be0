"""When the choice is drawn again: the refresh key, and the masks that follow from it."""

from __future__ import annotations

import numpy as np
import pytest

from maskwright import Clock, Dynamic, EverySteps, Masking, Rotating, Static
from maskwright.corruption.refresh import parse_refresh
from maskwright.errors import PolicyError
from tests.corruption.rows import WORDS, by_row, same_rows

BATCH = same_rows(np.arange(5, 205), 2)


def masks(refresh, **clock):
    return by_row(Masking(refresh=refresh).bind(WORDS).plan(BATCH, Clock(seed=3, **clock)))


def test_static_is_dynamic_at_epoch_0():
    assert masks("static", epoch=7, step=99) == masks("dynamic", epoch=0, step=5)
    assert masks("static", epoch=None, step=None) == masks("rotating-3", epoch=3)
    assert masks("static") == masks("every-10-steps", step=9)


def test_dynamic_is_new_every_epoch_and_only_then():
    drawn = [str(masks("dynamic", epoch=epoch)) for epoch in range(6)]
    assert len(set(drawn)) == 6
    assert masks("dynamic", epoch=1, step=10) == masks("dynamic", epoch=1, step=90)
    assert masks("dynamic", epoch=1, step=None) == masks("dynamic", epoch=1)


def test_rotating_has_its_period():
    drawn = [str(masks("rotating-3", epoch=epoch)) for epoch in range(9)]
    assert drawn[:3] == drawn[3:6] == drawn[6:]
    assert len(set(drawn)) == 3
    assert drawn[2] == str(masks("dynamic", epoch=2))


def test_every_k_steps():
    drawn = [str(masks("every-4-steps", epoch=None, step=step)) for step in range(12)]
    assert len(set(drawn)) == 3
    assert drawn[0] == drawn[3] != drawn[4] == drawn[7] != drawn[8] == drawn[11]


def test_keys_literally():
    clock = Clock(epoch=23, step=450)
    keys = [refresh.key(clock) for refresh in (Static(), Dynamic(), Rotating(10), EverySteps(100))]
    assert keys == [0, 23, 3, 4]


@pytest.mark.parametrize("refresh", ["dynamic", "rotating-10"])
def test_an_epoch_that_is_not_known(refresh):
    with pytest.raises(PolicyError, match=rf"{refresh} needs the epoch.*ClockCallback"):
        masks(refresh, epoch=None)


def test_a_step_that_is_not_known():
    with pytest.raises(PolicyError, match=r"every-5-steps needs the optimizer step"):
        masks("every-5-steps", step=None)


@pytest.mark.parametrize("refresh", [Static(), Dynamic(), Rotating(10), EverySteps(1000)], ids=str)
def test_names_come_back(refresh):
    assert parse_refresh(str(refresh)) == refresh
    assert Masking(refresh=str(refresh)).refresh == refresh


@pytest.mark.parametrize(
    "text, message",
    [
        ("dynamc", "Did you mean 'dynamic'"),
        ("rotating", "Did you mean 'rotating-N'"),
        ("rotating-0", "at least 1, got 0"),
        ("every-0-steps", "at least 1, got 0"),
        ("every-x-steps", "Did you mean 'every-N-steps'"),
        ("", "Unknown refresh"),
        ("static ", "Did you mean 'static'"),
    ],
)
def test_names_that_are_none(text, message):
    with pytest.raises(PolicyError, match=message):
        Masking(refresh=text)
