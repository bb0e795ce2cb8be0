"""The documents of a piece, one after another: no more than one is held at a time.

They are those of `maskwright.data.files.read_documents`, which reads a file as a whole.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator

from maskwright.data import splits
from maskwright.data.hub import load_splits
from maskwright.data.places import open_binary
from maskwright.data.prepare.ends import parquet_file
from maskwright.data.prepare.lines import as_text, csv_limit, lines_of
from maskwright.data.prepare.pieces import ALL, Piece, Source, built_in
from maskwright.errors import DataError, unknown

_ROWS = 256  # read at a time from columns
_HELD_OUT = 0.05  # each of validation and test, as load_corpus divides files


def documents_of(piece: Piece, source: Source) -> Iterator[str]:
    """The documents of ``piece`` that are in the split that is wanted, in their order.

    Raises:
        DataError: something in it cannot be read; the message says where.
    """
    texts = _READERS[piece.kind](piece, source)
    # these come divided
    if source.split == ALL or piece.kind in ("hub", "built-in"):
        return texts
    return (text for text in texts if text.strip() and _split(text) == source.split)


def _split(text: str) -> str:
    """As `maskwright.data.splits.divide` puts it."""
    where = splits.place(text)
    if where >= 1 - _HELD_OUT:
        return "test"
    return "train" if where < 1 - _HELD_OUT - _HELD_OUT else "validation"


def _files(piece: Piece, source: Source) -> Iterator[str]:
    for place in piece.places:
        with open_binary(place) as file:
            yield as_text(file.read(), place, 0)


def _txt(piece: Piece, source: Source) -> Iterator[str]:
    (place,) = piece.places
    held: str | None = None  # the last document so far: that of a file loses the space at its end
    block: list[str] = []
    with open_binary(place) as file:
        for start, line in lines_of(file, piece.start, piece.stop):
            text = as_text(line, place, start)
            if text.strip():
                block.append(text)
            elif block:
                if held is not None:
                    yield held
                held, block = "".join(block).removesuffix("\n").lstrip(), []
        if block:
            if held is not None:
                yield held
            held = "".join(block).removesuffix("\n").lstrip()
        if held is not None:
            yield held if file.read(1) else held.rstrip()


def _jsonl(piece: Piece, source: Source) -> Iterator[str]:
    (place,) = piece.places
    column = source.text_column
    with open_binary(place) as file:
        for start, line in lines_of(file, piece.start, piece.stop):
            text = as_text(line, place, start)
            if not text.strip():
                continue
            where = f"{place}, the line at byte {start}"
            try:
                row = json.loads(text)
            except ValueError as error:
                raise DataError(
                    f"{where} is not JSON ({error}). A .jsonl file has one JSON object on each "
                    "line."
                ) from None
            if not isinstance(row, dict):
                raise DataError(
                    f"{where} is a {type(row).__name__}, not an object. Write "
                    '{"text": …} on each line.'
                )
            _check_column(where, column, row)
            yield _text(row[column], where, column)


def _csv(piece: Piece, source: Source) -> Iterator[str]:
    (place,) = piece.places
    column = source.text_column
    with open_binary(place) as file, csv_limit():

        def text(start: int, stop: int) -> Iterator[str]:
            return (as_text(line, place, at) for at, line in lines_of(file, start, stop))

        names = next(csv.reader(text(0, piece.stop), strict=True), [])
        _check_column(place, column, names)
        rows = csv.DictReader(text(piece.start, piece.stop), fieldnames=names, strict=True)
        try:
            for row in rows:
                where = f"{place}, line {rows.line_num} from byte {piece.start} on"
                yield _text(row[column], where, column)
        except csv.Error as error:
            raise DataError(
                f"{place}, near line {rows.line_num} from byte {piece.start} on: not CSV "
                f"({error}). Quote fields that hold commas, quotes or line ends."
            ) from None


def _parquet(piece: Piece, source: Source) -> Iterator[str]:
    (place,) = piece.places
    column = source.text_column
    with open_binary(place) as file:
        table = parquet_file(file, place)
        _check_column(place, column, table.schema_arrow.names)
        row = sum(table.metadata.row_group(group).num_rows for group in range(piece.start))
        groups = list(range(piece.start, piece.stop))
        try:
            for batch in table.iter_batches(_ROWS, row_groups=groups, columns=[column]):
                for value in batch.column(0).to_pylist():
                    yield _text(value, f"{place}, row {row}", column)
                    row += 1
        except OSError as error:  # pyarrow's for damaged pages, and that of the file system
            raise DataError(f"{place} is not a readable Parquet file ({error}).") from None


def _hub(piece: Piece, source: Source) -> Iterator[str]:
    name, split = piece.places
    rows = load_splits(name)[split]
    for start in range(piece.start, piece.stop, _ROWS):
        stop = min(start + _ROWS, piece.stop)
        for number, value in enumerate(rows[start:stop][source.text_column], start):
            yield _text(value, f"hf:{name}, {split} row {number}", source.text_column)


def _built_in(piece: Piece, source: Source) -> Iterator[str]:
    yield from built_in(source)[piece.start : piece.stop]


_READERS = {
    "files": _files,
    "txt": _txt,
    "jsonl": _jsonl,
    "csv": _csv,
    "parquet": _parquet,
    "hub": _hub,
    "built-in": _built_in,
}


def _check_column(where: str, column: str, columns: Iterable[str]) -> None:
    if column not in columns:
        message = unknown("column", column, columns)
        raise DataError(f"{where}: {message} Choose one with --text-column.")


def _text(value: object, where: str, column: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DataError(
            f"{where}: column {column!r} holds a {type(value).__name__}, not text. Choose another "
            "with --text-column."
        )
    return value
