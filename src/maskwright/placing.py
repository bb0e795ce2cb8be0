"""How a file is put in its place: whole, or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from maskwright.errors import SaveError


@contextmanager
def placing(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path``, which is renamed to it at the end. Its folder is made.

    Whoever writes to it brings the file to the disk (``os.fsync``) where a failing power supply
    matters.

    Raises:
        SaveError: it cannot be written; what stood at ``path`` before still stands.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise SaveError(
            f"{path} cannot be written: {error.strerror or error}. Free some space or choose "
            "another folder; nothing was left half-written."
        ) from error
    finally:
        with suppress(OSError):  # whatever stopped the writing may stop this as well
            temporary.unlink()


def place_bytes(path: Path, content: bytes) -> Path:
    """Writes a file, and brings it to the disk.

    Raises:
        SaveError: as `placing`.
    """
    with placing(path) as temporary, temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return path
