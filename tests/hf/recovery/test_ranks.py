"""What goes wrong on one of several ranks: all leave a step out, or the run goes on from a
checkpoint as if nothing had happened."""

from __future__ import annotations

import os
import signal

import pytest

from maskwright.hf import latest_checkpoint
from tests.hf.recovery.forked_ranks import STEPS, WORLD, end_of, go_on, steps_of

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="ranks are forks of this process")

NAN = (1, 1)  # of rank 1, in step 1


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Not killed; one loss of one rank is no number."""
    folder = tmp_path_factory.mktemp("ranks") / "whole"
    assert go_on(folder, nan=NAN) == [0, 0]
    return folder


def test_a_loss_that_is_no_number_on_one_rank_is_left_out_on_all(whole):
    (first, log), (second, _) = (end_of(whole, number) for number in range(WORLD))
    assert first == second  # the same weights on both
    assert [bad for *_, bad in log] == [0, 1, 1, 1, 1, 1]
    assert len(log) == STEPS
    assert "nan" in next(iter(steps_of(whole, 1)[NAN[1]]))
    assert "nan" not in next(iter(steps_of(whole, 0)[NAN[1]]))


def test_killed_ranks_go_on_as_if_nothing_had_happened(whole, tmp_path):
    """Both are killed in the fifth step."""
    folder = tmp_path / "killed"
    ended = go_on(folder, nan=NAN, kill=(0, 4))
    assert [os.WTERMSIG(status) for status in ended] == [signal.SIGKILL] * WORLD
    assert latest_checkpoint(folder / "run").name == "checkpoint-4"
    assert go_on(folder) == [0, 0]
    for number in range(WORLD):
        assert set(steps_of(folder, number)) == set(range(STEPS))
        assert steps_of(folder, number) == steps_of(whole, number)
        (mine, log), (theirs, logged) = end_of(folder, number), end_of(whole, number)
        assert mine == theirs
        assert log == logged


def test_memory_that_runs_out_on_one_rank_is_told(whole, tmp_path):
    folder = tmp_path / "full"
    ended = go_on(folder, memory=(1, 3))
    assert os.WEXITSTATUS(ended[1]) == 1
    message = (folder / "error-1").read_text()
    assert message.startswith("TrainingError: Memory ran out on rank 1 of 2 in step 4.")
    for part in ("per_device_train_batch_size (4 now", "gradient_accumulation_steps (1 now)",
                 "goes on from checkpoint-2"):  # fmt: skip
        assert part in message
