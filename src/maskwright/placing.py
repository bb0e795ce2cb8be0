"""How a file is put in its place: whole, or not at all."""

from __future__ import annotations

import os
import re
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


def sync_folder(folder: Path) -> None:
    """Brings to the disk which files a folder has; what they hold has a ``fsync`` of its own."""
    if os.name == "nt":  # it opens no folders, and writes their entries itself
        return
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def why_not_written(error: BaseException) -> str | None:
    """What stopped the writing, in words; None where the error is about something else."""
    if isinstance(error, OSError):
        return error.strerror
    # safetensors and tokenizers, in Rust, raise exceptions of their own; so does torch.save
    if found := re.search(r"\(os error (\d+)\)", str(error)):
        return os.strerror(int(found[1]))
    if isinstance(error, RuntimeError) and re.search(
        "PytorchStreamWriter|inline_contain", str(error)
    ):
        return "the file could not be written to its end (is the disk full?)"
    return None
