"""Results are files and folders: written whole or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from maskwright.errors import ResultsError, SaveError
from maskwright.placing import place_bytes, why_not_written


def write_json(path: Path, value: Any) -> Path:
    """Writes ``value`` to a temporary name beside ``path`` and renames it.

    Raises:
        SaveError: it cannot be written; what stood at ``path`` before still stands.
    """
    return write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> Path:
    """`write_json`, for text."""
    return place_bytes(path, text.encode())


def write_folder(path: Path, fill: Callable[[Path], None]) -> Path:
    """Fills a temporary folder beside ``path`` and renames it; what stood there before is replaced.

    Raises:
        SaveError: it cannot be written; what stood at ``path`` before still stands.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with saving(path):
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            fill(temporary)
            shutil.rmtree(path, ignore_errors=True)
            temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return path


@contextmanager
def saving(path: Path) -> Iterator[None]:
    """Within it, whatever a library raises on a full disk is a `SaveError` that names ``path``."""
    try:
        yield
    except Exception as error:
        reason = None if isinstance(error, SaveError) else why_not_written(error)
        if reason is None:
            raise
        raise SaveError(
            f"{path} cannot be written: {reason}. Free some space and give the same command "
            "again; what was finished is kept, and nothing was left half-written."
        ) from None


def read_json(path: Path) -> Any:
    """Reads what `write_json` wrote.

    Raises:
        ResultsError: there is no such file, or it is damaged.
    """
    try:
        return json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ResultsError(f"{path} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise ResultsError(
            f"{path} is damaged ({error}). Delete it, and run the same command again."
        ) from None
