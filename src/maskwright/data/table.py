"""TokenTable: the samples of one split as a memory-mapped Arrow file.

The file is an Arrow IPC file with one record batch, so each column is one flat run of values
and one run of offsets, and reading it copies nothing:

    tokens       large_list<uint16>, or <int32> from a vocabulary of 65,536 on
    word_starts  large_list<uint8>, 1 where a word begins; all null where it is not known
    document     int32, the document that the sample was cut from

A sample id is a row number, so it means the same in every process, epoch and run. Beside
``NAME.arrow`` stands ``NAME.json`` with the meta data and the size of the file; both must
agree, or `TokenTable.open` refuses.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numba
import numpy as np

from maskwright.batch import TokenBatch
from maskwright.data.mapped import RESIDENT_LIMIT, MappedFile
from maskwright.errors import CacheError, ConfigError, MissingExtra, SampleIdError
from maskwright.ragged import Ragged

FORMAT = 1
MAGIC = b"ARROW1"
SCHEMA_KEY = b"maskwright"


class TokenTable:
    """Samples of at most ``meta["max_length"]`` tokens, addressed by sample id.

    It pickles as its path, so a DataLoader worker maps the file anew and copies nothing.
    """

    def __init__(
        self,
        path: Path,
        mapped: MappedFile,
        tokens: Ragged,
        word_starts: Ragged | None,
        documents: np.ndarray,
        meta: Mapping[str, Any],
    ) -> None:
        self.path = path
        self.tokens = tokens
        self.word_starts = word_starts
        self.documents = documents
        self.meta = dict(meta)
        self._mapped = mapped

    # -- opening --------------------------------------------------------------------------

    @classmethod
    def open(cls, path: str | Path, *, resident_limit: int = RESIDENT_LIMIT) -> TokenTable:
        """Map the table at ``path`` (the ``.arrow`` file).

        Args:
            resident_limit: bytes of token pages that `batch` may leave in the resident set.

        Raises:
            CacheError: a file is missing, truncated, corrupt, or of another format.
        """
        try:
            import pyarrow as pa
        except ImportError:
            raise MissingExtra("pyarrow", "hf") from None
        path = Path(path).absolute()  # a worker may start in another folder
        note = _read_note(path)
        try:
            mapped = MappedFile(path, resident_limit)
        except (OSError, ValueError) as error:
            raise _bad(path, f"cannot be mapped ({error})") from None
        if len(mapped) != note["bytes"]:
            raise _bad(path, f"has {len(mapped):,} bytes where its note says {note['bytes']:,}")
        if mapped.buffer[: len(MAGIC)].to_pybytes() != MAGIC:
            raise _bad(path, "does not begin with the mark of an Arrow file")
        try:
            reader = pa.ipc.open_file(pa.BufferReader(mapped.buffer))
            inside = json.loads((reader.schema.metadata or {})[SCHEMA_KEY])
            batch = reader.get_batch(0)
            batch.validate()
            columns = [batch.column(name) for name in ("tokens", "word_starts", "document")]
            tokens, word_starts = _ragged(columns[0]), None
            mapped.releasable(columns[0].buffers()[3])
            if columns[1].null_count == 0:
                word_starts = _ragged(columns[1])
                if not np.array_equal(word_starts.offsets, tokens.offsets):
                    raise ValueError("word_starts and tokens have different rows")
                word_starts = tokens.like(word_starts.values)  # one set of offsets stays in use
                mapped.releasable(columns[1].buffers()[1], columns[1].buffers()[3])
            documents = columns[2].to_numpy(zero_copy_only=True)
        # damage surfaces as whatever the reader meets first, in Arrow, in JSON or in Ragged
        except (pa.ArrowException, LookupError, ValueError, OSError, TypeError) as error:
            raise _bad(path, f"is not a readable table ({error})") from None
        found = {"samples": len(tokens), "tokens": len(tokens.values)}
        if inside != note["meta"] or any(inside.get(key) != found[key] for key in found):
            raise _bad(path, "does not agree with the note beside it")
        mapped.release()
        return cls(path, mapped, tokens, word_starts, documents, inside)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.path, len(self), self._mapped.limit)

    # -- reading --------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.tokens)

    def __repr__(self) -> str:
        return f"TokenTable({len(self):,} samples, {len(self.tokens.values):,} tokens)"

    @property
    def lengths(self) -> np.ndarray:
        """``(n,)`` int64, special tokens included."""
        return self.tokens.lengths

    def __getitem__(self, sample_id: int) -> dict[str, Any]:
        """``{"input_ids": (length,) int64, "sample_id": int}``, copied: for HF collators."""
        row = self.tokens[sample_id].astype(np.int64)
        self._mapped.touch(1, 0)
        return {"input_ids": row, "sample_id": int(sample_id) % len(self)}

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
                f"TokenTable.batch takes one axis of integer sample ids, got {rows.dtype} of "
                f"shape {rows.shape}."
            )
        rows = np.ascontiguousarray(rows, dtype=np.int64)
        offsets = np.empty(len(rows) + 1, np.int64)
        bad = _gather_offsets(self.tokens.offsets, rows, offsets)
        if bad >= 0:
            raise SampleIdError(
                f"Sample id {rows[bad]} is outside the table's 0 … {len(self) - 1} ({self.path})."
            )
        tokens = Ragged(_gather(self.tokens, rows, offsets), offsets)
        starts = None
        if self.word_starts is not None:
            starts = Ragged(_gather(self.word_starts, rows, offsets), offsets)
        columns = 1 if starts is None else 2
        self._mapped.touch(len(rows) * columns, int(offsets[-1]) * (tokens.values.itemsize + 1))
        return TokenBatch(tokens, rows, word_starts=starts)

    def release(self) -> None:
        """Give mapped token pages back after reading ``tokens.values`` from end to end."""
        self._mapped.release()

    # -- views ----------------------------------------------------------------------------

    def head(self, samples: int) -> TokenTable:
        """The first ``samples`` samples (all, if there are fewer) as a view; ids unchanged."""
        if samples < 1:
            raise ConfigError(f"TokenTable.head: samples must be at least 1, got {samples}.")
        samples = min(samples, len(self))
        offsets = self.tokens.offsets[: samples + 1]
        tokens = Ragged(self.tokens.values[: offsets[-1]], offsets)
        starts = self.word_starts
        if starts is not None:
            starts = tokens.like(starts.values[: offsets[-1]])
        documents = self.documents[:samples]
        size = {
            "samples": samples,
            "tokens": int(offsets[-1]),
            "documents": len(np.unique(documents)),
        }
        return TokenTable(self.path, self._mapped, tokens, starts, documents, {**self.meta, **size})

    def slice(self, tokens: int) -> TokenTable:
        """The first samples that hold at most ``tokens`` tokens together, as a view."""
        samples = int(np.searchsorted(self.tokens.offsets, tokens, side="right")) - 1
        if samples < 1:
            raise ConfigError(
                f"TokenTable.slice: a budget of {tokens} tokens does not hold the first sample, "
                f"which has {self.lengths[0]}. Ask for more tokens."
            )
        return self.head(samples)


def note_path(path: Path) -> Path:
    """The note beside a table: ``NAME.arrow`` → ``NAME.json``."""
    return path.with_suffix(".json")


def _reopen(path: Path, samples: int, resident_limit: int) -> TokenTable:
    table = TokenTable.open(path, resident_limit=resident_limit)
    return table if samples == len(table) else table.head(samples)


def _read_note(path: Path) -> dict[str, Any]:
    note_file = note_path(path)
    try:
        note = json.loads(note_file.read_text("utf-8"))
        version, size, meta = note["format"], note["bytes"], note["meta"]
    except OSError as error:
        raise _bad(note_file, f"cannot be read ({error.strerror})") from None
    except (ValueError, LookupError, TypeError):
        raise _bad(note_file, "is not the note of a token table") from None
    if version != FORMAT:
        raise _bad(note_file, f"has format {version!r} where this version reads {FORMAT}")
    if not isinstance(size, int) or not isinstance(meta, dict):
        raise _bad(note_file, "is not the note of a token table")
    return note


def _ragged(column: Any) -> Ragged:
    offsets = column.offsets.to_numpy(zero_copy_only=True)
    return Ragged(column.values.to_numpy(zero_copy_only=True), offsets)


def _bad(path: Path, what: str) -> CacheError:
    return CacheError(
        f"{path} {what}. A token table is a NAME.arrow and its NAME.json, written together: "
        "delete both and build the table again."
    )


def _gather(source: Ragged, rows: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    out = np.empty(offsets[-1], source.values.dtype)
    _gather_values(source.values, source.offsets, rows, offsets, out)
    return out


@numba.njit(nogil=True, cache=True)
def _gather_offsets(source, rows, out):  # the index of the first row outside, or -1
    out[0] = 0
    for index in range(len(rows)):
        row = rows[index]
        if row < 0 or row >= len(source) - 1:
            return index
        out[index + 1] = out[index] + source[row + 1] - source[row]
    return -1


@numba.njit(nogil=True, cache=True)
def _gather_values(source, source_offsets, rows, offsets, out):
    for index in range(len(rows)):
        start, target, end = source_offsets[rows[index]], offsets[index], offsets[index + 1]
        # Indexed from 0 through slices the loop becomes a vector copy. Indexed by sums, numba
        # checks each for a negative index and it is 50 times slower; `row[:] = …` 5 times.
        row, values = out[target:end], source[start : start + end - target]
        for position in range(len(row)):
            row[position] = values[position]
