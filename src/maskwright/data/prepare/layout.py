"""What stands where in the folder that a preparation writes, and what a killed one left there.

    OUT/manifest.json         written last: with it, the folder is whole
    OUT/shard-00000.arrow     a `TokenTable`, with its note shard-00000.json
    OUT/shard-00000.parquet   in place of both, if asked for; the table is in work/ then
    OUT/statistics.bin        `TokenStatistics`
    OUT/phrases.npz           `Phrases`, if asked for
    OUT/splits.npy            where the hash of each kept document's text falls, float64 from 0 to
                              1, which says its split (`maskwright.data.splits`)
    OUT/dropped.npy           numbers of the documents that were dropped, int64, rising
    OUT/tokenizer/            the tokenizer, for `from_pretrained`
    OUT/work/                 until then: what each piece gave

A task is done when its record, ``work/NAME.json``, is there: it is written after all that the task
writes, and says what the next tasks need to know.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskwright.errors import ConfigError
from maskwright.placing import place_bytes

# as `placing`, `TableWriter` and `place_folder` name what they have not finished
_UNFINISHED = re.compile(r"\..+\.\d+\.[0-9a-f]{8}(\.\w+)?")


@dataclass(frozen=True)
class Layout:
    """The paths in the folder ``out``."""

    out: Path

    @property
    def manifest(self) -> Path:
        return self.out / "manifest.json"

    @property
    def statistics(self) -> Path:
        return self.out / "statistics.bin"

    @property
    def phrases(self) -> Path:
        return self.out / "phrases.npz"

    @property
    def dropped(self) -> Path:
        return self.out / "dropped.npy"

    @property
    def splits(self) -> Path:
        return self.out / "splits.npy"

    @property
    def tokenizer(self) -> Path:
        return self.out / "tokenizer"

    @property
    def work(self) -> Path:
        return self.out / "work"

    def shard(self, number: int, format: str = "arrow") -> Path:
        return self.out / f"{shard_name(number)}.{format}"

    def shard_table(self, number: int, format: str) -> Path:
        """The `TokenTable` of a shard; of one in Parquet only while the folder is made."""
        if format == "arrow":
            return self.shard(number)
        # not named as the shard: its note would be the record of the task
        return self.work / f"table-{number:05d}.arrow"

    def digests(self, piece: int) -> Path:
        return self.work / f"digests-{piece:06d}.npy"

    def chunk(self, piece: int) -> Path:
        """The samples of a piece, a `TokenTable`."""
        return self.work / f"chunk-{piece:06d}.arrow"

    def places(self, piece: int) -> Path:
        """Of the documents of a piece that are kept, their part of `splits`."""
        return self.work / f"splits-{piece:06d}.npy"

    def counts(self, piece: int) -> Path:
        return self.work / f"counts-{piece:06d}.bin"

    def record(self, task: str) -> dict[str, Any] | None:
        """What a finished task said; None of one that is not finished."""
        try:
            return json.loads((self.work / f"{task}.json").read_text("utf-8"))
        except (OSError, ValueError):
            return None

    def finish(self, task: str, record: dict[str, Any]) -> dict[str, Any]:
        """Says that a task is done."""
        place_bytes(self.work / f"{task}.json", json.dumps(record, sort_keys=True).encode())
        return record

    def sweep(self) -> None:
        """Removes what a killed preparation had begun to write."""
        for folder in (self.out, self.work):
            for path in folder.iterdir() if folder.is_dir() else ():
                if _UNFINISHED.fullmatch(path.name):
                    if path.is_dir():
                        shutil.rmtree(path, ignore_errors=True)
                    else:
                        path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """The folder for one preparation at a time; the lock of a killed one is gone with it.

        Raises:
            ConfigError: another one has it.
        """
        try:
            import fcntl
        except ImportError:  # Windows: nobody is kept out
            yield
            return
        with (self.work / ".lock").open("wb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise ConfigError(
                    f"Another preparation is writing to {self.out}. Wait for it, end it, or choose "
                    "another folder."
                ) from None
            yield


def shard_name(number: int) -> str:
    return f"shard-{number:05d}"


def sha256_of(path: Path) -> str:
    """Of a file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
