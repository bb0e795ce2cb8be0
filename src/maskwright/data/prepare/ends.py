"""Where a file may be divided between documents.

``.txt``      at a line that follows a blank one: found from any place in the file
``.jsonl``    at any line: likewise
``.csv``      after a row: only a reading from the top tells where one ends, since fields may hold
              line ends, so a CSV file is gone through once before the work is divided
``.parquet``  between row groups
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Any

from maskwright.data.places import open_binary, size_of
from maskwright.data.prepare.lines import as_text, csv_limit, lines_of
from maskwright.errors import DataError, MissingExtra


def line_ends(place: str, size: int, target: int, *, after_blank: bool) -> Iterator[int]:
    """Where pieces end: at the first line that begins after each multiple of ``target``."""
    with open_binary(place) as file:
        at = target
        while at < size:
            file.seek(at)
            at += len(file.readline())  # the end of the line that was begun
            blank = not after_blank
            for start, line in lines_of(file, at, size):
                if blank and (not after_blank or line.decode("utf-8", "replace").strip()):
                    yield start
                    at = start
                    break
                blank = blank or not line.decode("utf-8", "replace").strip()
            else:
                return
            at += target


def csv_ends(place: str, target: int) -> list[int]:
    """From the first row after the names of the columns on, all ends of pieces."""
    size, read = size_of(place), 0

    def counted() -> Iterator[str]:
        nonlocal read
        for start, line in lines_of(file, 0, size):
            read = start + len(line)
            yield as_text(line, place, start)

    with open_binary(place) as file, csv_limit():
        rows = csv.reader(counted(), strict=True)
        try:
            next(rows, None)  # the names of the columns
            ends = [read]
            for _ in rows:
                if read - ends[-1] >= target:
                    ends.append(read)
        except csv.Error as error:
            raise DataError(
                f"{place}, near line {rows.line_num}: not CSV ({error}). Quote fields that hold "
                "commas, quotes or line ends."
            ) from None
    return ends if ends[-1] == size else [*ends, size]


def row_groups(place: str, column: str) -> list[int]:
    """Bytes of the column in each row group of a Parquet file."""
    with open_binary(place) as file:
        meta = parquet_file(file, place).metadata
        sizes = []
        for number in range(meta.num_row_groups):
            group = meta.row_group(number)
            columns = [group.column(index) for index in range(group.num_columns)]
            mine = [one.total_uncompressed_size for one in columns if one.path_in_schema == column]
            sizes.append(sum(mine))
    return sizes


def parquet_file(file: Any, place: str) -> Any:
    """An open `pyarrow.parquet.ParquetFile`; a `DataError` where it is none."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as parquet
    except ImportError:
        raise MissingExtra("pyarrow", "hf") from None
    try:
        return parquet.ParquetFile(file)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{place} is not a readable Parquet file ({error}).") from None
