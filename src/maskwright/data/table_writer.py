"""TableWriter: write a TokenTable of any size in constant memory, or nothing at all.

Values go to raw spool files while they come in, because one Arrow record batch needs its
lengths before its values. Closing maps the spools, writes the table to a temporary name,
flushes it to the disk and renames it: a reader sees the old table or the new one. What a killed
process left half-written is removed when the same table is next written. (While it is
copied, the mapped spool counts as resident, in pages that the kernel takes back at will.)
"""

from __future__ import annotations

import errno
import json
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from maskwright.data.leftovers import hold, sweep
from maskwright.data.table import FORMAT, SCHEMA_KEY, TokenTable, note_path
from maskwright.errors import DataError, MissingExtra, SaveError


class TableWriter:
    """A context manager; leaving it without an error puts the table at ``path``.

    Args:
        path: the ``.arrow`` file to write; its folder is made.
        vocabulary_size: every token id is below it. Below 65,536 ids take 16 bits, else 32.
        meta: what the table is (tokenizer hash, corpus fingerprint, split, max_length);
            counts and the format version are added. Values must survive JSON.
        word_starts: whether `add` is given word starts.

    Raises:
        SaveError: the disk is full or the folder cannot be written; temporaries are removed.
        DataError: nothing was added.

    >>> with TableWriter("t.arrow", vocabulary_size=100, meta={}) as writer:
    ...     writer.add(np.array([5, 6, 7]), np.array([2, 1]), documents=np.array([0, 1]))
    >>> writer.table.tokens.to_lists()
    [[5, 6], [7]]
    """

    def __init__(
        self,
        path: str | Path,
        *,
        vocabulary_size: int,
        meta: Mapping[str, Any],
        word_starts: bool = False,
    ) -> None:
        self.path = Path(path)
        self.vocabulary_size = vocabulary_size
        self.dtype = np.dtype(np.uint16 if vocabulary_size < 65_536 else np.int32)
        self.has_word_starts = word_starts
        self.samples = self.tokens = self.documents = 0
        self._last_document = -1
        self._meta = dict(meta)
        # unique, so that two processes that build one table do not write to one file
        self._prefix = f".{self.path.stem}.{os.getpid()}.{secrets.token_hex(4)}"
        self._spools: dict[str, IO[bytes]] = {}
        self._table: TokenTable | None = None

    @property
    def table(self) -> TokenTable:
        """The finished table, once the context has been left."""
        if self._table is None:
            raise DataError(f"The table {self.path} is not written yet: leave its `with` first.")
        return self._table

    def __enter__(self) -> TableWriter:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            sweep(self.path.parent, self.path.stem, "tokens")
            for name in ("tokens", "word_starts", "offsets", "document"):
                self._spools[name] = open(self._temporary(name), "wb")
            hold(self._spools["tokens"])
            self._spools["offsets"].write(np.zeros(1, np.int64).tobytes())
        except OSError as error:
            self._remove()
            raise save_error(self.path, error) from error
        return self

    def add(
        self,
        tokens: np.ndarray,
        lengths: np.ndarray,
        *,
        documents: np.ndarray,
        word_starts: np.ndarray | None = None,
    ) -> None:
        """Append samples.

        Args:
            tokens: ``(N,)`` ids, the samples end to end.
            lengths: ``(B,)``, summing to ``N``.
            documents: ``(B,)``, the document number of each sample, never falling.
            word_starts: ``(N,)`` of 0 and 1, exactly when the writer was made with them.
        """
        if len(lengths) == 0:
            return
        if len(tokens) and not 0 <= int(tokens.min()) <= int(tokens.max()) < self.vocabulary_size:
            raise DataError(
                f"{self.path}: token ids run from {tokens.min()} to {tokens.max()}, outside the "
                f"vocabulary of {self.vocabulary_size}. Give the vocabulary size of the tokenizer "
                "with its added tokens."
            )
        if int(np.sum(lengths)) != len(tokens) or len(documents) != len(lengths):
            raise DataError(
                f"{self.path}: lengths sum to {int(np.sum(lengths))} for {len(tokens)} tokens, "
                f"with {len(lengths)} lengths and {len(documents)} document numbers."
            )
        if (word_starts is not None) != self.has_word_starts or (
            word_starts is not None and len(word_starts) != len(tokens)
        ):
            raise DataError(
                f"{self.path}: word_starts must be given "
                f"{'for every token' if self.has_word_starts else 'never'} with this writer."
            )
        numbers = np.concatenate([[self._last_document], documents])
        if (np.diff(numbers) < 0).any():
            raise DataError(f"{self.path}: document numbers must never fall, got {documents}.")
        offsets = self.tokens + np.cumsum(lengths, dtype=np.int64)
        try:
            self._spools["tokens"].write(tokens.astype(self.dtype).tobytes())
            self._spools["offsets"].write(offsets.tobytes())
            self._spools["document"].write(np.asarray(documents, np.int32).tobytes())
            if word_starts is not None:
                self._spools["word_starts"].write(word_starts.astype(np.uint8).tobytes())
        except OSError as error:
            raise save_error(self.path, error) from error
        self.samples += len(lengths)
        self.tokens += len(tokens)
        self.documents += int(np.count_nonzero(np.diff(numbers)))
        self._last_document = int(documents[-1])

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._finish()
        except OSError as failure:
            if isinstance(failure, SaveError):
                raise
            raise save_error(self.path, failure) from failure
        finally:
            self._remove()
        if kind is None:
            self._table = TokenTable.open(self.path)

    def _finish(self) -> None:
        if not self.samples:
            raise DataError(
                f"{self.path}: no sample was added, and an empty table cannot be trained on."
            )
        for spool in self._spools.values():
            spool.flush()  # closed later: while one is open, this writer is at work
        meta = {
            **self._meta,
            "format": FORMAT,
            "vocabulary_size": self.vocabulary_size,
            "samples": self.samples,
            "tokens": self.tokens,
            "documents": self.documents,
        }
        new_table, new_note = self._temporary("arrow"), self._temporary("json")
        with open(new_table, "wb") as file:
            self._write_arrow(file, json.dumps(meta, sort_keys=True))
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        with open(new_note, "w", encoding="utf-8") as note:
            json.dump({"format": FORMAT, "bytes": size, "meta": meta}, note, sort_keys=True)
            note.flush()
            os.fsync(note.fileno())
        os.replace(new_table, self.path)
        os.replace(new_note, note_path(self.path))

    def _write_arrow(self, file: IO[bytes], meta: str) -> None:
        try:
            import pyarrow as pa
        except ImportError:
            raise MissingExtra("pyarrow", "hf") from None
        value_type = pa.uint16() if self.dtype == np.uint16 else pa.int32()
        schema = pa.schema(
            {
                "tokens": pa.large_list(value_type),
                "word_starts": pa.large_list(pa.uint8()),
                "document": pa.int32(),
            },
            metadata={SCHEMA_KEY: meta},
        )

        def column(name: str, kind: Any, size: int) -> Any:
            if size == 0:  # an empty file cannot be mapped
                return pa.array([], kind)
            with pa.memory_map(str(self._temporary(name))) as source:
                return pa.Array.from_buffers(kind, size, [None, source.read_buffer()])

        offsets = column("offsets", pa.int64(), self.samples + 1)
        tokens = pa.LargeListArray.from_arrays(offsets, column("tokens", value_type, self.tokens))
        if self.has_word_starts:
            values = column("word_starts", pa.uint8(), self.tokens)
            starts = pa.LargeListArray.from_arrays(offsets, values)
        else:
            starts = pa.nulls(self.samples, schema.field("word_starts").type)
        document = column("document", pa.int32(), self.samples)
        batch = pa.RecordBatch.from_arrays([tokens, starts, document], schema=schema)
        with pa.ipc.new_file(file, schema) as writer:
            writer.write_batch(batch)

    def _temporary(self, name: str) -> Path:
        return self.path.parent / f"{self._prefix}.{name}"

    def _remove(self) -> None:
        for spool in self._spools.values():
            with suppress(OSError):  # a full disk fails again when the last buffer is flushed
                spool.close()
        for name in ("tokens", "word_starts", "offsets", "document", "arrow", "json"):
            with suppress(OSError):  # whatever stopped the writing may stop this as well
                self._temporary(name).unlink()


def save_error(path: Path, error: OSError) -> SaveError:
    """What went wrong while writing ``path``, and the remedy."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return SaveError(
            f"No space is left to write {path}; nothing was left half-written. A table needs 6 "
            "bytes a token while it is built and 3 afterwards (twice that above a vocabulary of "
            "65,535). Free some space, or set MASKWRIGHT_CACHE to a folder on another disk."
        )
    return SaveError(
        f"{path} cannot be written ({error.strerror or error}); nothing was left half-written. "
        "Choose a folder that can be written, with MASKWRIGHT_CACHE for cached files."
    )
