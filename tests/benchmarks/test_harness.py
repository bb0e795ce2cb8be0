"""The harness: a missed bar fails, a result is whole or absent, a quick run replaces nothing."""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from pathlib import Path

import pytest

from benchmarks import harness
from benchmarks.harness import Row, ratio_row, time_interleaved

_names = itertools.count()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty package of benchmarks, under a name not imported before."""
    name = f"fake_benchmarks_{next(_names)}"
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    for module in [m for m in sys.modules if m.split(".")[0] == name]:
        del sys.modules[module]


@pytest.fixture
def add(tmp_path: Path, package: str):
    def write(name: str, body: str, claim: str = "Ours is faster.") -> None:
        text = f'"""{claim}"""\nfrom benchmarks.harness import Row, ratio_row\n{body}\n'
        (tmp_path / package / f"{name}.py").write_text(text)

    return write


@pytest.fixture
def main(tmp_path: Path, package: str):
    return lambda *argv: harness.main(argv, package=package, results=tmp_path / "results")


def rows(text: str) -> str:
    return f"def run(quick):\n    return [{text}]"


HELD = rows("ratio_row('a', 1.0, 3.0, at_least=2.0)")
MISSED = rows("ratio_row('a', 1.0, 3.0, at_least=2.0), ratio_row('b', 1.0, 1.5, at_least=2.0)")


def test_a_bar_that_is_held_exits_0(add, main):
    add("speed", HELD)
    assert main("speed") == 0


def test_a_bar_that_is_missed_exits_1_and_is_recorded(add, main, tmp_path, capsys):
    add("speed", MISSED)
    assert main("speed") == 1
    assert "bar not held: speed: b: 1.5 is below 2.0" in capsys.readouterr().err
    written = json.loads((tmp_path / "results" / "speed.json").read_text())
    assert [row["held"] for row in written["rows"]] == [True, False]


def test_the_recorded_file_says_what_ran_where_and_when(add, main, package, tmp_path):
    add("speed", HELD)
    main("speed")
    written = json.loads((tmp_path / "results" / "speed.json").read_text())
    assert list(written) == [
        "name",
        "claim",
        "command",
        "quick",
        "date",
        "processor",
        "cores",
        "versions",
        "rows",
    ]
    assert written["claim"] == "Ours is faster."
    assert written["command"] == f"python -m {package} speed"
    assert written["quick"] is False
    assert written["cores"] >= 1
    assert written["processor"]
    assert set(written["versions"]) == {"python", "torch", "numpy", "numba", "transformers"}
    assert written["rows"] == [
        {
            "case": "a",
            "ours": 1.0,
            "peer": 3.0,
            "ratio": 3.0,
            "bar": 2.0,
            "unit": "s",
            "held": True,
            "note": "",
        }
    ]


def test_a_quick_run_leaves_the_recorded_result_alone(add, main, tmp_path):
    add("speed", "def run(quick):\n    return [Row('q', float(quick), *[None] * 3, 's', None)]")
    main("speed")
    recorded = (tmp_path / "results" / "speed.json").read_bytes()
    main("speed", "--quick")
    assert (tmp_path / "results" / "speed.json").read_bytes() == recorded
    quick = json.loads((tmp_path / "results" / "speed.quick.json").read_text())
    assert (quick["quick"], quick["rows"][0]["ours"]) == (True, 1.0)


@pytest.mark.parametrize("broken", ["replace", "write"])
def test_nothing_half_written_is_left(add, main, tmp_path, monkeypatch, broken):
    add("speed", HELD)
    main("speed")
    recorded = (tmp_path / "results" / "speed.json").read_bytes()

    def fail(*_args, **_kwargs):
        raise OSError("the disk is full")

    def write_half(path, text, **_kwargs):
        path.write_bytes(text.encode()[:20])
        fail()

    if broken == "replace":
        monkeypatch.setattr(os, "replace", fail)
    else:
        monkeypatch.setattr(Path, "write_text", write_half)
    assert main("speed") == 1
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["speed.json"]
    assert (tmp_path / "results" / "speed.json").read_bytes() == recorded


@pytest.mark.parametrize(
    "body",
    [
        "def run(quick):\n    assert [1] == [2], 'the two disagree'",
        "def run(quick):\n    return []",
        rows("Row('nan', float('nan'), None, None, None, 's', None)"),
    ],
    ids=["incorrect", "no rows", "nan"],
)
def test_a_benchmark_that_breaks_exits_1_and_records_nothing(add, main, tmp_path, body):
    add("speed", body)
    assert main("speed") == 1
    assert list(tmp_path.glob("results/*")) == []


def test_all_runs_the_rest_after_one_breaks(add, main, tmp_path, capsys):
    add("a_broken", "def run(quick):\n    raise RuntimeError('broken')")
    add("b_fine", HELD)
    add("_private", "")
    assert main("all") == 1
    assert "not held or broken: a_broken\n" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["b_fine.json"]


def test_list_prints_each_claim(add, main, capsys):
    add("speed", HELD)
    assert main("list") == 0
    assert capsys.readouterr().out.split() == ["speed", "Ours", "is", "faster."]


def test_an_unknown_name_gets_a_suggestion(add, main, capsys):
    add("speed", HELD)
    assert main("sped") == 2
    assert capsys.readouterr().err == (
        "Unknown benchmark 'sped'. Did you mean 'speed'? Available: speed, all, list.\n"
    )


def test_the_harness_is_not_a_benchmark():
    assert "harness" not in harness.available()


def test_ratio_row_is_peer_over_ours():
    assert ratio_row("x", 0.5, 2.0, at_least=4.0).held is True
    assert ratio_row("x", 0.5, 2.0, at_least=4.1).held is False
    informs = ratio_row("x", 0.5, 2.0)
    assert (informs.ratio, informs.bar, informs.held) == (4.0, None, None)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_a_time_that_cannot_be_is_refused(seconds):
    with pytest.raises(ValueError, match="finite and above 0"):
        ratio_row("x", seconds, 1.0)


def test_rounds_are_interleaved_and_turn():
    called = []
    functions = {name: lambda name=name: called.append(name) for name in "ab"}
    seconds = time_interleaved(functions, repeats=3, min_seconds=0.0)
    assert set(seconds) == {"a", "b"}
    assert all(value > 0 for value in seconds.values())
    # one warm-up and one calibration each, then the rounds
    assert "".join(called) == "aabb" + "ab" + "ba" + "ba"


def test_none_is_always_first_or_always_after_the_same():
    called = []
    functions = {name: lambda name=name: called.append(name) for name in "abc"}
    time_interleaved(functions, repeats=6, min_seconds=0.0)
    rounds = ["".join(called[start : start + 3]) for start in range(6, 24, 3)]
    assert rounds == ["abc", "cba", "bca", "acb", "cab", "bac"]


def test_pairs_of_a_round_are_compared_when_the_machine_drifts(monkeypatch):
    # each round is slower than the one before; b takes twice as long as a, once three times
    now, calls, costs = 0.0, itertools.count(), iter([2.0, 2.0, 2.0, 3.0, 2.0] * 2)

    def spend(seconds: float) -> None:
        nonlocal now
        now += seconds * 2.0 ** (next(calls) // 2)

    monkeypatch.setattr(time, "perf_counter", lambda: now)
    functions = {"a": lambda: spend(1.0), "b": lambda: spend(next(costs))}
    # warm-up and calibration are two calls each, then rounds at 4, 8 and 16 times the first
    seconds = time_interleaved(functions, repeats=3, min_seconds=0.0, against="a")
    assert seconds == {"a": 8.0, "b": 16.0}
    calls = itertools.count()
    assert time_interleaved(functions, repeats=3, min_seconds=0.0) == {"a": 8.0, "b": 24.0}
    with pytest.raises(ValueError, match="against is 'c'"):
        time_interleaved(functions, against="c")


def test_a_short_function_is_called_often_enough():
    calls = itertools.count()
    time_interleaved({"short": lambda: next(calls)}, repeats=1, min_seconds=0.01)
    assert next(calls) > 100


def test_one_thread_while_timing_and_the_old_number_after():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        during = []
        time_interleaved(
            {"x": lambda: during.append(torch.get_num_threads())}, repeats=1, min_seconds=0.0
        )
        assert set(during) == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_nothing_to_time_is_an_error():
    with pytest.raises(ValueError, match="nothing to time"):
        time_interleaved({})


def test_the_plain_table_marks_a_missed_bar():
    table = harness.plain_table("t", [Row("a", 1.0, 1.5, 1.5, 2.0, "s", False)])
    assert table.splitlines()[2].split() == ["a", "1", "1.5", "1.50×", "≥", "2×", "s", "NO"]
