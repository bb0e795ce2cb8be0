"""A comparison that takes seconds: a text of a hundred made sentences, and a model of one layer."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from maskwright.lab import pool
from maskwright.lab.config import Experiment, parse
from maskwright.lab.run import Job

WORDS = (
    "the", "of", "and", "to", "in", "nation", "people", "war", "peace", "congress", "state", "law",
    "year", "great", "power", "tax", "trade", "army",
)  # fmt: skip
SEEDS = (0, 1)
POLICIES = ("static", "dynamic")


def sentences(number: int, length: int = 40, start: int = 0) -> list[str]:
    """Documents of ``length`` words that all differ."""
    return [
        " ".join(WORDS[(7 * k * k + (3 + row) * k + row) % len(WORDS)] for k in range(length))
        + f" {row}."
        for row in range(start, start + number)
    ]


def write_text(path: Path, documents: Iterable[str]) -> Path:
    path.write_text("\n\n".join(documents) + "\n", "utf-8")
    return path


def settings(text: Path, **changes: Any) -> dict[str, Any]:
    """Two policies, two seeds, a warm-up and two regimes: ten runs of at most twelve steps."""
    return {
        "name": "tiny",
        "data": {"source": str(text), "vocabulary_size": 80, "max_length": 32},
        "model": {"layers": 1, "width": 32, "heads": 2, "intermediate": 32},
        "training": {"batch_size": 4, "warmup_steps": 2},
        "policies": {
            "static": {"rate": 0.3, "refresh": "static"},
            "dynamic": {"rate": 0.3, "refresh": "dynamic"},
        },
        "warmup": {"steps": 4},
        "regimes": [
            {"name": "once", "title": "Text seen once", "tokens": 800, "epochs": 1},
            {"name": "often", "title": "Text seen often", "tokens": 250, "steps": 12},
        ],
        "seeds": list(SEEDS),
        "evaluation": {"tokens": 500, "every": 5},
        "workers": 1,
    } | changes


def experiment(text: Path, **changes: Any) -> Experiment:
    return parse(settings(text, **changes))


def run_here(
    jobs: Iterable[Job],
    done: set[str],
    shared: pool.Shared,
    *,
    workers: int,
    tell: Callable[[pool.Event], None],
) -> None:
    """`pool.run_all` without processes, which take seconds to start."""
    waiting = [job for job in jobs if job.name not in done]
    if waiting:
        pool._open(shared, queue.Queue())
    for job in waiting:
        pool._work(job)
        tell(pool.Event(job, job.total_steps, done=True))


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below a folder: when it was written, and what is in it."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def half_written(folder: Path) -> list[str]:
    """Temporary files and folders that somebody left behind."""
    return [str(path) for path in folder.rglob("*") if path.name.endswith(".tmp")]
