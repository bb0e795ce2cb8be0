"""Whatever stops a comparison, the same command goes on and ends with the same figures."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from maskwright.cli import main
from maskwright.data.table import TokenTable
from maskwright.errors import ConfigError
from maskwright.lab import compare as room
from maskwright.lab.jobs import plan_jobs
from maskwright.lab.preparation import prepare
from maskwright.lab.run import RUN_FILE, execute, last_checkpoint
from tests.lab import tiny

ROOT = Path(__file__).parents[2]


def finals(results):
    return [
        (run["history"], run["final"])
        for regime in results["regimes"]
        for policy in regime["policies"]
        for run in policy["runs"]
    ]


def experiment_file(path, text, **changes):
    path.write_text(yaml.safe_dump(tiny.settings(text, **changes)), "utf-8")
    return path


def alive(pid):
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def children_of(pid):
    found = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    )
    return [int(line) for line in found.stdout.split()]


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_killed_in_the_middle_and_continued(text, finished, tmp_path, here):
    out = tmp_path / "out"
    file = experiment_file(tmp_path / "e.yaml", text)
    process = subprocess.Popen(
        [sys.executable, "-m", "maskwright.cli", "compare", str(file), "--out", str(out)],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while len(list(out.glob(f"runs/*/*/*/{RUN_FILE}"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.005)
    workers = children_of(process.pid)
    process.kill()
    process.wait()
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert workers
    assert not any(map(alive, workers))  # a killed comparison leaves no worker behind

    whole = [path.parent for path in out.glob(f"*/**/{RUN_FILE}") if ".tmp" not in str(path)]
    before = {folder: tiny.contents(folder) for folder in whole}
    assert 4 <= len(before) < 10
    assert not (out / "results.json").exists()
    results = room.compare(tiny.experiment(text), out)
    assert finals(results) == finals(finished.results)
    assert {folder: tiny.contents(folder) for folder in whole} == before
    assert tiny.half_written(out) == []


def test_ctrl_c_ends_workers_at_once_and_says_one_line(text, tmp_path, monkeypatch, capfd):
    """A run of minutes is going on when the signal comes."""
    from maskwright.cli.progress import Display

    out = tmp_path / "out"
    regimes = [{"name": "long", "tokens": 800, "steps": 100_000}]
    file = experiment_file(tmp_path / "e.yaml", text, regimes=regimes, warmup=None, seeds=[0])
    pids, stopped = [], []

    def interrupt(self, event):
        if event.step < 20 or stopped:
            return
        workers = multiprocessing.active_children()
        pids.extend(worker.pid for worker in workers)
        for worker in workers:  # a terminal sends it to all processes
            os.kill(worker.pid, signal.SIGINT)
        stopped.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Display, "event", interrupt)
    monkeypatch.setattr(sys, "argv", ["maskwright", "compare", str(file), "--out", str(out)])
    # a shell starts what runs in the background deaf to Ctrl-C
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(SystemExit) as ended:
            main()
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended.value.code == 130
    assert time.monotonic() - stopped[0] < 30  # of minutes that the run would take
    printed = capfd.readouterr()
    assert "Stopped. What was finished is kept; the same command goes on." in printed.err
    assert "Traceback" not in printed.out + printed.err
    assert pids
    assert multiprocessing.active_children() == []
    assert not (out / "results.json").exists()


# -- inside a run --------------------------------------------------------------------------


class Stop(Exception):
    pass


@pytest.fixture(scope="module")
def prepared(text):
    return prepare(tiny.experiment(text))


def job_of(text, prepared, folder, **changes):
    experiment = tiny.experiment(text, warmup=None, seeds=[3], **changes)
    _, [*_, job] = plan_jobs(experiment, prepared, folder)
    return job


def do(job, prepared, tell=lambda step, loss: None):
    table = TokenTable.open(prepared.train.path)
    return execute(job, table, prepared.tokenizer, prepared.evaluation, tell)


CHECKPOINTS = {"training": {"batch_size": 4, "warmup_steps": 2, "checkpoint_every": 4}}


@pytest.mark.parametrize("stop_at", [5, 10, 12])
def test_a_run_goes_on_from_its_checkpoint(text, prepared, tmp_path, stop_at):
    whole = do(job_of(text, prepared, tmp_path / "a", **CHECKPOINTS), prepared)
    job = job_of(text, prepared, tmp_path / "b", **CHECKPOINTS)

    def stop(step, loss):
        if step == stop_at:
            raise Stop

    with pytest.raises(Stop):
        do(job, prepared, stop)
    assert last_checkpoint(job.folder) == job.folder / "checkpoints" / (
        f"checkpoint-{(stop_at - 1) // 4 * 4}"
    )
    assert not (job.folder / RUN_FILE).exists()
    steps = []
    again = do(job, prepared, lambda step, loss: steps.append(step))
    assert min(steps) > 4  # it did not begin anew
    for key in ("history", "final", "documents"):
        assert again[key] == whole[key]
    for key in ("tokens", "predicted_tokens"):
        assert again["cost"][key] == whole["cost"][key]
    assert not (job.folder / "checkpoints").exists()


def test_a_checkpoint_that_was_cut_off_is_not_used(text, prepared, tmp_path):
    job = job_of(text, prepared, tmp_path / "a", **CHECKPOINTS)
    broken = job.folder / "checkpoints" / "checkpoint-8"
    broken.mkdir(parents=True)
    (broken / "trainer_state.json").write_text("{")
    steps = []
    do(job, prepared, lambda step, loss: steps.append(step))
    assert steps[0] == 0


def test_a_checkpoint_that_was_damaged_since_is_not_used(text, prepared, tmp_path):
    job = job_of(text, prepared, tmp_path / "a", **CHECKPOINTS)

    def stop(step, loss):
        if step == 10:
            raise Stop

    with pytest.raises(Stop):
        do(job, prepared, stop)
    last = last_checkpoint(job.folder)
    os.truncate(last / "optimizer.pt", 100)
    assert last_checkpoint(job.folder) == last  # without reading it
    steps = []
    do(job, prepared, lambda step, loss: steps.append(step))
    assert steps[0] == 0


def test_a_checkpoint_of_other_settings_is_refused(text, tmp_path, here, monkeypatch):
    experiment = tiny.experiment(text, warmup=None, seeds=[0], **CHECKPOINTS)
    real = tiny.pool.execute

    def stopping(*args):
        def tell(step, loss):
            if step == 10:
                raise Stop

        return real(*args[:-1], tell)

    monkeypatch.setattr(tiny.pool, "execute", stopping)
    with pytest.raises(Stop):
        room.compare(experiment, tmp_path / "out")
    before = tiny.contents(tmp_path / "out")
    other = tiny.experiment(text, warmup=None, seeds=[0], training={"checkpoint_every": 4})
    with pytest.raises(ConfigError, match=r"other settings \(training\.batch_size, "):
        room.compare(other, tmp_path / "out")
    assert tiny.contents(tmp_path / "out") == before


def test_a_run_whose_spec_was_changed_is_not_taken(text, prepared, tmp_path):
    job = job_of(text, prepared, tmp_path)
    do(job, prepared)
    assert room.is_done(job)
    other = replace(job, spec=job.spec | {"seed": 4})
    with pytest.raises(ConfigError, match=r"\(seed\)"):
        room.is_done(other)
    (job.folder / RUN_FILE).write_text(json.dumps(["something", "else"]))
    with pytest.raises(ConfigError, match="what is not recorded"):
        room.is_done(job)
