"""What a preparation is told, and what it tells."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from maskwright.data.prepare.pieces import PIECE_BYTES
from maskwright.errors import ConfigError, PolicyError, unknown

SHARD_TOKENS = 100_000_000
Format = Literal["arrow", "parquet"]
FORMATS: tuple[str, ...] = get_args(Format)


@dataclass(frozen=True)
class PhraseSettings:
    """As the arguments of `maskwright.corruption.learn_phrases` of the same names."""

    longest: int = 5
    size: int = 800_000
    min_count: int = 10

    def __post_init__(self) -> None:
        for name, least in (("longest", 2), ("size", 1), ("min_count", 1)):
            value = getattr(self, name)
            if value < least:
                raise PolicyError(f"PhraseSettings: {name} must be at least {least}, got {value}.")


@dataclass(frozen=True)
class Settings:
    """What decides the bytes of a prepared folder, but for its source and its tokenizer.

    Args:
        max_length: tokens in a sample at most, special tokens included.
        shard_tokens: tokens in a shard at most; each but the last is as full as its samples allow.
        deduplicate: keep the first only of documents that are equal but for white space.
        phrases: learn phrases, and count pairs of neighbours; None does neither.
        piece_bytes: of the source that are one task.
        format: of the shards. ``arrow`` is mapped where it lies; ``parquet`` takes less room, and
            other programs read it, but it is decoded into the cache before samples are taken.
    """

    max_length: int = 512
    shard_tokens: int = SHARD_TOKENS
    deduplicate: bool = True
    phrases: PhraseSettings | None = None
    piece_bytes: int = PIECE_BYTES
    format: Format = "arrow"

    def __post_init__(self) -> None:
        if self.shard_tokens < self.max_length:
            raise ConfigError(
                f"shard_tokens={self.shard_tokens} does not hold a sample of max_length="
                f"{self.max_length}. 100,000,000 is usual: shards of 300 MB."
            )
        if self.format not in FORMATS:
            raise ConfigError(unknown("format", self.format, FORMATS))
        if self.piece_bytes < 1:
            raise ConfigError(f"piece_bytes must be at least 1, got {self.piece_bytes}.")


@dataclass(frozen=True)
class Prepared:
    """What a preparation did.

    Args:
        folder: what `ShardedTable.open` reads.
        totals: ``documents_read``, ``empty``, ``duplicates``, ``documents``, ``samples``,
            ``tokens`` of the folder.
        shards: how many there are.
        written: how many of them were written by this call.
    """

    folder: Path
    totals: dict[str, Any]
    shards: int
    written: int
