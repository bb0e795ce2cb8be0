"""TokenTable: what is written is what is read, by row, by batch, and in another process."""

import os
import pickle
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maskwright.data.table import TokenTable
from maskwright.data.table_writer import TableWriter
from maskwright.errors import ConfigError, SampleIdError

ROWS = [[5, 6, 7], [8], [9, 10], [11, 12, 13, 14]]


def test_literal_table(write):
    table = write(ROWS, documents=[0, 0, 3, 3])
    assert len(table) == 4
    assert table.tokens.to_lists() == ROWS
    assert table.tokens.values.dtype == np.uint16
    assert table.word_starts.to_lists() == [[1, 0, 1], [0], [1, 0], [1, 0, 1, 0]]
    assert table.documents.tolist() == [0, 0, 3, 3]
    assert table.lengths.tolist() == [3, 1, 2, 4]
    assert table.meta == {
        "split": "train",
        "format": 1,
        "vocabulary_size": 100,
        "samples": 4,
        "tokens": 10,
        "documents": 2,
    }


def test_batch_is_the_rows_in_the_order_asked(write):
    batch = write(ROWS).batch(np.array([3, 0, 3]))
    assert batch.tokens.to_lists() == [ROWS[3], ROWS[0], ROWS[3]]
    assert batch.word_starts.to_lists() == [[1, 0, 1, 0], [1, 0, 1], [1, 0, 1, 0]]
    assert batch.sample_ids.tolist() == [3, 0, 3]
    assert batch.tokens.values.dtype == np.uint16


def test_row_is_a_plain_example(write):
    row = write(ROWS)[2]
    assert row["input_ids"].tolist() == [9, 10]
    assert row["input_ids"].dtype == np.int64
    assert row["sample_id"] == 2
    assert write(ROWS)[-1]["sample_id"] == 3
    with pytest.raises(IndexError):
        write(ROWS)[4]


@pytest.mark.parametrize(
    "ids, message",
    [
        ([4], "4 is outside the table's 0 … 3"),
        ([0, -1], "-1 is outside"),
        ([0.0], "float64"),
        ([[1]], "one axis"),
    ],
)
def test_a_wrong_sample_id_is_an_error(write, ids, message):
    with pytest.raises(SampleIdError, match=message):
        write(ROWS).batch(np.array(ids))


def test_an_empty_batch_is_a_batch(write):
    assert len(write(ROWS).batch(np.empty(0, np.int64))) == 0


def test_a_table_may_have_no_word_starts(write):
    table = write(ROWS, starts=False)
    assert table.word_starts is None
    assert table.batch(np.array([0])).word_starts is None
    assert table.head(2).word_starts is None


@pytest.mark.parametrize("size, dtype", [(65_535, np.uint16), (65_536, np.int32)])
def test_the_vocabulary_decides_the_width(write, size, dtype):
    table = write([[0, size - 1]], vocabulary_size=size)
    assert table.tokens.values.dtype == dtype
    assert table.batch(np.array([0])).tokens.to_lists() == [[0, size - 1]]


def test_the_file_is_one_record_batch_and_nothing_is_copied(write):
    table = write(ROWS)
    reader = pa.ipc.open_file(str(table.path))
    assert reader.num_record_batches == 1
    assert reader.schema.field("tokens").type == pa.large_list(pa.uint16())
    start = table._mapped.buffer.address
    for array in (table.tokens.values, table.tokens.offsets, table.word_starts.values):
        assert start <= array.ctypes.data < start + len(table._mapped)
        assert not array.flags.writeable


rows = st.lists(st.lists(st.integers(0, 70_000), max_size=9), min_size=1, max_size=12)


@given(rows, st.data())
def test_round_trip_and_gather_equal_the_slow_reference(rows, data):
    ids = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=20))
    cut = data.draw(st.integers(0, len(rows)))
    values = [np.array(row, np.int64) for row in rows]
    with tempfile.TemporaryDirectory() as folder:
        with TableWriter(
            Path(folder) / "t.arrow", vocabulary_size=70_001, meta={}, word_starts=True
        ) as writer:
            for first, last in ((0, cut), (cut, len(rows))):  # added in two parts
                flat = np.concatenate([*values[first:last], np.empty(0, np.int64)])
                writer.add(
                    flat,
                    np.array([len(row) for row in rows[first:last]], np.int64),
                    documents=np.arange(first, last),
                    word_starts=flat % 2,
                )
        table = writer.table
        assert table.tokens.to_lists() == rows
        batch = table.batch(np.array(ids, np.int64))
        assert batch.tokens.to_lists() == [rows[i] for i in ids]
        assert batch.word_starts.to_lists() == [[t % 2 for t in rows[i]] for i in ids]
        assert batch.tokens == table.tokens.take(ids)


# -- views --------------------------------------------------------------------------------


def test_head_and_slice_share_the_map(write):
    table = write(ROWS, documents=[0, 0, 1, 2])
    head = table.head(3)
    assert head.tokens.to_lists() == ROWS[:3]
    assert head.batch(np.array([2])).tokens.to_lists() == [ROWS[2]]
    assert {key: head.meta[key] for key in ("samples", "tokens", "documents")} == {
        "samples": 3,
        "tokens": 6,
        "documents": 2,
    }
    assert np.shares_memory(head.tokens.values, table.tokens.values)
    assert len(table.head(99)) == 4
    assert table.meta["samples"] == 4


@pytest.mark.parametrize("budget, samples", [(3, 1), (4, 2), (5, 2), (9, 3), (10, 4), (999, 4)])
def test_slice_keeps_within_its_budget(write, budget, samples):
    assert len(write(ROWS).slice(budget)) == samples


def test_views_of_nothing_are_errors(write):
    with pytest.raises(ConfigError, match="first sample, which has 3"):
        write(ROWS).slice(2)
    with pytest.raises(ConfigError, match="at least 1"):
        write(ROWS).head(0)


# -- other processes ----------------------------------------------------------------------


def test_it_pickles_as_its_path(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write([[1] * 500] * 200)
    table = TokenTable.open("table.arrow", resident_limit=5)
    data = pickle.dumps(table.head(7))
    assert len(data) < 500
    monkeypatch.chdir("/")  # a worker may start elsewhere
    again = pickle.loads(data)
    assert again.tokens == table.head(7).tokens
    assert again._mapped is not table._mapped
    assert again._mapped.limit == 5
    assert len(pickle.loads(pickle.dumps(table))) == 200


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_data_loader_workers_read_it(write, context):
    table = write(ROWS)
    loader = torch.utils.data.DataLoader(
        table, batch_size=None, num_workers=1, multiprocessing_context=context
    )
    assert [row["input_ids"].tolist() for row in loader] == ROWS


# -- memory -------------------------------------------------------------------------------


def test_pages_are_given_back_and_views_stay_valid(write):
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 60_000, (400, 512)).tolist()
    path = write(rows, vocabulary_size=60_000).path
    table = TokenTable.open(path, resident_limit=100_000)
    opened = table._mapped.releases
    view = table.tokens[7]
    for _ in range(10):
        ids = rng.integers(0, 400, 8)
        assert table.batch(ids).tokens.to_lists() == [rows[i] for i in ids]
    # 8 rows in 2 columns touch 1 MiB, so every batch passes the limit
    assert table._mapped.releases == opened + 10
    assert table._mapped.touched == 0
    assert view.tolist() == rows[7]


def resident(path: Path) -> int:
    """KiB of the file at ``path`` in this process's resident set."""
    total, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split(" ")[0]:
            inside = line.endswith(str(path))
        elif inside and line.startswith("Rss:"):
            total += int(line.split()[1])
    return total


@pytest.mark.skipif(not os.path.exists("/proc/self/smaps"), reason="needs Linux's smaps")
def test_release_returns_the_memory(write):
    path = write([[3] * 1000] * 2000).path  # 4 MB of tokens, 2 MB of word starts
    table = TokenTable.open(path)
    assert int(table.tokens.values.sum()) == 3 * 2_000_000
    assert resident(path) > 3_500
    table.release()
    assert resident(path) < 300
    assert int(table.tokens.values.sum()) == 3 * 2_000_000


def test_a_file_below_the_limit_keeps_its_pages(write):
    table = write(ROWS)
    opened = table._mapped.releases
    for _ in range(5000):
        table.batch(np.array([0, 1]))
    assert table._mapped.releases == opened
