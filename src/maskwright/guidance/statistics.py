"""How often tokens occur, in how many documents, and next to which: one pass over a corpus."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from maskwright.errors import DataError
from maskwright.guidance.checked_file import Sink, read_checked, write_checked
from maskwright.ragged import Ragged
from maskwright.vocabulary import Vocabulary

FORMAT = 1
_CHUNK = 1 << 20  # tokens counted at a time: what a pass holds besides its counts
_ARRAYS = ("frequency", "document_frequency", "pairs", "pair_counts")


@dataclass(frozen=True, eq=False)
class TokenStatistics:
    """Exact counts of a corpus; special tokens are not counted, and part what is beside them.

    Args:
        size: ids of the vocabulary.
        documents: how many there were, empty ones too.
        frequency: ``(size,)`` int64, occurrences.
        document_frequency: ``(size,)`` int64, documents with at least one.
        pairs: ``(P,)`` uint64, rising: ``left * size + right`` of tokens next to each other.
        pair_counts: ``(P,)`` int64.
    """

    size: int
    documents: int
    frequency: np.ndarray
    document_frequency: np.ndarray
    pairs: np.ndarray
    pair_counts: np.ndarray

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TokenStatistics):
            return NotImplemented
        return (self.size, self.documents) == (other.size, other.documents) and all(
            np.array_equal(getattr(self, name), getattr(other, name)) for name in _ARRAYS
        )

    __hash__ = None  # type: ignore[assignment]  # holds arrays

    def __repr__(self) -> str:
        return (
            f"TokenStatistics({self.frequency.sum():,} tokens in {self.documents:,} documents, "
            f"{len(self.pairs):,} pairs)"
        )

    def save(self, path: str | Path) -> None:
        """Writes them to one file, whole or not at all, with a checksum.

        Raises:
            SaveError: it cannot be written.
        """
        head = {"format": FORMAT, "size": self.size, "documents": self.documents}

        def fill(sink: Sink) -> None:
            sink.write(json.dumps(head, sort_keys=True).encode() + b"\n")
            for name in _ARRAYS:
                np.lib.format.write_array(sink, getattr(self, name), allow_pickle=False)

        write_checked(Path(path), fill)

    @classmethod
    def load(cls, path: str | Path) -> TokenStatistics:
        """Reads what `save` wrote.

        Raises:
            CacheError: the file is missing or damaged.
            DataError: it holds something else.
        """
        remedy = "Delete it and count the tokens again."
        with read_checked(Path(path), remedy) as file:
            try:
                head = json.loads(file.readline())
                if head["format"] != FORMAT:
                    raise ValueError(f"its format is {head['format']}, not {FORMAT}")
                arrays = [np.lib.format.read_array(file, allow_pickle=False) for _ in _ARRAYS]
                return cls(head["size"], head["documents"], *arrays)
            except (ValueError, LookupError, TypeError) as error:
                raise DataError(f"{path} holds no token statistics ({error}). {remedy}") from None


def count_tokens(
    rows: Ragged | Iterable[Sequence[int]],
    vocabulary: Vocabulary,
    *,
    documents: Sequence[int] | np.ndarray | None = None,
    pairs: bool = True,
) -> TokenStatistics:
    """Count a corpus in one pass, a million tokens at a time.

    Held in memory: 16 bytes for each id and for each distinct pair, and what a chunk needs. Of a
    token table: ``count_tokens(table.tokens, vocabulary, documents=table.documents)``.

    Args:
        rows: token ids; an iterable is read once.
        documents: the number of each row's document, never falling; unless given, a row is one.
        pairs: whether to count neighbours, which `PairInformation` needs.

    Raises:
        DataError: an id is outside the vocabulary, or the document numbers do not fit the rows.
    """
    counts = _Counts(vocabulary, pairs)
    numbers = None if documents is None else np.asarray(documents)
    if numbers is not None and (numbers.ndim != 1 or (np.diff(numbers) < 0).any()):
        raise DataError("count_tokens: document numbers must be one for each row, never falling.")
    seen = 0
    for chunk in _chunks(rows):
        end = seen + len(chunk)
        if numbers is not None and end > len(numbers):
            break
        of = np.arange(seen, end) if numbers is None else numbers[seen:end]
        counts.add(chunk, of)
        seen = end
    else:
        if numbers is None or seen == len(numbers):
            return counts.finish()
    raise DataError(f"count_tokens: {len(numbers)} document numbers do not fit the rows.")


class _Counts:
    """What has been counted so far."""

    def __init__(self, vocabulary: Vocabulary, with_pairs: bool) -> None:
        self.vocabulary, self.with_pairs = vocabulary, with_pairs
        self.documents = 0
        self.frequency = np.zeros(vocabulary.size, np.int64)
        self.document_frequency = np.zeros(vocabulary.size, np.int64)
        # the document that the last chunk ended in may go on: which tokens it has had
        self.open: int | None = None
        self.had = np.zeros(vocabulary.size, np.bool_)
        self.pairs = np.empty(0, np.uint64), np.empty(0, np.int64)
        self.waiting: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, chunk: Ragged, documents: np.ndarray) -> None:
        size = self.vocabulary.size
        tokens = chunk.values.astype(np.int64)
        if len(tokens) and not 0 <= tokens.min() <= tokens.max() < size:
            raise DataError(
                f"count_tokens: token ids run from {tokens.min()} to {tokens.max()}, outside the "
                f"vocabulary of {size}. Give the vocabulary of the tokenizer that made them."
            )
        counted = self.vocabulary.maskable[tokens]
        self.frequency += np.bincount(tokens[counted], minlength=size)
        self._add_documents(tokens[counted], chunk.rows[counted], documents)
        if self.with_pairs and len(tokens):
            beside = counted[:-1] & counted[1:]
            ends = chunk.offsets[1:-1]
            beside[ends[(ends > 0) & (ends < len(tokens))] - 1] = False
            left, right = tokens[:-1][beside], tokens[1:][beside]
            keys = left.astype(np.uint64) * np.uint64(size) + right.astype(np.uint64)
            self.waiting.append(np.unique(keys, return_counts=True))
            if sum(len(keys) for keys, _ in self.waiting) > max(4 * _CHUNK, len(self.pairs[0])):
                self._merge()

    def _add_documents(self, tokens: np.ndarray, rows: np.ndarray, documents: np.ndarray) -> None:
        size = self.vocabulary.size
        index = np.cumsum(np.diff(documents, prepend=documents[0]) != 0)
        goes_on = self.open == documents[0]
        self.documents += int(index[-1]) + (not goes_on)
        found = np.unique(index[rows] * size + tokens)
        document, token = found // size, found % size
        new = ~self.had[token] if goes_on else np.ones(len(token), np.bool_)
        self.document_frequency += np.bincount(token[new | (document > 0)], minlength=size)
        if not goes_on or index[-1] > 0:
            self.had[:] = False
        self.had[token[document == index[-1]]] = True
        self.open = int(documents[-1])

    def _merge(self) -> None:
        keys, counts = (
            np.concatenate(part) for part in zip(self.pairs, *self.waiting, strict=True)
        )
        order = np.argsort(keys, kind="stable")
        keys, counts = keys[order], counts[order]
        begins = np.flatnonzero(np.append(True, keys[1:] != keys[:-1])) if len(keys) else order
        self.pairs = keys[begins], np.add.reduceat(counts, begins) if len(keys) else counts
        self.waiting = []

    def finish(self) -> TokenStatistics:
        self._merge()
        counts: tuple[Any, ...] = (self.frequency, self.document_frequency, *self.pairs)
        return TokenStatistics(self.vocabulary.size, self.documents, *counts)


def _chunks(rows: Ragged | Iterable[Sequence[int]]) -> Iterator[Ragged]:
    """Whole rows, about `_CHUNK` tokens at a time; of a `Ragged` as views."""
    if isinstance(rows, Ragged):
        first = 0
        while first < len(rows):
            stop = np.searchsorted(rows.offsets, rows.offsets[first] + _CHUNK, side="right") - 1
            stop = max(first + 1, int(stop))
            offsets = rows.offsets[first : stop + 1]
            yield Ragged(rows.values[offsets[0] : offsets[-1]], offsets - offsets[0])
            first = stop
        return
    held, tokens = [], 0
    for row in rows:
        held.append(row)
        tokens += len(row)
        if tokens >= _CHUNK or len(held) >= _CHUNK:
            yield Ragged.from_lists(held)
            held, tokens = [], 0
    if held:
        yield Ragged.from_lists(held)
