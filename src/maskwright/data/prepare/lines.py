"""Lines of a part of a file, as bytes and as text."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from maskwright.errors import DataError

_BOM = b"\xef\xbb\xbf"


def lines_of(file: IO[bytes], start: int, stop: int) -> Iterator[tuple[int, bytes]]:
    r"""Each line that begins in bytes ``start`` to ``stop - 1``, with where it begins.

    It ends with its ``\n``; only the last line of a file may have none.
    """
    file.seek(start)
    while start < stop and (line := file.readline()):
        yield start, line
        start += len(line)


def as_text(line: bytes, place: str, start: int) -> str:
    r"""The line as text, with ``\n`` for ``\r\n`` and without the mark that a file may begin with.

    Raises:
        DataError: it is not UTF-8.
    """
    if start == 0:
        line = line.removeprefix(_BOM)
    try:
        return line.replace(b"\r\n", b"\n").decode()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{place}, in the line at byte {start}: 0x{error.object[error.start]:02x} is not "
            "UTF-8. Convert the file first, for example with iconv -f LATIN1 -t UTF-8."
        ) from None


@contextmanager
def csv_limit() -> Iterator[None]:
    """Fields of up to 1 GiB; the 128 KiB that `csv` allows are less than a document."""
    limit = csv.field_size_limit(1 << 30)
    try:
        yield
    finally:
        csv.field_size_limit(limit)
