"""ShardedTable: the folder that `maskwright prepare` wrote, read as one token table.

Sample ids go on from shard to shard, so they mean the same in every process, epoch and run. Shards
are mapped when a sample of theirs is asked for, and together leave a bounded number of bytes in
memory however large the folder is.
"""

from __future__ import annotations

import json
import sys
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from maskwright.batch import TokenBatch
from maskwright.data.mapped import FAULT_AROUND, RESIDENT_LIMIT
from maskwright.data.shard_files import CACHE_BYTES, ShardFiles, mapped_bytes, shard_files
from maskwright.data.table import TokenTable
from maskwright.errors import CacheError, ConfigError, SampleIdError
from maskwright.ragged import Ragged, offsets_of

FORMAT = 1
OPEN_SHARDS = 256  # each is an open file, of which a process may have about 1,000


class ShardedTable:
    """Samples of all shards, addressed by sample id; what `TokenTable` is, of a folder.

    It pickles as its path, so a DataLoader worker maps the shards anew and copies nothing.
    """

    def __init__(
        self, files: ShardFiles, manifest: dict[str, Any], samples: int, resident_limit: int
    ) -> None:
        self.path = Path(files.place)
        self.meta = manifest["meta"]
        self._files, self._manifest, self._limit = files, manifest, resident_limit
        # where each shard's samples begin; a view of the first samples ends before the last does
        self._starts = offsets_of(np.array([s["samples"] for s in manifest["shards"]], np.int64))
        self._samples = samples
        self._fits = sum(map(mapped_bytes, manifest["shards"])) <= resident_limit
        self._open: OrderedDict[int, TokenTable] = OrderedDict()
        self._touched = 0

    # -- opening --------------------------------------------------------------------------

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        resident_limit: int = RESIDENT_LIMIT,
        cache_dir: str | Path | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> ShardedTable:
        """The folder at ``path``: one that can be mapped, or a URL that fsspec reads.

        Shards of a URL are fetched when they are first needed, into a cache of at most
        ``cache_bytes`` on the local disk; the sums in the manifest say whether they came whole.
        Shards in Parquet are decoded into the same cache.

        Args:
            resident_limit: bytes of token pages that reading may leave in the resident set.
            cache_dir: for URLs and Parquet; instead of ``$MASKWRIGHT_CACHE`` or
                ``~/.cache/maskwright``.
            cache_bytes: for URLs and Parquet. Reading in random order wants room for all shards.

        Raises:
            CacheError: the folder has no manifest, or another format than this version reads.
        """
        files = shard_files(path, cache_dir, cache_bytes)
        manifest = _read(files)
        samples = sum(shard["samples"] for shard in manifest["shards"])
        return cls(files, manifest, samples, resident_limit)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self._files, self._samples, self._limit)

    # -- reading --------------------------------------------------------------------------

    def __len__(self) -> int:
        return self._samples

    def __repr__(self) -> str:
        shards = len(self._manifest["shards"])
        return (
            f"ShardedTable({len(self):,} samples, {self.meta['tokens']:,} tokens, {shards} shards)"
        )

    @property
    def lengths(self) -> np.ndarray:
        """``(n,)`` int64, special tokens included: 8 bytes a sample, and all shards are mapped."""
        return np.concatenate([table.lengths for table in self.shards()])

    @property
    def documents(self) -> np.ndarray:
        """``(n,)`` int64, the document of each sample, numbered through all shards."""
        return np.concatenate(
            [
                table.documents.astype(np.int64) + shard["first_document"]
                for table, shard in zip(self.shards(), self._manifest["shards"], strict=False)
            ]
        )

    def shards(self) -> Iterator[TokenTable]:
        """The table of each shard, in order; of the last one a view, if this is one."""
        for number, start in enumerate(self._starts[:-1].tolist()):
            left = self._samples - start
            if left <= 0:
                return
            table = self._shard(number)
            yield table if left >= len(table) else table.head(left)
            table.release()

    def __getitem__(self, sample_id: int) -> dict[str, Any]:
        """``{"input_ids": (length,) int64, "sample_id": int}``, copied: for HF collators."""
        if not -len(self) <= sample_id < len(self):
            raise IndexError(f"sample {sample_id} of a table of {len(self)} samples")
        sample = int(sample_id) % len(self)
        number = int(np.searchsorted(self._starts, sample, side="right")) - 1
        row = self._shard(number)[sample - int(self._starts[number])]
        self._touch(1, 0)
        return {"input_ids": row["input_ids"], "sample_id": sample}

    def batch(self, sample_ids: np.ndarray) -> TokenBatch:
        """The given samples in the given order, copied; tokens keep the dtype of the table.

        Args:
            sample_ids: ``(B,)`` integers from 0 to ``len(table) - 1``.

        Raises:
            SampleIdError: an id lies outside the table, or the ids are not integers.
        """
        rows = np.asarray(sample_ids)
        if rows.ndim != 1 or rows.dtype.kind not in "iu":
            raise SampleIdError(
                f"ShardedTable.batch takes one axis of integer sample ids, got {rows.dtype} of "
                f"shape {rows.shape}."
            )
        rows = rows.astype(np.int64)
        outside = rows[(rows < 0) | (rows >= len(self))]
        if len(outside):
            raise SampleIdError(
                f"Sample id {outside[0]} is outside the table's 0 … {len(self) - 1} "
                f"({self._files.place})."
            )
        if not len(rows):
            return self._shard(0).batch(rows)
        numbers = np.searchsorted(self._starts, rows, side="right") - 1
        order = np.argsort(numbers, kind="stable")
        shards, firsts = np.unique(numbers[order], return_index=True)
        parts = []
        for number, mine in zip(shards.tolist(), np.split(order, firsts[1:]), strict=True):
            parts.append(self._shard(number).batch(rows[mine] - self._starts[number]))
        tokens = _joined([part.tokens for part in parts], order)
        starts = None
        if flags := [part.word_starts for part in parts if part.word_starts is not None]:
            starts = tokens.like(_joined(flags, order).values)
        columns = 1 if starts is None else 2
        self._touch(len(rows) * columns, len(tokens.values) * (tokens.values.itemsize + 1))
        return TokenBatch(tokens, rows, word_starts=starts)

    def release(self) -> None:
        """Give mapped token pages back."""
        self._touched = 0
        for table in self._open.values():
            table.release()

    # -- views ----------------------------------------------------------------------------

    def head(self, samples: int) -> ShardedTable:
        """The first ``samples`` samples (all, if there are fewer) as a view; ids unchanged."""
        if samples < 1:
            raise ConfigError(f"ShardedTable.head: samples must be at least 1, got {samples}.")
        samples = min(samples, len(self))
        view = ShardedTable(self._files, self._manifest, samples, self._limit)
        tokens, documents, before = 0, 0, -1
        for table, shard in zip(view.shards(), self._manifest["shards"], strict=False):
            tokens += len(table.tokens.values)
            numbers = table.documents.astype(np.int64) + shard["first_document"]
            documents += len(np.unique(numbers)) - int(numbers[0] == before)
            before = int(numbers[-1])
        size = {"samples": samples, "tokens": tokens, "documents": documents}
        view.meta = {**self.meta, **size}
        return view

    def slice(self, tokens: int) -> ShardedTable:
        """The first samples that hold at most ``tokens`` tokens together, as a view."""
        samples = 0
        for table in self.shards():
            held = len(table.tokens.values)
            if held > tokens:
                ends = table.tokens.offsets
                samples += int(np.searchsorted(ends, tokens, side="right")) - 1
                break
            samples, tokens = samples + len(table), tokens - held
        if samples < 1:
            raise ConfigError(
                f"ShardedTable.slice: a budget of {tokens} tokens does not hold the first sample. "
                "Ask for more tokens."
            )
        return self.head(samples)

    # -- shards ---------------------------------------------------------------------------

    def _shard(self, number: int) -> TokenTable:
        if number in self._open:
            self._open.move_to_end(number)
            return self._open[number]
        shard = self._manifest["shards"][number]
        # no limit of its own: pages are counted over all shards
        table = TokenTable.open(self._files.local(shard), resident_limit=sys.maxsize)
        if (len(table), len(table.tokens.values)) != (shard["samples"], shard["tokens"]):
            raise CacheError(
                f"{table.path} is not the shard that {self._files.place} names. Prepare the "
                "folder again with the same command: it makes the shard anew."
            )
        self._open[number] = table
        if len(self._open) > OPEN_SHARDS:
            self._open.popitem(last=False)
        return table

    def _touch(self, pieces: int, size: int) -> None:
        if self._fits:
            return  # giving pages back would only cost faults
        self._touched += max(size, pieces * FAULT_AROUND)
        if self._touched > self._limit:
            self.release()


def _joined(parts: list[Ragged], order: np.ndarray) -> Ragged:
    """Rows of ``parts`` end to end, row ``i`` of which goes to place ``order[i]``."""
    offsets = offsets_of(np.concatenate([part.lengths for part in parts]))
    together = Ragged(np.concatenate([part.values for part in parts]), offsets)
    if len(order) < 2 or (np.diff(order) > 0).all():
        return together
    return together.take(np.argsort(order))


def _read(files: ShardFiles) -> dict[str, Any]:
    """The manifest as this file needs it: ``meta`` and ``shards``."""
    where = f"{files.place}/manifest.json"
    try:
        manifest = json.loads(files.manifest())
        version, shards = manifest["format"], manifest["shards"]
        settings, totals = manifest["settings"], manifest["totals"]
        meta = {name: settings[name] for name in ("tokenizer", "max_length", "split")} | totals
        if version == FORMAT and shards:
            return {"meta": meta, "shards": shards}
        message = f"has format {version!r} where this version reads {FORMAT}"
    except OSError as error:
        message = f"cannot be read ({error.strerror or error})"
    except (ValueError, LookupError, TypeError):
        message = "is damaged"
    raise CacheError(
        f"{where} {message}. A prepared folder has it when it is whole: run maskwright prepare "
        "with the same settings until it ends."
    )


def _reopen(files: ShardFiles, samples: int, resident_limit: int) -> ShardedTable:
    table = ShardedTable(files, _read(files), 0, resident_limit)
    whole = int(table._starts[-1])
    table._samples = whole
    return table if samples == whole else table.head(samples)
