"""Laws 2 and 8 over ranks: two processes see together what one sees, and take the same steps."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hf import rank

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> list[dict]:
    """What each of two ranks saw, with 2 samples a batch."""
    folder, port = tmp_path_factory.mktemp("ranks"), str(free_port())
    started = []
    for number in range(2):
        environment = os.environ | {
            "RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": "2",
            "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
        }  # fmt: skip
        command = [sys.executable, "-m", "tests.hf.rank", str(folder / f"{number}.json"), "2"]
        started.append(
            subprocess.Popen(
                command, cwd=ROOT, env=environment,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )
        )  # fmt: skip
    try:
        outputs = [process.communicate(timeout=120)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0], "\n".join(outputs)
    return [json.loads((folder / f"{number}.json").read_text()) for number in range(2)]


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> dict:
    """The same run in this process, with 4 samples a batch."""
    seen = rank.train(tmp_path_factory.mktemp("one"), 4)
    return json.loads(json.dumps(seen))  # tuples become lists, as in the files


def test_each_step_has_the_same_samples_and_masks(one, two):
    assert len(one["batches"]) == rank.STEPS
    for whole, first, second in zip(
        one["batches"], two[0]["batches"], two[1]["batches"], strict=True
    ):
        assert first[0] + second[0] == whole[0]
        assert first[1] == second[1] == whole[1]
        assert first[2] + second[2] == whole[2]


def test_ranks_have_different_samples(two):
    for first, second in zip(two[0]["batches"], two[1]["batches"], strict=True):
        assert not set(first[0]) & set(second[0])


def test_the_losses_and_the_weights_are_the_same(one, two):
    # a rank's loss is scaled by the number of ranks, because gradients are averaged over them
    means = [
        (first[3] + second[3]) / 2
        for first, second in zip(two[0]["batches"], two[1]["batches"], strict=True)
    ]
    assert means == pytest.approx([batch[3] for batch in one["batches"]], rel=1e-4)
    assert len(one["losses"]) == rank.STEPS
    assert two[0]["losses"] == pytest.approx(one["losses"], rel=1e-4)  # as they are logged
    assert two[0]["weights"] == two[1]["weights"]
    assert two[0]["weights"] == pytest.approx(one["weights"], rel=1e-3, abs=1e-4)
