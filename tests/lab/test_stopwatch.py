"""Two clocks of a training: what they count, what a resume keeps, and which of them is matched."""

from __future__ import annotations

import time
from typing import Any

import pytest

from maskwright.lab import stopwatch as room
from maskwright.lab.files import read_json, write_json
from maskwright.lab.matched import matched_differences
from maskwright.lab.recorder import RECORD_FILE, Recorder
from maskwright.lab.stopwatch import Stopwatch


class Clocks:
    """Two hands that a test moves."""

    def __init__(self) -> None:
        self.wall = self.cpu = 100.0

    def perf_counter(self) -> float:
        return self.wall

    def process_time(self) -> float:
        return self.cpu

    def move(self, wall: float, cpu: float) -> None:
        self.wall, self.cpu = self.wall + wall, self.cpu + cpu


@pytest.fixture
def clocks(monkeypatch) -> Clocks:
    made = Clocks()
    monkeypatch.setattr(room, "time", made)
    return made


def test_it_counts_while_it_runs(clocks):
    watch = Stopwatch()
    clocks.move(5, 5)
    assert watch.read() == {"seconds": 0, "cpu_seconds": 0}
    watch.start()
    clocks.move(4, 3)
    assert watch.read() == {"seconds": 4, "cpu_seconds": 3}
    clocks.move(2, 1)
    watch.stop()
    clocks.move(50, 50)
    watch.stop()
    assert watch.read() == {"seconds": 6, "cpu_seconds": 4}
    watch.start()
    clocks.move(1, 0)
    watch.start()  # begun anew: what was not stopped is not counted
    clocks.move(0, 2)
    assert watch.read() == {"seconds": 6, "cpu_seconds": 6}


def test_processor_seconds_leave_out_waiting():
    watch = Stopwatch()
    watch.start()
    time.sleep(0.2)
    found = watch.read()
    assert found["seconds"] >= 0.2
    assert found["cpu_seconds"] < 0.1


class Still:
    """What a recorder asks of others, where nothing happens."""

    tokens_seen = predicted_tokens = 0

    def save(self, folder: Any) -> None: ...
    def restore(self, folder: Any) -> None: ...


def recorder() -> Recorder:
    still: Any = Still()
    made = Recorder({}, still, still, lambda step, loss: None)
    made.trainer = still
    return made


def test_a_resume_goes_on_with_both(clocks, tmp_path):
    folder = tmp_path / "checkpoint-3"
    folder.mkdir()
    args, state = (type("Any", (), values)() for values in (
        {"output_dir": str(tmp_path)}, {"global_step": 3}
    ))  # fmt: skip
    first = recorder()
    first.watch.start()
    clocks.move(7, 6)
    first.on_save(args, state, None)
    again = recorder()
    again.restore(folder)
    again.on_train_begin(args, state, None)
    clocks.move(1, 1)
    assert again.watch.read() == {"seconds": 8, "cpu_seconds": 7}
    record = read_json(folder / RECORD_FILE)
    del record["cpu_seconds"]  # as an older version wrote it
    write_json(folder / RECORD_FILE, record)
    old = recorder()
    old.restore(folder)
    assert old.watch.read() == {"seconds": 7, "cpu_seconds": 0}


# -- which is matched ------------------------------------------------------------------------


def run(losses, wall, cpu, device="cpu") -> dict[str, Any]:
    steps = range(len(losses))
    return {
        "device": device,
        "history": [{"step": s, "loss": losses[s], "predicted": s} for s in steps],
        "timing": [{"step": s, "seconds": wall * s, "cpu_seconds": cpu * s} for s in steps],
    }


def matched(*others) -> dict[str, Any]:
    runs = {
        "dynamic": [run([4, 3, 2], 1.0, 1.0)] * len(others),
        # as fast as dynamic, on a machine that did something else besides
        "other": list(others),
    }
    _, found = matched_differences("dynamic", runs)
    return found


def test_processor_seconds_are_matched_where_every_run_has_them():
    found = matched(run([4, 2, 1], 9.0, 1.0), run([4, 2, 1], 2.0, 1.0))
    assert (found["by"], found["clock"], found["spent"]) == ("seconds", "processor", 2)
    assert found["per_seed"] == [-1, -1]


def test_elsewhere_the_wall_clock_is():
    old = run([4, 2, 1], 2.0, 1.0)
    del old["timing"][1]["cpu_seconds"]
    unknown = run([4, 2, 1], 2.0, 1.0)
    del unknown["device"]
    for one in (old, unknown, run([4, 2, 1], 2.0, 1.0, "cuda")):
        found = matched(one, run([4, 2, 1], 2.0, 1.0))
        assert (found["by"], found["clock"], found["spent"]) == ("seconds", "wall", 2)
        assert found["per_seed"] == [0, 0]
