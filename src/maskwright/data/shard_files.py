"""Where the files of a prepared folder are: in the folder, or in a cache, fetched from a URL or
decoded from Parquet.

The cache holds whole shards, of bounded size together: before one is fetched, those that were used
longest ago make room for it. A shard that is mapped when it is removed stays readable until it is
let go. Several processes may share a cache: each file is put in its place whole.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from maskwright.data.cache import cache_root
from maskwright.data.parquet_shard import read_parquet
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


def shard_file(shard: dict[str, Any]) -> str:
    """The name of a shard's file in its folder."""
    return f"{shard['name']}.{'parquet' if is_parquet(shard) else 'arrow'}"


def is_parquet(shard: dict[str, Any]) -> bool:
    """Whether a shard of a manifest is no table that can be mapped."""
    return shard.get("format") == "parquet"


def mapped_bytes(shard: dict[str, Any]) -> int:
    """Of a shard where it can be mapped."""
    return shard.get("table_bytes", shard["bytes"])


@dataclass(frozen=True)
class Cache:
    """Shards on the local disk, each named by its sum.

    Args:
        folder: where they are.
        limit: bytes of all of them.
    """

    folder: Path
    limit: int

    def table(self, shard: dict[str, Any], make: Callable[[Path], Any]) -> Path:
        """The ``.arrow`` file of a shard; ``make`` puts it and its note there if it is missing."""
        path = self.folder / f"{shard['name']}-{shard['sha256'][:16]}.arrow"
        for _ in range(_TRIES):  # another process may remove what this one is about to use
            with suppress(FileNotFoundError):
                os.utime(path.with_suffix(".json"))
                os.utime(path)  # used now
                return path
            self._make_room(mapped_bytes(shard))
            make(path)
        return path

    def _make_room(self, size: int) -> None:
        """Removes the shards that were used longest ago until ``size`` bytes more are allowed."""
        known = []
        for path in self.folder.glob("*.arrow"):
            with suppress(FileNotFoundError):
                known.append((path.stat().st_mtime_ns, path.stat().st_size, path))
        held = sum(bytes_ for _, bytes_, _ in known)
        for _, bytes_, path in sorted(known):
            if held + size <= self.limit:
                return
            path.unlink(missing_ok=True)
            path.with_suffix(".json").unlink(missing_ok=True)
            held -= bytes_


@dataclass(frozen=True)
class Folder:
    """Files that are here. Shards that cannot be mapped are decoded into a cache."""

    folder: Path
    cache: Cache

    @property
    def place(self) -> str:
        return str(self.folder)

    def manifest(self) -> bytes:
        return (self.folder / "manifest.json").read_bytes()

    def local(self, shard: dict[str, Any]) -> Path:
        path = self.folder / shard_file(shard)
        if is_parquet(shard):
            return self.cache.table(shard, lambda target: read_parquet(path, target))
        return path


@dataclass(frozen=True)
class Fetched:
    """Files of a URL, in a cache.

    Args:
        url: of the prepared folder, without a slash at its end.
        cache: where shards are put.
    """

    url: str
    cache: Cache

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
        def make(path: Path) -> None:
            name, expected = shard_file(shard), shard["sha256"]
            if not is_parquet(shard):
                self._fetch(f"{shard['name']}.json", path.with_suffix(".json"), shard["note"])
                self._fetch(name, path, expected)
                return
            with placing(path.with_suffix(".parquet")) as temporary:
                self._check(name, temporary, expected)
                read_parquet(temporary, path)
            path.with_suffix(".parquet").unlink(missing_ok=True)

        return self.cache.table(shard, make)

    def _fetch(self, name: str, path: Path, expected: str) -> None:
        with placing(path) as temporary:
            self._check(name, temporary, expected)

    def _check(self, name: str, path: Path, expected: str) -> None:
        """Fetches a file to ``path``, and compares its sum."""
        with open_binary(f"{self.url}/{name}") as source, path.open("wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != expected:
            raise CacheError(
                f"{self.url}/{name} has sha256 {found}, not the {expected} of its manifest. It "
                "is damaged, or came damaged: try again, then upload the folder again."
            )


def shard_files(
    path: str | Path, cache_dir: str | Path | None = None, cache_bytes: int = CACHE_BYTES
) -> ShardFiles:
    """The files at a path or a URL, which share one cache of ``cache_bytes`` in ``cache_dir``."""
    cache = Cache(cache_root(cache_dir) / "shards", cache_bytes)
    if not is_url(str(path)):
        return Folder(Path(path).absolute(), cache)  # a worker may start in another folder
    return Fetched(str(path).rstrip("/"), cache)
