"""Clean documents and put each in train, validation or test by its own text.

A document's split depends on a hash of its text and nothing else, so it is the same in any
order, on any machine, after other documents have come or gone; and duplicates land together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

SPLITS = ("train", "validation", "test")
# Raised when the rule changes: every split made under an older rule is then another split.
_SEED = b"maskwright split 1\0"

Split = Mapping[str, Sequence[str]]


def normalised(text: str) -> str:
    """The text with each run of white space as one space: what makes two documents the same."""
    return " ".join(text.split())


def place(text: str) -> float:
    """Where the hash of a document's text falls, from 0 to 1 (1 excluded)."""
    digest = hashlib.sha256(_SEED + normalised(text).encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def clean(splits: Split) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    """Drop empty documents and exact duplicates, and say how many in notes.

    Of two equal documents in different splits the one in test or validation stays: dropping it
    from train keeps the evaluation as it was published and out of the training text.
    """
    seen: set[bytes] = set()
    kept: dict[str, tuple[str, ...]] = {}
    empty = doubles = 0
    for name in sorted(splits, key=lambda name: SPLITS.index(name), reverse=True):
        documents = []
        for text in splits[name]:
            words = normalised(text)
            key = hashlib.sha256(words.encode()).digest()
            if not words:
                empty += 1
            elif key in seen:
                doubles += 1
            else:
                seen.add(key)
                documents.append(text)
        kept[name] = tuple(documents)
    notes = []
    if empty:
        notes.append(f"{empty:,} empty {_documents(empty)} dropped.")
    if doubles:
        notes.append(f"{doubles:,} exact duplicate {_documents(doubles)} dropped.")
    return {name: kept[name] for name in splits}, tuple(notes)


def divide(
    documents: Iterable[str], *, validation: float = 0.05, test: float = 0.05
) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    """Put each document in a split by the hash of its text; give the splits and notes.

    Where so few documents are given that a split would be empty, the documents with the
    highest hashes fill it, which needs at least three documents.
    """
    documents = tuple(documents)
    places = np.array([place(text) for text in documents], np.float64)
    where, notes = divide_places(places, validation=validation, test=test)
    splits = {
        name: tuple(documents[row] for row in np.flatnonzero(where == number))
        for number, name in enumerate(SPLITS)
    }
    return splits, notes


def divide_places(
    places: np.ndarray, *, validation: float = 0.05, test: float = 0.05
) -> tuple[np.ndarray, tuple[str, ...]]:
    """`divide` for documents of which only their `place` is known.

    Args:
        places: ``(n,)`` float64.

    Returns:
        ``(n,)`` uint8, the number of each document's split in `SPLITS`; and notes.
    """
    where = np.where(places < 1 - validation - test, 0, 1).astype(np.uint8)
    where[places >= 1 - test] = 2
    wanted = {
        name: number
        for number, (name, share) in enumerate((("validation", validation), ("test", test)), 1)
        if share > 0
    }
    if all((where == number).any() for number in (0, *wanted.values())):
        return where, ()
    where[:] = 0
    if len(places) < 1 + len(wanted):
        return where, (
            f"{len(places)} {_documents(len(places))} cannot be divided into "
            f"{1 + len(wanted)} splits, so all are in train. Text files are divided into "
            "documents at blank lines.",
        )
    ranked = np.argsort(-places, kind="stable")
    for row, number in zip(ranked, wanted.values(), strict=False):
        where[row] = number
    return where, (
        f"With {len(places)} documents, one each is held out for {' and '.join(wanted)}: "
        "too few for a reliable comparison.",
    )


def fingerprint(splits: Split) -> str:
    """sha256 of split names and documents in their order, 64 hex digits."""
    digest = hashlib.sha256()
    for name in SPLITS:
        documents = splits.get(name, ())
        digest.update(f"{name} {len(documents)}\0".encode())
        for text in documents:
            data = text.encode()
            digest.update(len(data).to_bytes(8, "little"))
            digest.update(data)
    return digest.hexdigest()


def _documents(count: int) -> str:
    return "document" if count == 1 else "documents"
