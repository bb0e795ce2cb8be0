"""Results are files: written whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from maskwright.errors import ResultsError, SaveError


def write_json(path: Path, value: Any) -> Path:
    """Writes ``value`` to a temporary name beside ``path`` and renames it.

    Raises:
        SaveError: it cannot be written; what stood at ``path`` before still stands.
    """
    return write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> Path:
    """`write_json`, for text."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise SaveError(
            f"{path} cannot be written: {error.strerror or error}. Free some space or choose "
            "another folder with --out; nothing was left half-written."
        ) from None
    return path


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
