"""Where the files of a prepared folder are: in the folder, or fetched from a URL into a cache.

The cache holds whole shards, of bounded size together: before one is fetched, those that were used
longest ago make room for it. A shard that is mapped when it is removed stays readable until it is
let go. Several processes may share a cache: each file is put in its place whole.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from maskwright.data.cache import cache_root
from maskwright.data.places import is_url, open_binary
from maskwright.errors import CacheError, DataError
from maskwright.placing import placing

CACHE_BYTES = 20 << 30
_TRIES = 3


class ShardFiles(Protocol):
    """The files of one prepared folder. It pickles."""

    @property
    def place(self) -> str:
        """The path or the URL of the folder."""
        ...

    def manifest(self) -> bytes:
        """The content of its manifest; an `OSError` where there is none."""
        ...

    def local(self, shard: dict[str, Any]) -> Path:
        """The ``.arrow`` file of a shard, its note beside it, where they can be mapped."""
        ...


@dataclass(frozen=True)
class Folder:
    """Files that are where they can be mapped."""

    folder: Path

    @property
    def place(self) -> str:
        return str(self.folder)

    def manifest(self) -> bytes:
        return (self.folder / "manifest.json").read_bytes()

    def local(self, shard: dict[str, Any]) -> Path:
        return self.folder / f"{shard['name']}.arrow"


@dataclass(frozen=True)
class Fetched:
    """Files of a URL, in a cache.

    Args:
        url: of the prepared folder, without a slash at its end.
        cache: where shards are put, each named by its sum.
        limit: bytes of all shards in it.
    """

    url: str
    cache: Path
    limit: int

    @property
    def place(self) -> str:
        return self.url

    def manifest(self) -> bytes:
        try:
            with open_binary(f"{self.url}/manifest.json") as file:
                return file.read()
        except DataError as error:
            raise OSError(str(error)) from None

    def local(self, shard: dict[str, Any]) -> Path:
        path = self.cache / f"{shard['name']}-{shard['sha256'][:16]}.arrow"
        for _ in range(_TRIES):  # another process may remove what this one is about to use
            with suppress(FileNotFoundError):
                os.utime(path.with_suffix(".json"))
                os.utime(path)  # used now
                return path
            self._make_room(shard["bytes"])
            self._fetch(f"{shard['name']}.json", path.with_suffix(".json"), shard["note"])
            self._fetch(f"{shard['name']}.arrow", path, shard["sha256"])
        return path

    def _fetch(self, name: str, path: Path, expected: str) -> None:
        with placing(path) as temporary:
            with open_binary(f"{self.url}/{name}") as source, temporary.open("wb") as file:
                shutil.copyfileobj(source, file, 1 << 20)
            with temporary.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != expected:
                raise CacheError(
                    f"{self.url}/{name} has sha256 {found}, not the {expected} of its manifest. It "
                    "is damaged, or came damaged: try again, then upload the folder again."
                )

    def _make_room(self, size: int) -> None:
        """Removes the shards that were used longest ago until ``size`` bytes more are allowed."""
        known = []
        for path in self.cache.glob("*.arrow"):
            with suppress(FileNotFoundError):
                known.append((path.stat().st_mtime_ns, path.stat().st_size, path))
        held = sum(bytes_ for _, bytes_, _ in known)
        for _, bytes_, path in sorted(known):
            if held + size <= self.limit:
                return
            path.unlink(missing_ok=True)
            path.with_suffix(".json").unlink(missing_ok=True)
            held -= bytes_


def shard_files(
    path: str | Path, cache_dir: str | Path | None = None, cache_bytes: int = CACHE_BYTES
) -> ShardFiles:
    """The files at a path or a URL; URLs share one cache of ``cache_bytes`` in ``cache_dir``."""
    if not is_url(str(path)):
        return Folder(Path(path).absolute())  # a worker may start in another folder
    return Fetched(str(path).rstrip("/"), cache_root(cache_dir) / "shards", cache_bytes)
