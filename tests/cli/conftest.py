"""The command, called in this process."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from maskwright.cli import main
from maskwright.lab import compare as room
from tests.lab import tiny


@dataclass(frozen=True)
class Ended:
    status: int
    out: str
    err: str


Command = Callable[..., Ended]


@pytest.fixture
def command(monkeypatch, capfd) -> Command:
    """Run ``maskwright`` with arguments; comparisons train in this process."""
    monkeypatch.setattr(room, "run_all", tiny.run_here)

    def run(*arguments: object, width: int = 100) -> Ended:
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setattr(sys, "argv", ["maskwright", *map(str, arguments)])
        status = 0
        try:
            main()
        except SystemExit as ended:
            status = int(ended.code or 0)
        printed = capfd.readouterr()
        return Ended(status, printed.out, printed.err)

    return run


@pytest.fixture(scope="session", autouse=True)
def quick_collections() -> Iterator[None]:
    """Each training ends with a collection, which is slow with all that pytest has imported."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def text(tmp_path_factory) -> Path:
    return tiny.write_text(tmp_path_factory.mktemp("text") / "t.txt", tiny.sentences(90))


@pytest.fixture
def file(text, tmp_path) -> Path:
    """A tiny experiment: one seed, one regime."""
    settings = tiny.settings(
        text, seeds=[0], regimes=[{"name": "a", "title": "Text", "tokens": 250, "steps": 2}]
    )
    path = tmp_path / "e.yaml"
    path.write_text(yaml.safe_dump(settings), "utf-8")
    return path
