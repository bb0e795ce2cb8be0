"""A prepared folder as the text of an experiment: its splits are copied out of it, not tokenised.

    maskwright prepare texts.jsonl --tokenizer DIR --out tokens
    maskwright compare --set data.source=tokens

The folder has no text any more, but of each document where the hash of its text falls, and so its
split, which is the one that `load_corpus` puts the text in.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from maskwright.data.cache import cache_root
from maskwright.data.prepare.layout import Layout
from maskwright.data.prepare.manifest import read_manifest
from maskwright.data.prepare.pieces import ALL
from maskwright.data.prepare.settings import FORMATS
from maskwright.data.sharded_table import ShardedTable
from maskwright.data.sources import held_out_share
from maskwright.data.splits import SPLITS, divide_places
from maskwright.data.table import FORMAT, TokenTable
from maskwright.data.table_cache import progress_bar
from maskwright.data.table_writer import TableWriter
from maskwright.data.tokenizer import tokenizer_fingerprint
from maskwright.errors import CacheError, ConfigError, DataError, unknown

_STEP = 4_000  # samples copied at a time
_SHOWN = 64  # samples that are decoded where a text is asked for


def is_prepared(source: str) -> bool:
    """Whether a source is a folder that `maskwright prepare` wrote, or has begun to write."""
    folder = Path(source).expanduser()
    layout = Layout(folder)
    if (layout.work / "plan.json").is_file():
        return True
    try:
        manifest = json.loads(layout.manifest.read_text("utf-8"))
    except (OSError, ValueError):
        return any(layout.shard(0, kind).is_file() for kind in FORMATS)
    return isinstance(manifest, dict) and {"settings", "shards"} <= manifest.keys()


@dataclass(frozen=True)
class PreparedCorpus:
    """What a `Corpus` is, of a prepared folder.

    Args:
        name: how it was asked for.
        folder: where it is.
        fingerprint: sha256 of its manifest, which has the sums of all files, 64 hex digits.
    """

    name: str
    folder: Path
    fingerprint: str

    licence = "as its source says"

    @classmethod
    def open(cls, source: str) -> PreparedCorpus:
        """The folder ``source``.

        Raises:
            DataError: it is not finished, or does not say in which split its documents are.
            CacheError: it is damaged.
        """
        folder = Path(source).expanduser().absolute()
        layout = Layout(folder)
        manifest = read_manifest(layout)
        if manifest is None:
            raise DataError(
                f"The preparation of {source} is not finished. Give the same maskwright prepare "
                "command again: it goes on where it was stopped."
            )
        if layout.splits.name not in manifest["files"]:
            raise DataError(
                f"{source} was prepared by an earlier version of maskwright, and does not say "
                "which documents to hold out. Prepare it again, into another folder."
            )
        return cls(source, folder, hashlib.sha256(layout.manifest.read_bytes()).hexdigest())

    # -- what it says ----------------------------------------------------------------------

    @cached_property
    def _manifest(self) -> dict[str, Any]:
        manifest = read_manifest(Layout(self.folder))
        assert manifest is not None
        return manifest

    @property
    def max_length(self) -> int:
        """Tokens of a sample at most."""
        return self._manifest["settings"]["max_length"]

    @property
    def tokenizer(self) -> Path:
        """The folder of its tokenizer."""
        return Layout(self.folder).tokenizer

    @cached_property
    def _divided(self) -> tuple[np.ndarray, tuple[str, ...]]:
        """The number of each document's split, ``(documents,)`` uint8, and notes."""
        path = Layout(self.folder).splits
        try:
            places = np.load(path)
        except (OSError, ValueError) as error:
            raise CacheError(
                f"{path} cannot be read ({error}). Give the same maskwright prepare command again: "
                "it mends its folder."
            ) from None
        settings = self._manifest["settings"]
        notes: tuple[str, ...] = ()
        if settings["split"] != ALL:
            # its documents are one split already, so that they lie in one part of the line; the
            # hash has 48 bits, and those that follow the first 20 are as good
            places = places * 2**20 % 1
            notes = (
                f"{self.name} is the {settings['split']} split of its source, and was divided "
                "itself.",
            )
        share = held_out_share(settings["source"])
        where, more = divide_places(places, validation=share, test=share)
        return where, (*notes, *more)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was decided, one sentence each."""
        return self._divided[1]

    @property
    def sizes(self) -> dict[str, int]:
        """Documents of each split."""
        counts = np.bincount(self._divided[0], minlength=len(SPLITS))
        return {name: int(counts[number]) for number, name in enumerate(SPLITS)}

    def documents(self, split: str) -> tuple[str, ...]:
        """The first samples of a split as text again, to be shown; a `DataError` if it is empty."""
        from transformers import AutoTokenizer

        self._check(split)
        tokenizer = AutoTokenizer.from_pretrained(self.tokenizer)
        samples: list[list[int]] = []
        for table, rows, _ in self._rows(split):
            samples += table.batch(rows[: _SHOWN - len(samples)]).tokens.to_lists()
            if len(samples) >= _SHOWN:
                break
        return tuple(tokenizer.decode(ids, skip_special_tokens=True) for ids in samples)

    def _check(self, split: str) -> None:
        """As `Corpus.documents`: an unknown or empty split is a `DataError`."""
        if split not in SPLITS:
            raise DataError(f"Corpus {self.name!r}: {unknown('split', split, SPLITS)}")
        if not self.sizes[split]:
            raise DataError(
                f"Corpus {self.name!r} has no documents in its {split} split. "
                + " ".join(self.notes)
            )

    # -- its tables --------------------------------------------------------------------------

    def table(
        self,
        split: str,
        tokenizer: Any,
        *,
        max_length: int,
        cache_dir: str | Path | None = None,
        progress: bool = True,
    ) -> TokenTable:
        """The table of one split: from the cache, or copied there from the shards.

        Its samples are those of the folder, and its documents are numbered in the split, as in the
        table that `cached_table` makes of the text.

        Args:
            tokenizer: must be the one of the folder.
            max_length: must be enough for the samples.

        Raises:
            ConfigError: tokenizer or length contradict the folder.
            DataError: the split is empty.
            CacheError: a shard is damaged.
            SaveError: the cache cannot be written.
        """
        settings = self._manifest["settings"]
        if tokenizer_fingerprint(tokenizer) != settings["tokenizer"]:
            raise ConfigError(
                f"{self.name} was prepared with another tokenizer: its tokens mean other words. "
                f"Use the one in {self.name}/tokenizer, or prepare the text with yours."
            )
        if max_length < self.max_length:
            raise ConfigError(
                f"{self.name} has samples of up to {self.max_length} tokens, and data.max_length "
                f"is {max_length}. Set data.max_length={self.max_length}, or prepare the text with "
                f"--max-length {max_length}."
            )
        self._check(split)
        key = hashlib.sha256(json.dumps([FORMAT, self.fingerprint]).encode()).hexdigest()[:32]
        path = cache_root(cache_dir) / "tables" / key / f"{split}.arrow"
        if path.exists():
            with suppress(CacheError):  # a damaged copy is made again
                return TokenTable.open(path)
        return self._copy(split, path, progress)

    def _copy(self, split: str, path: Path, progress: bool) -> TokenTable:
        settings, totals = self._manifest["settings"], self._manifest["totals"]
        meta = {
            "tokenizer": settings["tokenizer"],
            "corpus": self.fingerprint,
            "max_length": self.max_length,
            "split": split,
        }
        first = next(ShardedTable.open(self.folder).shards())
        with (
            progress_bar(f"Copying {self.name} ({split})", totals["samples"], progress) as advance,
            TableWriter(
                path,
                vocabulary_size=totals["vocabulary_size"],
                meta=meta,
                word_starts=first.word_starts is not None,
            ) as writer,
        ):
            done = 0
            for table, rows, numbers in self._rows(split):
                for start in range(0, len(rows), _STEP):
                    part = table.batch(rows[start : start + _STEP])
                    starts = part.word_starts
                    writer.add(
                        part.tokens.values,
                        part.tokens.lengths,
                        documents=numbers[start : start + _STEP],
                        word_starts=None if starts is None else starts.values,
                    )
                done += len(table)
                if advance is not None:
                    advance(done, writer.tokens)
            if not writer.samples:
                raise DataError(
                    f"The documents of {self.name} in its {split} split hold no token: there is "
                    "nothing to mask."
                )
        return writer.table

    def _rows(self, split: str) -> Iterator[tuple[TokenTable, np.ndarray, np.ndarray]]:
        """Of each shard its table, the samples that belong to a split, and the numbers that their
        documents have in the split."""
        mine = self._divided[0] == SPLITS.index(split)
        numbers = np.cumsum(mine) - 1
        shards = ShardedTable.open(self.folder).shards()
        for table, shard in zip(shards, self._manifest["shards"], strict=True):
            documents = table.documents.astype(np.int64) + shard["first_document"]
            rows = np.flatnonzero(mine[documents])
            yield table, rows, numbers[documents[rows]]
