"""Documents and rows from local files: plain text, JSON lines, CSV, TSV and Parquet."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from maskwright.errors import DataError, MissingExtra, unknown

_BLANK_LINES = re.compile(r"\n[^\S\n]*\n\s*")

# A row: where it stands, "a.csv, line 7", and the values of the columns that were asked for.
Row = tuple[str, list[object]]


def read_documents(path: Path, column: str) -> list[str]:
    """The documents of a file, or of the ``.txt`` files of a folder (by name, one each).

    A ``.txt`` file is divided into documents at its blank lines. Rows of the other formats
    are one document each, from ``column``; a row where it is null is an empty document.

    Raises:
        DataError: the file is of no known kind, not UTF-8, malformed, or lacks the column.
        MissingExtra: Parquet without pyarrow.
    """
    if path.is_dir():
        names = sorted(path.glob("*.txt"))
        if not names:
            raise DataError(
                f"The folder {path} has no .txt file in it. A folder is read as one document per "
                ".txt file; give a .jsonl, .csv or .parquet file by its own path."
            )
        return [_decode(name) for name in names]
    if path.suffix.lower() == ".txt":
        return _BLANK_LINES.split(_decode(path).strip())
    rows = read_rows(path, {"text_column": column}, others=(".txt",))
    return [as_text(value, where, column) for where, [value] in rows]


def read_rows(
    path: Path, columns: Mapping[str, str], *, others: tuple[str, ...] = ()
) -> Iterator[Row]:
    """The rows of a ``.jsonl``, ``.csv``, ``.tsv`` or ``.parquet`` file.

    Fields of a ``.tsv`` file are not quoted: a quotation mark in them is text.

    Args:
        columns: setting that names a column → column; errors speak of the setting.
        others: endings that the caller reads itself.

    Raises:
        DataError: the file is of no known kind, not UTF-8, malformed, or lacks a column.
        MissingExtra: Parquet without pyarrow.
    """
    readers = {
        ".jsonl": _read_jsonl,
        ".csv": _read_csv,
        ".tsv": _read_csv,
        ".parquet": _read_parquet,
    }
    suffix = path.suffix.lower()
    if suffix not in readers:
        raise DataError(f"{path}: {unknown('file type', suffix, [*readers, *others])}")
    return readers[suffix](path, columns)


def _decode(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}).") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}, line {line}, byte {error.start}: 0x{data[error.start]:02x} is not UTF-8. "
            f"Convert the file first, for example: iconv -f LATIN1 -t UTF-8 {path.name}"
        ) from None
    return text.replace("\r\n", "\n")


def _read_jsonl(path: Path, columns: Mapping[str, str]) -> Iterator[Row]:
    for number, line in enumerate(_decode(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(
                f"{path}, line {number} is not JSON ({error}). A .jsonl file has one JSON object "
                "on each line."
            ) from None
        if not isinstance(row, dict):
            example = ", ".join(f'"{column}": …' for column in columns.values())
            raise DataError(
                f"{path}, line {number} is a {type(row).__name__}, not an object. Write "
                f"{{{example}}} on each line."
            )
        where = f"{path}, line {number}"
        _check_columns(where, columns, row)
        yield where, [row[column] for column in columns.values()]


def _read_csv(path: Path, columns: Mapping[str, str]) -> Iterator[Row]:
    tabs = path.suffix.lower() == ".tsv"
    # newline="" keeps line ends inside quoted fields as they are
    reader = csv.DictReader(
        io.StringIO(_decode(path), newline=""),
        strict=True,
        delimiter="\t" if tabs else ",",
        quoting=csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL,
    )
    limit = csv.field_size_limit(1 << 30)  # the 128 KiB of the default is less than a document
    try:
        if not reader.fieldnames:
            return
        _check_columns(str(path), columns, reader.fieldnames)
        for row in reader:
            yield (
                f"{path}, line {reader.line_num}",
                [row[column] for column in columns.values()],
            )
    except csv.Error as error:
        raise DataError(
            f"{path}, near line {reader.line_num}: not {'TSV' if tabs else 'CSV'} ({error}). Quote "
            "fields that hold commas, quotes or line ends."
        ) from None
    finally:
        csv.field_size_limit(limit)


def _read_parquet(path: Path, columns: Mapping[str, str]) -> Iterator[Row]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as parquet
    except ImportError:
        raise MissingExtra("pyarrow", "hf") from None
    try:
        file = parquet.ParquetFile(path)
        _check_columns(str(path), columns, file.schema_arrow.names)
        table = file.read(columns=list(columns.values()))
        lists = [table.column(column).to_pylist() for column in columns.values()]
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a readable Parquet file ({error}).") from None
    for number, values in enumerate(zip(*lists, strict=True)):
        yield f"{path}, row {number}", list(values)


def _check_columns(where: str, columns: Mapping[str, str], found: Iterable[str]) -> None:
    for setting, column in columns.items():
        if column not in found:
            message = unknown("column", column, found)
            raise DataError(f"{where}: {message} Choose one with {setting}.")


def as_text(value: object, where: str, column: str) -> str:
    """A cell of the text column; null is an empty text."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DataError(
            f"{where}: column {column!r} holds a {type(value).__name__}, not text. Choose another "
            "with text_column."
        )
    return value
