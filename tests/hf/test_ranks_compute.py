"""Several ranks that compute only what the masks leave: the same steps.

The reference is always the plain run of one process, in this process. Sums over ranks are made in
another order than over the batch, so losses agree to 1e-4 of themselves and sums of weights to
1e-3, as in `test_ranks.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hf import rank
from tests.hf.test_ranks import ROOT, Run, require_the_same_steps, run

slow = pytest.mark.slow  # two ranks show it, these take time


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Run:
    return run(tmp_path_factory.mktemp("plain"), 1)


def require_the_same_samples(one: Run, several: Run) -> None:
    assert [(ids, views) for ids, _, views in several.steps] == [
        (ids, views) for ids, _, views in one.steps
    ]


def require_the_same_end(one: Run, other: Run) -> None:
    """The logged losses, and the weights."""
    assert other.ranks[0]["losses"] == pytest.approx(one.ranks[0]["losses"], rel=1e-4)
    for seen in other.ranks:
        assert seen["weights"] == pytest.approx(one.ranks[0]["weights"], rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("world", [1, 2, 4])
def test_mask_aware_steps_are_the_plain_ones(world, plain, tmp_path):
    aware = run(tmp_path, world, policy="aware")
    require_the_same_samples(plain, aware)
    require_the_same_steps(plain, aware)


@pytest.mark.parametrize("world", [1, pytest.param(2, marks=slow)])
def test_accumulated_gradients_are_of_all_predicted_tokens(world, plain, tmp_path):
    """Two batches a step, padding and head left out: a token counts the same in either of them."""
    accumulated = run(tmp_path, world, policy="accumulated")
    assert all(len(seen["batches"]) == 2 * rank.STEPS for seen in accumulated.ranks)
    for seen in accumulated.ranks:
        predicted = [
            sum(label != -100 for _, labels in views for label in labels)
            for _, _, views, _ in seen["batches"]
        ]
        assert predicted[::2] != predicted[1::2]  # or a mean of means would be the same
    require_the_same_end(plain, accumulated)


@slow
def test_mask_aware_runs_go_on_with_another_number_of_ranks(plain, tmp_path):
    saved = run(tmp_path / "two", 2, policy="aware").checkpoint
    for world in (1, 3):
        resumed = run(tmp_path / str(world), world, saved, policy="aware")
        assert [ids for ids, *_ in resumed.steps] == [ids for ids, *_ in plain.steps[rank.SAVED :]]
        weights = plain.ranks[0]["weights"]
        assert resumed.ranks[0]["weights"] == pytest.approx(weights, rel=1e-3, abs=1e-4)


@slow
def test_torchrun_starts_the_same_run(plain, tmp_path):
    out, folder = tmp_path / "of-RANK.json", tmp_path / "run"
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
        "-m", "tests.hf.rank", out, rank.STEP // 2, folder, "aware",
    ]  # fmt: skip
    ended = subprocess.run(
        [*map(str, command)], cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=250, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    files = [Path(str(out).replace("RANK", number)) for number in "01"]
    both = Run([json.loads(file.read_text(encoding="utf-8")) for file in files], "")
    require_the_same_samples(plain, both)
    require_the_same_steps(plain, both)
