"""Guided runs over several processes: every rank has the same scores, and they are those of one.

One rank against two differs by the rounding of sums, which half precision may show. These start as
torchrun starts them; `test_shared_out.py` has more numbers of ranks, as forks.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.hf.forked import free_port
from tests.hf.guided import guided_rank
from tests.hf.guided.guided_rank import SAVED, STEP, STEPS
from tests.hf.test_ranks import ROOT

# processes that start anew, each with torch and transformers to import
pytestmark = pytest.mark.slow


def run(folder: Path, world: int, shared: bool, *checkpoint: str) -> list[dict[str, Any]]:
    """What each rank saw."""
    if world == 1:
        seen = guided_rank.train(folder, STEP, shared, *checkpoint)
        return [json.loads(json.dumps(seen))]
    folder.mkdir(exist_ok=True)
    port, started = str(free_port()), []
    files = [folder / f"{number}.json" for number in range(world)]
    for number, file in enumerate(files):
        environment = os.environ | {
            "RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": str(world),
            "LOCAL_WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
        }  # fmt: skip
        arguments = [file, STEP // world, folder, int(shared), *checkpoint]
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", "tests.hf.guided.guided_rank", *map(str, arguments)],
                cwd=ROOT, env=environment,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )
        )  # fmt: skip
    try:
        outputs = [process.communicate(timeout=200)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0] * world, "\n".join(outputs)
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


def views(ranks: list[dict[str, Any]]) -> list[Any]:
    """Of each step the rows that all ranks saw, in the order of the ranks."""
    steps = zip(*(seen["batches"] for seen in ranks), strict=True)
    return [[view for _, _, views, _ in parts for view in views] for parts in steps]


def scores(seen: dict[str, Any]) -> np.ndarray:
    return np.array([np.nan if score is None else score for score in seen["scores"]])


@pytest.mark.parametrize("shared", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_two_ranks_are_as_one(shared, tmp_path):
    one = run(tmp_path / "one", 1, shared)
    two = run(tmp_path / "two", 2, shared)
    assert len(views(two)) == STEPS
    np.testing.assert_array_equal(scores(two[0]), scores(two[1]))
    np.testing.assert_allclose(scores(two[0]), scores(one[0]), rtol=2e-3)
    assert not np.isnan(scores(one[0])).all()
    assert views(two) == views(one)
    # one of them was killed, say, and goes on from where the checkpoint is
    checkpoint = tmp_path / "two" / "run" / f"checkpoint-{SAVED}"
    resumed = run(tmp_path / "two", 2, shared, str(checkpoint))
    assert views(resumed) == views(two)[SAVED:]
    np.testing.assert_array_equal(scores(resumed[1]), scores(two[1]))
