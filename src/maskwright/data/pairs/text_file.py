"""The text of a file of sentences, in which bytes that are not UTF-8 stay recognisable.

One bad line of a million must neither hide the others nor slip through, so nothing is refused
here: bytes that are not UTF-8 become lone surrogates, and `stray_byte` finds them in a cell.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from maskwright.errors import DataError

_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def read_text(path: Path) -> str:
    """The whole file, of ``.gz`` what is inside; its lines end as on Unix.

    Raises:
        DataError: it cannot be read, is damaged, or is UTF-16.
    """
    try:
        data = path.read_bytes()
        if path.suffix.lower() == ".gz":
            data = gzip.decompress(data)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is not a whole gzip file ({error}). Fetch it again.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}).") from None
    if data.startswith(_UTF16):
        raise DataError(
            f"{path} is UTF-16, and text is read as UTF-8. Convert the file first: "
            f"iconv -f UTF-16 -t UTF-8 {path.name}"
        )
    text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    return text.replace("\r\n", "\n")


def lines_of(text: str) -> list[str]:
    """Its lines without their ends; only a line feed ends a line, and the last may lack it."""
    return text.removesuffix("\n").split("\n")


def stray_byte(text: str) -> str | None:
    """What is wrong with the encoding of a cell, as a sentence's end; ``None`` if nothing."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        if 0xDC80 <= code <= 0xDCFF:  # as surrogateescape writes a byte
            return (
                f"has the byte 0x{code - 0xDC00:02x}, which is not UTF-8 there: convert the file, "
                "for example with iconv -f LATIN1 -t UTF-8"
            )
        return "has half of a surrogate pair, which is no character"
    return None
