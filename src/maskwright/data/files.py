"""Documents from local files: plain text, JSON lines, CSV and Parquet."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable
from pathlib import Path

from maskwright.errors import DataError, MissingExtra, unknown

_BLANK_LINES = re.compile(r"\n[^\S\n]*\n\s*")


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
    readers = {".txt": _read_text, ".jsonl": _read_jsonl, ".csv": _read_csv}
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _read_parquet(path, column)
    if suffix not in readers:
        raise DataError(f"{path}: {unknown('file type', suffix, [*readers, '.parquet'])}")
    return readers[suffix](path, column)


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


def _read_text(path: Path, column: str) -> list[str]:
    return _BLANK_LINES.split(_decode(path).strip())


def _read_jsonl(path: Path, column: str) -> list[str]:
    documents = []
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
            raise DataError(
                f"{path}, line {number} is a {type(row).__name__}, not an object. Write "
                '{"text": …} on each line.'
            )
        _check_column(f"{path}, line {number}", column, row)
        documents.append(_text(row[column], f"{path}, line {number}", column))
    return documents


def _read_csv(path: Path, column: str) -> list[str]:
    # newline="" keeps line ends inside quoted fields as they are
    reader = csv.DictReader(io.StringIO(_decode(path), newline=""), strict=True)
    limit = csv.field_size_limit(1 << 30)  # the 128 KiB of the default is less than a document
    try:
        if not reader.fieldnames:
            return []
        _check_column(str(path), column, reader.fieldnames)
        return [_text(row[column], f"{path}, line {reader.line_num}", column) for row in reader]
    except csv.Error as error:
        raise DataError(
            f"{path}, near line {reader.line_num}: not CSV ({error}). Quote fields that hold "
            "commas, quotes or line ends."
        ) from None
    finally:
        csv.field_size_limit(limit)


def _read_parquet(path: Path, column: str) -> list[str]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as parquet
    except ImportError:
        raise MissingExtra("pyarrow", "hf") from None
    try:
        file = parquet.ParquetFile(path)
        _check_column(str(path), column, file.schema_arrow.names)
        values = file.read(columns=[column]).column(column).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a readable Parquet file ({error}).") from None
    return [_text(value, f"{path}, row {row}", column) for row, value in enumerate(values)]


def _check_column(where: str, column: str, columns: Iterable[str]) -> None:
    if column not in columns:
        raise DataError(
            f"{where}: {unknown('column', column, columns)} Choose one with text_column."
        )


def _text(value: object, where: str, column: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DataError(
            f"{where}: column {column!r} holds a {type(value).__name__}, not text. Choose another "
            "with text_column."
        )
    return value
