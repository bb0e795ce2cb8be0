"""What a worker does: read a piece, tokenise a piece, write a shard.

A task that has a record is not done again. What a task gives depends on its own fields and on the
files of earlier tasks, never on who does it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from maskwright.data.corpus import add_documents, knows_words
from maskwright.data.parquet_shard import write_parquet
from maskwright.data.prepare.documents import documents_of
from maskwright.data.prepare.duplicates import digest, digest_run
from maskwright.data.prepare.layout import Layout, sha256_of, shard_name
from maskwright.data.prepare.pieces import Piece, Source
from maskwright.data.prepare.runs import save_run
from maskwright.data.shard_files import is_parquet, shard_file
from maskwright.data.splits import place
from maskwright.data.table import TokenTable, note_path
from maskwright.data.table_writer import TableWriter
from maskwright.errors import DataError
from maskwright.guidance.statistics import count_tokens
from maskwright.placing import placing
from maskwright.vocabulary import Vocabulary

_STEP = 1 << 20  # tokens copied at a time


@dataclass(frozen=True)
class ReadPiece:
    """Which documents are in a piece, by their hashes."""

    layout: Layout
    source: Source
    piece: Piece
    number: int


@dataclass(frozen=True)
class TokenisePiece:
    """The samples of the documents of a piece that are not dropped.

    Args:
        first: the number of its first document, dropped ones counted.
        documents, sha256: as `read_piece` found them.
        pairs: count tokens that stand next to each other too.
    """

    layout: Layout
    source: Source
    piece: Piece
    number: int
    first: int
    documents: int
    sha256: str
    max_length: int
    pairs: bool


@dataclass(frozen=True)
class Slice:
    """Samples ``start`` to ``stop - 1`` of the chunk of a piece.

    ``first_document`` is the number of the piece's first document among those that are kept.
    """

    piece: int
    start: int
    stop: int
    first_document: int


@dataclass(frozen=True)
class WriteShard:
    """A shard from parts of chunks."""

    layout: Layout
    number: int
    slices: tuple[Slice, ...]
    meta: tuple[tuple[str, Any], ...]
    format: str = "arrow"


def read_piece(task: ReadPiece) -> tuple[int, dict[str, Any]]:
    """The task's number, and its record: ``documents`` and the ``sha256`` of their text."""
    name = f"read-{task.number:06d}"
    record = task.layout.record(name)
    if record is None:
        digests, content = bytearray(), hashlib.sha256()
        for number, text in enumerate(documents_of(task.piece, task.source)):
            _absorb(content, text, task.piece, number)
            digests += digest(text)
        save_run(task.layout.digests(task.number), digest_run(bytes(digests), task.number))
        record = {"documents": len(digests) // 16, "sha256": content.hexdigest()}
        task.layout.finish(name, record)
    return task.number, record


def tokenise_piece(task: TokenisePiece) -> tuple[int, dict[str, Any]]:
    """The task's number, and its record: ``kept`` documents, ``samples`` and ``tokens``."""
    name = f"tokenise-{task.number:06d}"
    record = task.layout.record(name)
    if record is None:
        tokenizer = tokenizer_in(task.layout.tokenizer)
        kept = _Kept(task)
        vocabulary = Vocabulary.from_tokenizer(tokenizer)
        path = task.layout.chunk(task.number)
        record = {"kept": 0, "samples": 0, "tokens": 0}
        with suppress(_NoSample):  # nothing is written then
            with TableWriter(
                path, vocabulary_size=vocabulary.size, meta={}, word_starts=knows_words(tokenizer)
            ) as writer:
                record["kept"] = add_documents(writer, kept, tokenizer, max_length=task.max_length)
                kept.check()
                if not writer.samples:
                    raise _NoSample
            table = writer.table
            record |= {"samples": len(table), "tokens": writer.tokens}
            counts = count_tokens(
                table.tokens, vocabulary, documents=table.documents, pairs=task.pairs
            )
            counts.save(task.layout.counts(task.number))
        save_run(task.layout.places(task.number), np.array(kept.places, np.float64))
        task.layout.finish(name, record)
    return task.number, record


def write_shard(task: WriteShard) -> tuple[int, dict[str, Any], bool]:
    """The task's number, its record, which becomes its entry in the manifest, and whether it was
    written now."""
    name, path = shard_name(task.number), task.layout.shard_table(task.number, task.format)
    record = task.layout.record(name)
    if record is None or not as_recorded(task.layout.out, record):
        tables = {
            part.piece: TokenTable.open(task.layout.chunk(part.piece)) for part in task.slices
        }
        head, meta = task.slices[0], dict(task.meta)
        first = head.first_document + int(tables[head.piece].documents[head.start])
        with TableWriter(
            path,
            vocabulary_size=meta.pop("vocabulary_size"),
            meta=meta,
            word_starts=tables[head.piece].word_starts is not None,
        ) as writer:
            for part in task.slices:
                _copy(tables[part.piece], part, first, writer)
        record = {
            "name": name,
            "samples": writer.samples,
            "tokens": writer.tokens,
            "first_document": first,
        }
        if task.format == "parquet":
            target = task.layout.shard(task.number, task.format)
            with placing(target) as temporary:
                write_parquet(writer.table, temporary)
                with temporary.open("rb") as file:
                    os.fsync(file.fileno())
            record |= {"format": "parquet", "table_bytes": path.stat().st_size}
            record |= {"bytes": target.stat().st_size, "sha256": sha256_of(target)}
        else:
            record |= {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
            record["note"] = sha256_of(note_path(path))
        task.layout.finish(name, record)
        return task.number, record, True
    return task.number, record, False


def as_recorded(out: Path, shard: dict[str, Any]) -> bool:
    """Whether the files of a shard are there, with the sums that its record says."""
    path = out / shard_file(shard)
    try:
        if path.stat().st_size != shard["bytes"] or sha256_of(path) != shard["sha256"]:
            return False
        return is_parquet(shard) or sha256_of(note_path(path)) == shard["note"]
    except OSError:
        return False


@lru_cache(maxsize=1)
def _load_tokenizer(folder: Path, changed: int) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def tokenizer_in(folder: Path) -> Any:
    """The tokenizer that was saved there, loaded once in a process."""
    return _load_tokenizer(folder, folder.stat().st_mtime_ns)


class _NoSample(Exception):
    """A piece gave no sample: an empty table cannot be written."""


class _Kept:
    """The documents of a piece that are not dropped, once through; and that it is as it was."""

    def __init__(self, task: TokenisePiece) -> None:
        self.task = task
        self.content = hashlib.sha256()
        self.places: list[float] = []

    def __iter__(self) -> Iterator[str]:
        task = self.task
        numbers = np.load(task.layout.dropped, mmap_mode="r")
        ends = np.searchsorted(numbers, [task.first, task.first + task.documents])
        dropped = set((numbers[ends[0] : ends[1]] - task.first).tolist())
        for number, text in enumerate(documents_of(task.piece, task.source)):
            _absorb(self.content, text, task.piece, number)
            if number not in dropped:
                self.places.append(place(text))
                yield text

    def check(self) -> None:
        if self.content.hexdigest() != self.task.sha256:
            raise DataError(
                f"{_where(self.task.piece)} has changed since the preparation began. Delete "
                f"{self.task.layout.out} and prepare it again."
            )


def _absorb(content: Any, text: str, piece: Piece, number: int) -> None:
    """Adds a document to the sum of a piece, its length first, so that borders count."""
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{_where(piece)}, document {number} from there, has half of a surrogate pair at "
            f"character {error.start}, which is no character and cannot be written as UTF-8. "
            "Repair the source: a JSON \\ud800 escape gives such halves."
        ) from None
    content.update(len(data).to_bytes(8, "little"))
    content.update(data)


def _where(piece: Piece) -> str:
    return f"{piece.places[0]} (from {piece.start} to {piece.stop})"


def _copy(table: TokenTable, part: Slice, first: int, writer: TableWriter) -> None:
    """Adds the samples of a slice, in steps; documents are numbered from the shard's ``first``."""
    offsets, start = table.tokens.offsets, part.start
    while start < part.stop:
        stop = int(np.searchsorted(offsets, offsets[start] + _STEP, side="right")) - 1
        stop = min(max(start + 1, stop), part.stop)
        tokens = slice(int(offsets[start]), int(offsets[stop]))
        starts = table.word_starts
        writer.add(
            table.tokens.values[tokens],
            np.diff(offsets[start : stop + 1]),
            documents=table.documents[start:stop].astype(np.int64) + (part.first_document - first),
            word_starts=None if starts is None else starts.values[tokens],
        )
        start = stop
    table.release()
