"""A token table as a Parquet file, and back.

Parquet is compressed and read by everything, but cannot be mapped. So a shard in it is for keeping
and for other programs, and is decoded into a table on the local disk before samples are taken out
of it one by one. Its columns, a row a sample:

    input_ids    list<uint16>, or <int32> from a vocabulary of 65,536 on
    word_starts  list<uint8>, 1 where a word begins; left out where it is not known
    document     int32, the document that the sample was cut from, numbered in the shard

and under the key ``maskwright`` of its schema the ``meta`` of the table, as JSON.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from maskwright.data.table import SCHEMA_KEY, TokenTable
from maskwright.data.table_writer import TableWriter
from maskwright.errors import CacheError, MissingExtra

ROW_GROUP = 1 << 20  # tokens of a row group, about
_COUNTS = ("format", "vocabulary_size", "samples", "tokens", "documents")


def write_parquet(table: TokenTable, path: Path) -> None:
    """Writes the samples of a table, a row group at a time in memory.

    The same samples give the same bytes, with one version of pyarrow.
    """
    pa, parquet = _pyarrow()
    values = pa.from_numpy_dtype(table.tokens.values.dtype)
    fields = {"input_ids": pa.list_(values)}
    if table.word_starts is not None:
        fields["word_starts"] = pa.list_(pa.uint8())
    fields["document"] = pa.int32()
    meta = json.dumps(table.meta, sort_keys=True)
    schema = pa.schema(fields, metadata={SCHEMA_KEY: meta})
    offsets = table.tokens.offsets
    with parquet.ParquetWriter(
        path, schema, compression="zstd", use_dictionary=["document"]
    ) as writer:
        start = 0
        while start < len(table):
            stop = int(np.searchsorted(offsets, offsets[start] + ROW_GROUP, side="right")) - 1
            stop = max(stop, start + 1)
            tokens = slice(int(offsets[start]), int(offsets[stop]))
            ends = pa.array((offsets[start : stop + 1] - offsets[start]).astype(np.int32))
            columns = [pa.ListArray.from_arrays(ends, pa.array(table.tokens.values[tokens]))]
            if table.word_starts is not None:
                starts = pa.array(table.word_starts.values[tokens])
                columns.append(pa.ListArray.from_arrays(ends, starts))
            columns.append(pa.array(table.documents[start:stop].astype(np.int32)))
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
            start = stop
    table.release()


def read_parquet(source: Path, path: Path) -> TokenTable:
    """The table at ``path`` (``NAME.arrow``) that the Parquet file ``source`` was written from.

    Raises:
        CacheError: the file is damaged, or another program's.
        SaveError: ``path`` cannot be written.
    """
    pa, parquet = _pyarrow()
    try:
        with parquet.ParquetFile(source) as file:
            meta = json.loads((file.schema_arrow.metadata or {})[SCHEMA_KEY])
            with_words = "word_starts" in file.schema_arrow.names
            with TableWriter(
                path,
                vocabulary_size=meta["vocabulary_size"],
                meta={name: value for name, value in meta.items() if name not in _COUNTS},
                word_starts=with_words,
            ) as writer:
                for group in range(file.num_row_groups):
                    _add(writer, file.read_row_group(group), with_words)
    except (pa.ArrowException, LookupError, ValueError, TypeError, FileNotFoundError) as error:
        raise CacheError(
            f"{source} is not a shard of a token table ({error}). Prepare its folder again with "
            "the same command: it makes the shard anew."
        ) from None
    return writer.table


def _add(writer: TableWriter, rows: Any, with_words: bool) -> None:
    tokens = rows["input_ids"].combine_chunks()
    starts = rows["word_starts"].combine_chunks() if with_words else None
    writer.add(
        tokens.flatten().to_numpy(),
        np.diff(tokens.offsets.to_numpy()),
        documents=rows["document"].to_numpy(),
        word_starts=None if starts is None else starts.flatten().to_numpy(),
    )


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as parquet
    except ImportError:
        raise MissingExtra("pyarrow", "hf") from None
    return pa, parquet
