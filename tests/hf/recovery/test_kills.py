"""Killed at any moment, again and again, a run ends as if nothing had happened, bit for bit."""

from __future__ import annotations

import os
import random
import time

import pytest

from maskwright.hf import latest_checkpoint
from maskwright.hf.recovery.checkpoints import checkpoints_in
from tests.hf.recovery.killed import STEPS, Outcome, at_event, events_of, go_on, in_seconds

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a fork of this process")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run that is not killed: its outcome, its events, and how long it took."""
    warm = tmp_path_factory.mktemp("warm")
    go_on(warm)  # forks find all kernels compiled
    folder, start = tmp_path_factory.mktemp("whole") / "run", time.monotonic()
    events = events_of(folder)
    return Outcome.of(folder), events, time.monotonic() - start


def require_as_if_nothing_had_happened(folder, whole):
    outcome = Outcome.of(folder)
    assert set(outcome.steps) == set(range(STEPS))
    # a step that was taken twice had the same samples, masks and loss both times
    assert outcome == whole[0]
    assert [one.name for one in checkpoints_in(folder / "run")] == [f"checkpoint-{STEPS}"]
    assert latest_checkpoint(folder / "run") is not None


def kill_often(count, path, whole, seed, kill):
    """Runs that are killed until they end, one after the other; the number of runs."""
    draws, kills, runs = random.Random(seed), 0, 0
    while kills < count:
        folder, stuck = path / str(runs), 0
        while not kill(folder, draws):
            kills, stuck = kills + 1, stuck + 1
            # the last whole checkpoint is never lost
            steps = [one.name for one in checkpoints_in(folder / "run")]
            assert latest_checkpoint(folder / "run") is not None or steps in ([], ["checkpoint-2"])
            assert stuck < 200
        require_as_if_nothing_had_happened(folder, whole)
        runs += 1
    return runs


def by_events(whole):
    return lambda folder, draws: at_event(folder, draws.randrange(len(whole[1]) * 5 // 4))


def by_time(whole):
    return lambda folder, draws: in_seconds(folder, draws.uniform(0, whole[2] * 1.25))


def test_the_uninterrupted_run_takes_each_step_once(whole):
    outcome, events, _ = whole
    assert all(len(taken) == 1 for taken in outcome.steps.values())
    assert [step for step, _ in outcome.end[1]] == [3, 6, 9, 12]
    # the moments that matter are among those at which it is killed
    for part in ("optimizer.pt", "scores.maskwright", "trainer_state.json", "manifest.json"):
        assert any(f"checkpoint-4/{part}" in event or f".{part}." in event for event in events)
    assert any(event.startswith("os.remove") and "manifest.json" in event for event in events)


def test_killed_before_random_events(tmp_path, whole):
    assert kill_often(12, tmp_path, whole, 0, by_events(whole)) >= 1


def test_killed_at_random_moments(tmp_path, whole):
    assert kill_often(8, tmp_path, whole, 1, by_time(whole)) >= 1


def test_killed_while_a_checkpoint_is_written(tmp_path, whole):
    """Before its first file, between two, before its seal and before the older one is deleted."""
    events = whole[1]
    first = next(n for n, event in enumerate(events) if "checkpoint-4" in event)
    sealed = next(n for n, event in enumerate(events) if "checkpoint-4/.manifest.json" in event)
    deleted = next(
        n for n, event in enumerate(events)
        if event.startswith("os.remove") and "checkpoint-2/manifest.json" in event
    )  # fmt: skip
    last = next(n for n, event in enumerate(events) if "remove" in event and "-10/manif" in event)
    middle = (first + sealed) // 2
    for number, step in ((first, 2), (middle, 2), (sealed, 2), (deleted, 4), (last, 12)):
        folder = tmp_path / str(number)
        assert not at_event(folder, number)
        assert latest_checkpoint(folder / "run").name == f"checkpoint-{step}"
        assert at_event(folder, 10**9)
        require_as_if_nothing_had_happened(folder, whole)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("how, seed", [(by_events, 2), (by_time, 3)])
def test_a_hundred_kills(tmp_path, whole, how, seed):
    assert kill_often(100, tmp_path, whole, seed, how(whole)) > 5


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_killed_before_each_event_of_a_checkpoint(tmp_path, whole):
    numbers = [n for n, event in enumerate(whole[1]) if "checkpoint-4" in event]
    for number in numbers:
        folder = tmp_path / str(number)
        assert not at_event(folder, number)
        assert at_event(folder, 10**9)
        require_as_if_nothing_had_happened(folder, whole)
