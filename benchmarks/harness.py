"""Runs benchmarks, and records what they measured.

A benchmark is a module ``benchmarks/NAME.py`` with a one-line docstring, the claim, and one
function::

    def run(quick: bool) -> list[Row]: ...

which first checks that the things it compares give the same answer, and only then times them.
A row may carry a *bar*: the least ratio that the claim needs. A bar that is not held makes the
command exit 1, and is recorded all the same.

``benchmarks/results/NAME.json`` is the only source of the numbers that our documents show. A
``--quick`` run writes ``NAME.quick.json``, which git ignores, so it cannot replace them.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import importlib
import json
import math
import os
import platform
import shlex
import sys
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from maskwright.lab.bench.timing import time_interleaved as time_interleaved

RESULTS = Path(__file__).parent / "results"
RECORDED_PACKAGES = ("torch", "numpy", "numba", "transformers")
NOT_BENCHMARKS = frozenset({"harness", "document"})


@dataclass(frozen=True)
class Row:
    """One line of a result.

    ``ratio`` says how many times better ours is than the peer; ``held`` whether it reaches
    ``bar``. All three are None where there is nothing to compare with or nothing was claimed.
    """

    case: str
    ours: float
    peer: float | None
    ratio: float | None
    bar: float | None
    unit: str
    held: bool | None
    note: str = ""


def ratio_row(
    case: str,
    ours_seconds: float,
    peer_seconds: float,
    *,
    at_least: float | None = None,
    note: str = "",
) -> Row:
    """Compare two times; the ratio is peer / ours, so 2.0 means that ours takes half as long.

    Without ``at_least`` the row informs only.
    """
    for name, seconds in (("ours_seconds", ours_seconds), ("peer_seconds", peer_seconds)):
        if not (math.isfinite(seconds) and seconds > 0):
            raise ValueError(f"{case}: {name} is {seconds}; a measured time is finite and above 0")
    ratio = peer_seconds / ours_seconds
    held = None if at_least is None else ratio >= at_least
    return Row(case, ours_seconds, peer_seconds, ratio, at_least, "s", held, note)


# ------------------------------------------------------------------------- recording


def environment() -> dict[str, Any]:
    """What a reader needs to know to judge the numbers."""
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for package in RECORDED_PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": _processor(),
        "cores": _cores(),
        "versions": versions,
    }


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine() or "unknown"


def _cores() -> int:
    """The cores this process may use: in a container fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def record(
    name: str, claim: str, rows: Sequence[Row], *, quick: bool, command: str, results: Path
) -> Path:
    """Write one result: under another name first, so that a reader never meets half a file."""
    path = results / (f"{name}.quick.json" if quick else f"{name}.json")
    content = {
        "name": name,
        "claim": claim,
        "command": command,
        "quick": quick,
        **environment(),
        "rows": [asdict(row) for row in rows],
    }
    # NaN is not JSON, and a NaN is not a measurement.
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    results.mkdir(parents=True, exist_ok=True)
    unfinished = results / f".{path.name}.{os.getpid()}.tmp"
    try:
        unfinished.write_text(text, encoding="utf-8")
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


# -------------------------------------------------------------------------- printing

_COLUMNS = ("case", "ours", "peer", "ratio", "bar", "unit", "held", "note")


def _cells(row: Row) -> tuple[str, ...]:
    def number(value: float | None) -> str:
        return "–" if value is None else f"{value:.4g}"

    held = {True: "yes", False: "NO", None: "–"}[row.held]
    return (
        row.case,
        number(row.ours),
        number(row.peer),
        "–" if row.ratio is None else f"{row.ratio:.2f}×",
        "–" if row.bar is None else f"≥ {row.bar:g}×",
        row.unit,
        held,
        row.note,
    )


def print_rows(title: str, rows: Sequence[Row]) -> None:
    """A table: with rich where it is installed, plain elsewhere."""
    try:
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table
    except ModuleNotFoundError:
        print(plain_table(title, rows))
        return
    table = Table(title=escape(title), title_justify="left")
    for column in _COLUMNS:
        numeric = column in {"ours", "peer", "ratio", "bar"}
        table.add_column(column, justify="right" if numeric else "left")
    for row in rows:
        table.add_row(*map(escape, _cells(row)), style="bold red" if row.held is False else None)
    Console().print(table)


def plain_table(title: str, rows: Sequence[Row]) -> str:
    """The same table without rich."""
    lines = [_COLUMNS, *(_cells(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(_COLUMNS))]
    padded = (
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
    return "\n".join([title, *padded])


# --------------------------------------------------------------------------- running


def available(package: str = "benchmarks") -> list[str]:
    """The names of the benchmarks, in order."""
    directory = Path(next(iter(importlib.import_module(package).__path__)))
    return sorted(
        path.stem
        for path in directory.glob("*.py")
        if not path.stem.startswith("_")
        and not path.stem.endswith("_page")  # a page made of results
        and path.stem not in NOT_BENCHMARKS
    )


def run_one(name: str, *, quick: bool, package: str, results: Path) -> bool:
    """Run, print and record one benchmark; True if no bar was missed."""
    module = importlib.import_module(f"{package}.{name}")
    claim = _claim(module)
    rows = list(module.run(quick))
    if not rows:
        raise ValueError(f"{name}: run() returned no rows, so nothing was measured")
    command = shlex.join(["python", "-m", package, name, *(["--quick"] if quick else [])])
    print_rows(f"{name}: {claim}", rows)
    path = record(name, claim, rows, quick=quick, command=command, results=results)
    print(f"written: {os.path.relpath(path)}")
    missed = [row for row in rows if row.held is False]
    for row in missed:
        print(f"bar not held: {name}: {row.case}: {row.ratio} is below {row.bar}", file=sys.stderr)
    return not missed


def _claim(module: ModuleType) -> str:
    lines = (module.__doc__ or "").strip().splitlines()
    if not lines:
        raise ValueError(f"{module.__name__} has no docstring; its first line is the claim")
    return lines[0]


def main(
    argv: Sequence[str] | None = None, *, package: str = "benchmarks", results: Path = RESULTS
) -> int:
    """The command; returns 1 if a bar was missed or a benchmark broke, 2 for an unknown name."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {package}", description="Measure our claims, and record the numbers."
    )
    parser.add_argument("name", help="a benchmark's name, or: all, list")
    parser.add_argument(
        "--quick", action="store_true", help="small sizes; recorded apart, never as a result"
    )
    arguments = parser.parse_args(argv)

    names = available(package)
    if arguments.name == "list":
        for name in names:
            print(f"{name:<24} {_claim(importlib.import_module(f'{package}.{name}'))}")
        return 0
    if arguments.name != "all":
        if arguments.name not in names:
            print(_unknown(arguments.name, names), file=sys.stderr)
            return 2
        names = [arguments.name]

    failed = []
    for name in names:
        try:
            held = run_one(name, quick=arguments.quick, package=package, results=results)
        except Exception:  # one broken benchmark must not cost the others their run
            traceback.print_exc()
            print(f"{name}: broke, so nothing was recorded", file=sys.stderr)
            held = False
        if not held:
            failed.append(name)
    if failed:
        print(f"not held or broken: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _unknown(name: str, names: Sequence[str]) -> str:
    choices = [*names, "all", "list"]
    close = difflib.get_close_matches(name, choices, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"Unknown benchmark {name!r}.{hint} Available: {', '.join(choices)}."
