"""A finished comparison, made once."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from maskwright.lab import compare as room
from maskwright.lab.config import Experiment
from tests.lab import tiny


@dataclass(frozen=True)
class Finished:
    experiment: Experiment
    out: Path
    results: dict[str, Any]


@pytest.fixture(scope="session", autouse=True)
def quick_collections() -> Iterator[None]:
    """Each training ends with a collection, which is slow with all that pytest has imported."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def text(tmp_path_factory) -> Path:
    return tiny.write_text(tmp_path_factory.mktemp("text") / "t.txt", tiny.sentences(90))


@pytest.fixture(scope="session")
def finished(text, tmp_path_factory) -> Finished:
    """Made by worker processes, as a user's is. Do not write to it."""
    out = tmp_path_factory.mktemp("finished") / "out"
    experiment = tiny.experiment(text)
    return Finished(experiment, out, room.compare(experiment, out, command="maskwright compare"))


@pytest.fixture
def here(monkeypatch) -> None:
    """Comparisons train in this process."""
    monkeypatch.setattr(room, "run_all", tiny.run_here)
