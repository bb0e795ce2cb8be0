"""Rows of two sentences from each kind of file: TSV, CSV, JSON lines, two parallel files.

A reader yields `Pair`, or `BadLine` for a line that gives none, and goes on. What makes the whole
file unreadable is a `DataError` at once.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from maskwright.data.pairs.pair import BadLine, Pair
from maskwright.data.pairs.text_file import lines_of, read_text
from maskwright.errors import DataError, unknown

Column = int | str
Columns = tuple[Column, Column]
Found = Iterator[Pair | BadLine]

_SETTINGS = ("source_column", "target_column")
_FIELD_LIMIT = 1 << 30  # the 128 KiB of csv's default is less than some cell


def read_tsv(path: Path, columns: Columns) -> Found:
    """A line a pair, fields between tabs; quotation marks are text."""
    rows = ((n, line.split("\t")) for n, line in enumerate(lines_of(read_text(path)), 1))
    first, second = _numbers(path, columns, rows)
    for number, fields in rows:
        if fields != [""]:
            yield _pick(number, fields, first, second)


def read_csv(path: Path, columns: Columns) -> Found:
    """A record a pair, fields between commas, in quotation marks where they hold any of both."""
    lines = lines_of(read_text(path))
    rows = _records(path, lines)
    good = (row for row in rows if not isinstance(row, BadLine))
    first, second = _numbers(path, columns, good)
    for row in rows:
        yield row if isinstance(row, BadLine) else _pick(*row, first, second)


def read_jsonl(path: Path, columns: Columns) -> Found:
    """A line a JSON object."""
    for number, line in enumerate(lines_of(read_text(path)), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            yield BadLine(number, f"is not JSON ({error})")
            continue
        if not isinstance(row, dict):
            yield BadLine(number, f"is a {type(row).__name__}, where a JSON object is wanted")
            continue
        wrong = [column for column in columns if not isinstance(row.get(str(column)), str)]
        if wrong:
            there = ", ".join(row) or "nothing"
            yield BadLine(number, f"has no text {wrong[0]!r} (it has: {there})")
        else:
            yield Pair(row[str(columns[0])], row[str(columns[1])], number)


def read_parallel(source: Path, target: Path) -> Found:
    """Two files, of which line *n* of one is the translation of line *n* of the other.

    Raises:
        DataError: they have different numbers of lines, so nothing says which belong together.
    """
    sources, targets = lines_of(read_text(source)), lines_of(read_text(target))
    if len(sources) != len(targets):
        raise DataError(
            f"{source} has {len(sources):,} lines and {target} has {len(targets):,}. In parallel "
            "files each line has its translation on the same line of the other; keep an empty "
            "line where there is none, and skip it with skip_bad=True."
        )
    for number, (one, other) in enumerate(zip(sources, targets, strict=True), 1):
        if one or other:
            yield Pair(one, other, number)


def _numbers(
    path: Path, columns: Columns, rows: Iterator[tuple[int, list[str]]]
) -> tuple[int, int]:
    """The places of the columns; takes the head off ``rows`` where columns have names."""
    if all(isinstance(column, int) for column in columns):
        return columns  # type: ignore[return-value]
    _, head = next(rows, (1, []))
    head = [name.strip() for name in head]
    places = []
    for setting, column in zip(_SETTINGS, columns, strict=True):
        if isinstance(column, str) and column not in head:
            raise DataError(
                f"{path}: {unknown('column', column, head)} Choose one with {setting}; where the "
                "first line is a pair and not the names of columns, give numbers: "
                "source_column=0, target_column=1."
            )
        places.append(head.index(column) if isinstance(column, str) else column)
    return places[0], places[1]


def _pick(line: int, fields: Sequence[str], first: int, second: int) -> Pair | BadLine:
    if len(fields) <= max(first, second):
        return BadLine(
            line, f"has {len(fields)} columns, and column {max(first, second)} (from 0) is needed"
        )
    return Pair(fields[first], fields[second], line)


def _records(path: Path, lines: list[str]) -> Iterator[tuple[int, list[str]] | BadLine]:
    """The records of a CSV file, each with the line that it begins on."""
    reader = csv.reader((f"{line}\n" for line in lines), strict=True)
    limit = csv.field_size_limit(_FIELD_LIMIT)
    try:
        while True:
            line = reader.line_num + 1
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if reader.line_num >= len(lines) and reader.line_num > line:
                    # to skip it would be to lose the rest of the file
                    raise DataError(
                        f"{path}, line {line}: a quotation mark is opened there and the record "
                        f"never ends ({error}). Close it; inside quotation marks, write one as two."
                    ) from None
                yield BadLine(line, f"is not CSV ({error}): quote what holds commas or quotes")
                continue
            if fields:
                yield line, fields
    finally:
        csv.field_size_limit(limit)
