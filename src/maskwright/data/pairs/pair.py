"""Pair: a sentence and its translation, and where it was read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple


class Pair(NamedTuple):
    """One pair of sentences.

    Args:
        source, target: text of one line each, not empty.
        line: where the pair begins in its file, from 1.
    """

    source: str
    target: str
    line: int


class BadLine(NamedTuple):
    """A line that gives no pair.

    Args:
        line: from 1.
        why: what is wrong with it and what the rule is, as a sentence's end: "has no …".
    """

    line: int
    why: str


@dataclass(frozen=True)
class Pairs:
    """The pairs of one source in its order; no pair twice. All are in memory.

    Args:
        name: how it was asked for.
        licence: of the text, in words.
        pairs: lines never fall.
        skipped: the bad lines that were skipped because that was asked for.
        duplicates: how many pairs were dropped because an equal one came before.
    """

    name: str
    licence: str
    pairs: tuple[Pair, ...]
    skipped: tuple[BadLine, ...] = ()
    duplicates: int = 0

    def __len__(self) -> int:
        return len(self.pairs)

    def __iter__(self) -> Iterator[Pair]:
        return iter(self.pairs)

    def __repr__(self) -> str:
        return f"Pairs({self.name!r}, {len(self):,} pairs)"

    @property
    def notes(self) -> tuple[str, ...]:
        """What was dropped, one sentence each, for people to read."""
        notes = []
        if self.duplicates:
            notes.append(f"Exact duplicates dropped: {self.duplicates:,}.")
        if self.skipped:
            first = "; ".join(f"line {line} {why}" for line, why in self.skipped[:3])
            more = "; …" if len(self.skipped) > 3 else ""
            notes.append(f"Bad lines skipped: {len(self.skipped):,} ({first}{more}).")
        return tuple(notes)


def fingerprint(pairs: Iterable[Pair]) -> str:
    """sha256 of the sentences of ``pairs`` in their order, 64 hex digits."""
    digest = hashlib.sha256()
    for pair in pairs:
        for text in (pair.source, pair.target):
            data = text.encode()
            digest.update(len(data).to_bytes(8, "little"))  # so that borders count
            digest.update(data)
    return digest.hexdigest()
