"""prepare: from a source of any size to shards of tokens, with its statistics.

Four steps, each of tasks that do not depend on each other:

1. *read*: the hashes of the documents of each piece; then which documents are dropped;
2. *tokenise*: the samples of each piece, and their statistics;
3. *shards*: samples end to end, cut where a shard is full;
4. *phrases*, if asked for: n-grams of all shards.

Where pieces end, which documents are dropped and where shards end follow from the source and the
settings alone, so the bytes are the same with any engine, and after any number of interruptions.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from maskwright.data.cache import place_folder
from maskwright.data.corpus import room_for_text
from maskwright.data.prepare.duplicates import dropped_documents
from maskwright.data.prepare.engine import Engine, Here
from maskwright.data.prepare.layout import Layout
from maskwright.data.prepare.manifest import (
    check_settings,
    damaged_files,
    damaged_shards,
    pieces_in,
    read_manifest,
    write_manifest,
)
from maskwright.data.prepare.ngrams import learn_over_shards
from maskwright.data.prepare.pieces import Piece, Source, pieces_of
from maskwright.data.prepare.runs import save_joined, save_run
from maskwright.data.prepare.settings import Prepared, Settings
from maskwright.data.prepare.shards import shard_ends, slices_of
from maskwright.data.prepare.statistics import added
from maskwright.data.prepare.tasks import (
    ReadPiece,
    Slice,
    TokenisePiece,
    WriteShard,
    read_piece,
    tokenise_piece,
    write_shard,
)
from maskwright.data.table import TokenTable
from maskwright.data.tokenizer import tokenizer_fingerprint
from maskwright.errors import CacheError, ConfigError, DataError, SaveError
from maskwright.guidance.statistics import TokenStatistics
from maskwright.vocabulary import Vocabulary

Progress = Callable[[str, int, int], None]
Record = dict[str, Any]


def prepare(
    source: Source,
    tokenizer: Any,
    out: str | Path,
    settings: Settings | None = None,
    *,
    engine: Engine | None = None,
    progress: Progress = lambda step, done, total: None,
) -> Prepared:
    """Tokenise a source into the folder ``out``, or go on with it, or mend it.

    A folder that is whole is left as it is. Of one whose shards are missing or damaged, those are
    written again from the source.

    Args:
        tokenizer: a Hugging Face tokenizer; it is saved in the folder.
        engine: who does the tasks; this process unless given. The caller closes it.
        progress: called with the name of a step, tasks done and tasks in all.

    Raises:
        ConfigError: the folder was begun with other settings, or another preparation has it.
        DataError: the source cannot be read, has no text in it, or has changed meanwhile.
        SaveError: the folder cannot be written; what was finished is kept.
        WorkerLost: a worker process died; what was finished is kept.
    """
    settings = settings or Settings()
    layout = Layout(Path(out).absolute())
    room_for_text(tokenizer, settings.max_length)
    try:
        layout.work.mkdir(parents=True, exist_ok=True)
        with layout.locked():
            layout.sweep()
            job = _Job(layout, source, tokenizer, settings, engine or Here(), progress)
            return job.run()
    except OSError as error:
        cause = error.__cause__ if isinstance(error, SaveError) else error
        if not isinstance(cause, OSError):
            raise
        raise SaveError(
            f"{layout.out} cannot be written: {cause.strerror or cause}. While it is made it takes "
            "about twice what it takes in the end, which is 3 bytes a token (5 above a vocabulary "
            "of 65,535). What was finished is kept: the same command goes on."
        ) from cause


class _Job:
    """One call of `prepare`."""

    def __init__(
        self,
        layout: Layout,
        source: Source,
        tokenizer: Any,
        settings: Settings,
        engine: Engine,
        progress: Progress,
    ) -> None:
        self.layout, self.source, self.tokenizer = layout, source, tokenizer
        self.settings, self.engine, self.progress = settings, engine, progress
        self.vocabulary = Vocabulary.from_tokenizer(tokenizer)
        self.written = 0
        # in the manifest, and compared when the folder is found again
        self.facts: Record = {
            "source": source.name,
            "text_column": source.text_column,
            "split": source.split,
            "tokenizer": tokenizer_fingerprint(tokenizer),
        } | asdict(settings)
        if settings.format == "arrow":
            del self.facts["format"]  # as before there was another

    def run(self) -> Prepared:
        manifest = read_manifest(self.layout)
        if manifest is not None:
            try:
                check_settings(self.layout.out, self.facts, manifest["settings"])
            except ConfigError:  # the folder stays as it was
                shutil.rmtree(self.layout.work, ignore_errors=True)
                raise
            if damaged_files(self.layout.out, manifest):
                self.layout.manifest.unlink()  # they come from all pieces: as from the beginning
                manifest = None
        if manifest is None:
            manifest = self.make()
        elif damaged := damaged_shards(self.layout.out, manifest):
            self.mend(manifest, damaged)
        shutil.rmtree(self.layout.work, ignore_errors=True)
        shards = len(manifest["shards"])
        return Prepared(self.layout.out, manifest["totals"], shards, self.written)

    # -- the steps ------------------------------------------------------------------------

    def make(self) -> Record:
        """All of it, but for what was finished before."""
        pieces = pieces_of(self.source, self.settings.piece_bytes)
        self.begin(pieces)
        reads = self.read(pieces)
        documents = [read["documents"] for read in reads]
        empty = self.drop(documents)
        chunks = self.tokenise(pieces, reads, range(len(pieces)))
        samples = [chunks[number]["samples"] for number in range(len(pieces))]
        kept = [chunks[number]["kept"] for number in range(len(pieces))]
        if not sum(samples):
            raise DataError(
                f"{self.source.name} has no text in it ({sum(documents):,} documents, {empty:,} of "
                "them empty). Check the path, the text column and the split."
            )
        offsets = (
            TokenTable.open(self.layout.chunk(number)).tokens.offsets
            for number, many in enumerate(samples)
            if many
        )
        ends = shard_ends(offsets, self.settings.shard_tokens)
        slices = slices_of(ends, samples, kept)
        shards = self.write(slices, reads, range(len(slices)))
        self.count(samples)
        save_joined(self.layout.splits, [self.layout.places(n) for n in range(len(pieces))])
        if self.settings.phrases is not None:
            format = self.settings.format
            paths = [self.layout.shard_table(number, format) for number in range(len(slices))]
            phrases = learn_over_shards(
                self.layout, paths, self.tokenizer, self.settings.phrases,
                self.engine, self.progress,
            )  # fmt: skip
            phrases.save(self.layout.phrases)
        totals = {
            "documents_read": sum(documents),
            "empty": empty,
            "duplicates": sum(documents) - empty - sum(kept),
            "documents": sum(kept),
            "samples": sum(samples),
            "tokens": sum(chunk["tokens"] for chunk in chunks.values()),
            "vocabulary_size": self.vocabulary.size,
        }
        by_piece = [chunks[number] for number in range(len(pieces))]
        return write_manifest(self.layout, self.facts, pieces, reads, by_piece, shards, totals)

    def mend(self, manifest: Record, damaged: list[int]) -> None:
        """Writes shards again, from the pieces that they are made of."""
        pieces, entries = pieces_in(manifest), manifest["pieces"]
        samples = [entry["samples"] for entry in entries]
        ends = list(accumulate(shard["samples"] for shard in manifest["shards"]))
        slices = slices_of(ends, samples, [entry["kept"] for entry in entries])
        self.begin(pieces)
        needed = sorted({part.piece for number in damaged for part in slices[number]})
        self.tokenise(pieces, entries, needed)
        for number, record in zip(damaged, self.write(slices, entries, damaged), strict=True):
            if record != manifest["shards"][number]:
                path = self.layout.shard(number, self.settings.format)
                raise CacheError(
                    f"{path} was damaged, and is not what it was when made "
                    f"again: another version of a library cuts or tokenises differently. Delete "
                    f"{self.layout.out} and prepare it again."
                )

    def begin(self, pieces: list[Piece]) -> None:
        """The tokenizer for the workers; and a refusal of what another command began."""
        plan = {"settings": self.facts, "pieces": [asdict(piece) for piece in pieces]}
        if (found := self.layout.record("plan")) is None:
            self.layout.finish("plan", plan)
        else:
            check_settings(self.layout.out, self.facts, found["settings"])
            if found["pieces"] != [
                asdict(piece) | {"places": list(piece.places)} for piece in pieces
            ]:
                raise DataError(
                    f"{self.source.name} has changed since the preparation of {self.layout.out} "
                    "began. Delete that folder and prepare it again."
                )
        # saved again by whoever goes on: a folder is put in its place whole, but not brought to
        # the disk, so that a failing power supply may have left anything
        shutil.rmtree(self.layout.tokenizer, ignore_errors=True)
        place_folder(self.layout.tokenizer, self.save_tokenizer)

    def save_tokenizer(self, folder: Path) -> None:
        try:
            self.tokenizer.save_pretrained(folder)
        except OSError:
            raise
        except Exception as error:  # tokenizers raises bare Exception for a full disk
            raise OSError(str(error)) from None

    def read(self, pieces: list[Piece]) -> list[Record]:
        tasks = [
            ReadPiece(self.layout, self.source, piece, number)
            for number, piece in enumerate(pieces)
        ]
        found = dict(self.steps("reading", read_piece, tasks))
        return [found[number] for number in range(len(pieces))]

    def drop(self, documents: list[int]) -> int:
        """Writes which documents are dropped; how many of them are empty."""
        record = self.layout.record("drop")
        if record is None or not self.layout.dropped.exists():
            runs = [self.layout.digests(number) for number in range(len(documents))]
            starts = np.array([0, *accumulate(documents)][:-1], np.int64)
            dropped, empty = dropped_documents(runs, starts, deduplicate=self.settings.deduplicate)
            save_run(self.layout.dropped, dropped)
            record = self.layout.finish("drop", {"empty": empty})
        return record["empty"]

    def tokenise(self, pieces: list[Piece], reads: list[Record], numbers: Any) -> dict[int, Record]:
        firsts = [0, *accumulate(read["documents"] for read in reads)]
        tasks = [
            TokenisePiece(
                self.layout, self.source, pieces[number], number, firsts[number],
                reads[number]["documents"], reads[number]["sha256"], self.settings.max_length,
                self.settings.phrases is not None,
            )
            for number in numbers
        ]  # fmt: skip
        return dict(self.steps("tokenising", tokenise_piece, tasks))

    def write(
        self, slices: list[tuple[Slice, ...]], reads: list[Record], numbers: Any
    ) -> list[Record]:
        content = hashlib.sha256("".join(read["sha256"] for read in reads).encode()).hexdigest()
        meta = {
            "tokenizer": self.facts["tokenizer"],
            "corpus": content,
            "max_length": self.settings.max_length,
            "split": self.source.split,
            "vocabulary_size": self.vocabulary.size,
        }
        tasks = [
            WriteShard(
                self.layout, number, slices[number], tuple(meta.items()), self.settings.format
            )
            for number in numbers
        ]
        found = {}
        for number, record, fresh in self.steps("writing shards", write_shard, tasks):
            found[number] = record
            self.written += fresh
        return [found[number] for number in numbers]

    def count(self, samples: list[int]) -> None:
        parts = (
            TokenStatistics.load(self.layout.counts(number))
            for number, many in enumerate(samples)
            if many
        )
        added(parts, self.vocabulary.size).save(self.layout.statistics)

    def steps(self, name: str, function: Callable[[Any], Any], tasks: list[Any]) -> Iterator[Any]:
        self.progress(name, 0, len(tasks))
        for done, result in enumerate(self.engine.run(function, tasks), 1):
            self.progress(name, done, len(tasks))
            yield result
