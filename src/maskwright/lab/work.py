"""A piece of work of an experiment: what the pool and the display know of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from maskwright.lab.files import read_json


class Work(Protocol):
    """A training run, or the fine-tuning of what it made."""

    @property
    def name(self) -> str:
        """For people; unique in its experiment."""
        ...

    @property
    def spec(self) -> dict[str, Any]:
        """All that the result depends on, as JSON."""
        ...

    @property
    def result(self) -> Path:
        """The file that is written last: with it, the work is done."""
        ...

    @property
    def needs(self) -> Path | None:
        """The result of other work that must be done before."""
        ...

    @property
    def total_steps(self) -> int:
        """Optimiser steps in all."""
        ...

    @property
    def measure(self) -> str:
        """What is told of it while it goes on: ``loss``, ``accuracy``."""
        ...


def finished(work: Work) -> dict[str, Any] | None:
    """The result of work that was done before, with the same spec."""
    if not work.result.is_file():
        return None
    result = read_json(work.result)
    return result if isinstance(result, dict) and result.get("spec") == work.spec else None
