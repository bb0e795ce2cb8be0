"""A source as pieces that are read apart, in order, and whole.

A piece begins and ends between documents, so each is read without the others, and all of them in
order give the documents that one pass would give.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Literal

from maskwright.data.hub import load_splits
from maskwright.data.places import exists, files_in, is_folder, is_url, size_of
from maskwright.data.prepare.ends import csv_ends, line_ends, row_groups
from maskwright.data.sources import BUILT_IN, load_corpus
from maskwright.data.splits import SPLITS
from maskwright.errors import DataError, unknown

PIECE_BYTES = 32 << 20
ALL = "all"
Kind = Literal["files", "txt", "jsonl", "csv", "parquet", "hub", "built-in"]
_TABULAR = ("jsonl", "csv", "parquet")


@dataclass(frozen=True)
class Source:
    """Text by its name, and which of it is wanted.

    Args:
        name: as for `load_corpus`; or a URL of fsspec; or a folder of ``.jsonl``, ``.csv`` or
            ``.parquet`` files.
        text_column: of tabular sources.
        split: ``train``, ``validation`` or ``test``, as `load_corpus` divides the source; or
            ``all``, undivided.
    """

    name: str
    text_column: str = "text"
    split: str = ALL

    def __post_init__(self) -> None:
        if self.split not in (*SPLITS, ALL):
            raise DataError(unknown("split", self.split, (*SPLITS, ALL)))


@dataclass(frozen=True)
class Piece:
    """A part of a source.

    Args:
        kind: how it is read.
        places: the files; of a hub data set its name and its split.
        start, stop: bytes of text files; row groups, rows or documents of the others.
    """

    kind: Kind
    places: tuple[str, ...]
    start: int
    stop: int


def pieces_of(source: Source, target: int = PIECE_BYTES) -> list[Piece]:
    """The pieces of a source, in its order, each of about ``target`` bytes.

    Raises:
        DataError: nothing has that name, or it cannot be read.
        MissingExtra: reading it needs a package that is not installed.
    """
    name = source.name
    if name in BUILT_IN:
        sizes = [len(text) for text in built_in(source)]
        return [Piece("built-in", (name,), *ends) for ends in _groups(sizes, target)]
    if name.startswith("hf:") and not is_url(name):
        return list(_hub(source, target))
    if not exists(name):
        raise DataError(
            f"No file or folder {name!r}. {unknown('source', name, BUILT_IN)} Otherwise give a "
            "path or a URL that exists (.txt, .jsonl, .csv, .parquet, or a folder of one of these),"
            " or hf:NAME for a data set of the Hugging Face Hub."
        )
    if not is_folder(name):
        return list(_file(name, source.text_column, target))
    inside = files_in(name)
    texts = [place for place in inside if _suffix(place) == "txt"]
    if texts:
        sizes = [size_of(place) for place in texts]
        ends = _groups(sizes, target)
        return [Piece("files", tuple(texts[a:b]), 0, sum(sizes[a:b])) for a, b in ends]
    kinds = sorted({_suffix(place) for place in inside} & set(_TABULAR))
    if len(kinds) != 1:
        found = f"has {' and '.join(kinds)} files side by side" if kinds else "has no text in it"
        raise DataError(
            f"The folder {name} {found}. Give a folder of .txt files (a document each), or of "
            "files that are all .jsonl, all .csv or all .parquet."
        )
    mine = [place for place in inside if _suffix(place) == kinds[0]]
    return [piece for place in mine for piece in _file(place, source.text_column, target)]


@lru_cache(maxsize=1)
def built_in(source: Source) -> tuple[str, ...]:
    """The documents of a source that comes with maskwright, or in a package."""
    corpus = load_corpus(source.name)
    if source.split != ALL:
        return corpus.documents(source.split)
    return tuple(text for split in SPLITS for text in corpus.splits.get(split, ()))


def _file(place: str, column: str, target: int) -> Iterator[Piece]:
    kind = _suffix(place)
    if kind not in ("txt", *_TABULAR):
        known = [".txt", ".jsonl", ".csv", ".parquet"]
        raise DataError(f"{place}: {unknown('file type', f'.{kind}', known)}")
    if kind == "parquet":
        for start, stop in _groups(row_groups(place, column), target):
            yield Piece("parquet", (place,), start, stop)
        return
    if kind == "csv":
        ends = csv_ends(place, target)
    else:
        size = size_of(place)
        ends = [0, *line_ends(place, size, target, after_blank=kind == "txt"), size]
    for start, stop in pairwise(ends):
        yield Piece("txt" if kind == "txt" else "csv" if kind == "csv" else "jsonl",
                    (place,), start, stop)  # fmt: skip


def _suffix(place: str) -> str:
    return PurePosixPath(place).suffix.lower().removeprefix(".")


def _groups(sizes: list[int], target: int) -> Iterator[tuple[int, int]]:
    """First and one past the last of runs that reach ``target`` together."""
    first = held = 0
    for index, size in enumerate(sizes):
        held += size
        if held >= target or index == len(sizes) - 1:
            yield first, index + 1
            first, held = index + 1, 0


def _hub(source: Source, target: int) -> Iterator[Piece]:
    name = source.name.removeprefix("hf:")
    loaded = load_splits(name)
    wanted = SPLITS if source.split == ALL else (source.split,)
    mine = [split for split in wanted if split in loaded]
    if not mine:
        raise DataError(
            f"hf:{name} has no {source.split} split; it has {', '.join(sorted(loaded))}. Take one "
            "of those, or --split all."
        )
    for split in mine:
        rows = loaded[split]
        if source.text_column not in rows.column_names:
            message = unknown("column", source.text_column, rows.column_names)
            raise DataError(f"hf:{name}, split {split}: {message} Choose one with --text-column.")
        if len(rows):
            step = max(1, target * len(rows) // max(1, rows.data.nbytes))
            for start in range(0, len(rows), step):
                yield Piece("hub", (name, split), start, min(start + step, len(rows)))
