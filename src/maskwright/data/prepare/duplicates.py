"""Exact duplicates of documents: those whose normalised text has the hash of an earlier one.

Normalised is what `maskwright.data.splits.normalised` says: each run of white space as one space,
and none at the ends. Its hash is BLAKE2b of 128 bits, of which two different texts of any corpus
share one with a probability below 10⁻¹⁸ (10⁹ documents).

The hashes of a piece are a sorted run on the disk, 24 bytes a document; memory holds a range of
them at a time, and 8 bytes for each document that is dropped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from maskwright.data.prepare.runs import MERGE_BYTES, merged
from maskwright.data.splits import normalised


def digest(text: str) -> bytes:
    """16 bytes, the same for texts that differ in white space only."""
    return hashlib.blake2b(normalised(text).encode(), digest_size=16).digest()


_EMPTY = np.frombuffer(digest(""), "<u8")


def digest_run(digests: bytes, piece: int) -> np.ndarray:
    """A sorted run ``(3, n)`` uint64: both halves of each digest, and which document it is.

    Documents of a piece are known by their place in it until all pieces have been counted: the
    third row is ``piece << 32 | place``, which rises as the documents do.

    Args:
        digests: of ``n`` documents, 16 bytes each.
        piece: its number.
    """
    halves = np.frombuffer(digests, "<u8").reshape(-1, 2).T
    places = np.arange(halves.shape[1], dtype=np.uint64) | np.uint64(piece << 32)
    order = np.argsort(halves[0], kind="stable")
    return np.vstack([halves[:, order], places[order]])


def dropped_documents(
    paths: Sequence[Path],
    starts: np.ndarray,
    *,
    deduplicate: bool = True,
    limit: int = MERGE_BYTES,
) -> tuple[np.ndarray, int]:
    """The numbers of the documents to drop, ``(n,)`` int64, rising; and how many of them are empty.

    Args:
        paths: the runs of all pieces.
        starts: the number of the first document of each piece.
        deduplicate: without it, empty documents alone are dropped.
    """
    dropped, empty = [np.empty(0, np.uint64)], 0
    for high, low, document in merged(paths, limit):
        order = np.lexsort((document, low, high))
        high, low, document = high[order], low[order], document[order]
        blank = (high == _EMPTY[0]) & (low == _EMPTY[1])
        again = np.zeros(len(high), np.bool_)
        if deduplicate:
            again[1:] = (high[1:] == high[:-1]) & (low[1:] == low[:-1])
        dropped.append(document[again | blank])
        empty += int(blank.sum())
    documents = np.sort(np.concatenate(dropped))
    places = (documents & np.uint64(0xFFFFFFFF)).astype(np.int64)
    return starts[(documents >> np.uint64(32)).astype(np.int64)] + places, empty
