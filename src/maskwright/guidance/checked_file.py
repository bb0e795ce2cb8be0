"""Files that are written whole or not at all, and that know when they are damaged.

``magic (8 bytes) · SHA-256 of the payload (32 bytes) · payload``. A file is filled under another
name, brought to the disk and renamed, so at its own name there is always one that was finished.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from maskwright.errors import CacheError
from maskwright.placing import placing

_MAGIC = b"MWCHECK1"
_DIGEST = 32
_CHUNK = 1 << 20


class Sink:
    """What a payload is written to; it keeps the sum as it goes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def write(self, data: bytes | memoryview) -> int:
        self.digest.update(data)
        return self._file.write(data)


def write_checked(path: Path, fill: Callable[[Sink], None]) -> None:
    """Writes what ``fill`` writes, with its checksum; what stood there before is replaced."""
    with placing(path) as temporary, temporary.open("wb") as file:
        file.write(_MAGIC + bytes(_DIGEST))
        sink = Sink(file)
        fill(sink)
        file.seek(len(_MAGIC))
        file.write(sink.digest.digest())
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def read_checked(path: Path, remedy: str) -> Iterator[IO[bytes]]:
    """The file at the start of its payload, after all of it has been checked.

    Raises:
        CacheError: it is missing or damaged; the message ends with ``remedy``.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise CacheError(f"{path} cannot be read ({error.strerror}). {remedy}") from None
    with file:
        head = file.read(len(_MAGIC) + _DIGEST)
        digest = hashlib.sha256()
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
        if head != _MAGIC + digest.digest():
            raise CacheError(f"{path} is damaged: its checksum does not fit. {remedy}")
        file.seek(len(head))
        yield file
