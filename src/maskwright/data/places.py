"""Files by a path or by a URL: opened, measured and listed the same way.

A path is opened as it is. Whatever has ``://`` in it (``s3://…``, ``gs://…``, ``https://…``,
``memory://…``) goes through fsspec, whose own packages bring each protocol.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import IO, Any, cast

from maskwright.errors import DataError, MissingExtra

_BUFFER = 1 << 20


def is_url(place: str) -> bool:
    return "://" in place


def open_binary(place: str) -> IO[bytes]:
    """A file to read and to seek in.

    Raises:
        DataError: it cannot be opened.
    """
    try:
        if not is_url(place):
            return Path(place).expanduser().open("rb", buffering=_BUFFER)
        system, path = _system(place)
        return cast(IO[bytes], io.BufferedReader(system.open(path, "rb"), _BUFFER))
    except OSError as error:
        raise DataError(f"{place} cannot be read ({error.strerror or error}).") from None


def size_of(place: str) -> int:
    """Bytes of a file; a `DataError` where there is none."""
    try:
        if not is_url(place):
            return Path(place).expanduser().stat().st_size
        system, path = _system(place)
        return int(system.size(path))
    except OSError as error:
        raise DataError(f"{place} cannot be read ({error.strerror or error}).") from None


def exists(place: str) -> bool:
    if not is_url(place):
        return Path(place).expanduser().exists()
    system, path = _system(place)
    return bool(system.exists(path))


def is_folder(place: str) -> bool:
    if not is_url(place):
        return Path(place).expanduser().is_dir()
    system, path = _system(place)
    return bool(system.isdir(path))


def files_in(folder: str) -> list[str]:
    """The files right inside a folder, by name, each a path or URL of its own."""
    if not is_url(folder):
        inside = Path(folder).expanduser().iterdir()
        return sorted(str(path) for path in inside if path.is_file())
    system, path = _system(folder)
    found = [entry["name"] for entry in system.ls(path, detail=True) if entry["type"] == "file"]
    return sorted(system.unstrip_protocol(name) for name in found)


def _system(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path in it."""
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise MissingExtra("fsspec", "scale") from None
    protocol = url.partition("://")[0]
    try:
        return url_to_fs(url)
    except ImportError as error:
        raise DataError(f"{url}: {error}. That package reads {protocol}:// for fsspec.") from None
    except ValueError as error:
        raise DataError(f"{url} is no URL that fsspec reads ({error}).") from None
