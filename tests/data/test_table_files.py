"""Tables on disk: whole, or refused; written, or not there at all."""

import errno
import json
import multiprocessing
import os

import numpy as np
import pytest

from maskwright.data import table_writer
from maskwright.data.table import TokenTable
from maskwright.data.table_writer import TableWriter
from maskwright.errors import CacheError, DataError, SaveError

ROWS = [[5, 6, 7], [8], [9, 10]] * 50


def writer_for(path, **options):
    return TableWriter(path, **{"vocabulary_size": 100, "meta": {}, **options})


def add(writer, rows=ROWS):
    writer.add(
        np.array([i for row in rows for i in row]),
        np.array([len(row) for row in rows]),
        documents=np.arange(len(rows)),
    )


# -- damage -------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_a_truncated_file_is_refused(write, keep):
    path = write(ROWS).path
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CacheError, match="delete both and build"):
        TokenTable.open(path)


def test_every_damaged_byte_of_the_note_is_refused_or_means_the_same(write):
    path = write(ROWS).path
    note = path.with_suffix(".json")
    good = note.read_bytes()
    meta = TokenTable.open(path).meta
    refused = 0
    for place in range(len(good)):
        note.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        try:
            assert TokenTable.open(path).meta == meta  # a changed space, say
        except CacheError:
            refused += 1
    assert refused > len(good) / 2


def test_damage_inside_the_arrow_file_is_never_read_as_a_table(write):
    table = write(ROWS)
    path, good = table.path, table.path.read_bytes()
    start = table._mapped.buffer.address
    values = table.tokens.values, table.word_starts.values, table.documents
    data = [range(a.ctypes.data - start, a.ctypes.data - start + a.nbytes) for a in values]
    rng = np.random.default_rng(0)
    refused = 0
    for place in rng.integers(0, len(good), 300).tolist():
        if any(place in places for places in data):
            continue  # another token is as good a token; only structure can be checked
        path.write_bytes(good[:place] + bytes([good[place] ^ 0xFF]) + good[place + 1 :])
        try:
            again = TokenTable.open(path)
        except CacheError:
            refused += 1
        else:  # padding between buffers
            assert again.tokens == table.tokens
    assert refused > 50


def test_offsets_that_fall_are_refused(write):
    table = write(ROWS)
    place = table.tokens.offsets.ctypes.data - table._mapped.buffer.address + 8 * 20
    damaged = bytearray(table.path.read_bytes())
    damaged[place : place + 8] = (10_000).to_bytes(8, "little")
    table.path.write_bytes(damaged)
    with pytest.raises(CacheError, match="offsets must rise"):
        TokenTable.open(table.path)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"format": 99}, "has format 99 where this version reads 1"),
        ({"bytes": "many"}, "is not the note"),
        ({"bytes": 1}, "where its note says 1"),
        ({"meta": {"split": "test"}}, "does not agree with the note"),
    ],
)
def test_a_wrong_note_is_refused(write, change, message):
    path = write(ROWS).path
    note = path.with_suffix(".json")
    note.write_text(json.dumps({**json.loads(note.read_text()), **change}))
    with pytest.raises(CacheError, match=message):
        TokenTable.open(path)


def test_a_missing_file_is_refused(write, tmp_path):
    with pytest.raises(CacheError, match="No such file"):
        TokenTable.open(tmp_path / "none.arrow")
    path = write(ROWS).path
    path.unlink()
    with pytest.raises(CacheError, match="cannot be mapped"):
        TokenTable.open(path)


def test_another_file_is_refused(write):
    path = write(ROWS).path
    path.write_bytes(b"x" * path.stat().st_size)
    with pytest.raises(CacheError, match="mark of an Arrow file"):
        TokenTable.open(path)


# -- writing ------------------------------------------------------------------------------


def test_nothing_else_is_left_in_the_folder(write, tmp_path):
    write(ROWS)
    assert sorted(os.listdir(tmp_path)) == ["table.arrow", "table.json"]


def full_disk(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_while_closing_keeps_the_old_table(write, tmp_path, monkeypatch):
    write(ROWS)
    monkeypatch.setattr(table_writer.os, "fsync", full_disk)
    with (
        pytest.raises(
            SaveError, match=r"No space is left to write .*table.arrow.*MASKWRIGHT_CACHE"
        ),
        writer_for(tmp_path / "table.arrow") as writer,
    ):
        add(writer, [[1]])
    assert sorted(os.listdir(tmp_path)) == ["table.arrow", "table.json"]
    assert TokenTable.open(tmp_path / "table.arrow").tokens.to_lists() == ROWS


def test_both_files_reach_the_disk_before_their_names_change(write, monkeypatch):
    done = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: done.append("fsync") or fsync(file))
    monkeypatch.setattr(os, "replace", lambda *paths: done.append("replace") or replace(*paths))
    write(ROWS)
    assert done == ["fsync", "fsync", "replace", "replace"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux's /dev/full")
@pytest.mark.parametrize("name", ["tokens", "arrow"])
def test_a_full_disk_in_the_middle(tmp_path, monkeypatch, name):
    """A real ENOSPC: of a spool while adding, of the Arrow file while closing."""
    real = TableWriter._temporary
    full = tmp_path / f"full.{name}"
    full.symlink_to("/dev/full")
    monkeypatch.setattr(
        TableWriter, "_temporary", lambda self, n: full if n == name else real(self, n)
    )
    with (
        pytest.raises(SaveError, match="No space is left"),
        writer_for(tmp_path / "t.arrow") as writer,
    ):
        add(writer, [[1] * 100_000])
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_while_adding_leaves_nothing(tmp_path, error):
    def interrupted():
        with writer_for(tmp_path / "t.arrow") as writer:
            add(writer)
            raise error

    with pytest.raises(error):
        interrupted()
    assert os.listdir(tmp_path) == []


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(SaveError, match=r"cannot be written .*MASKWRIGHT_CACHE"),
        writer_for(tmp_path / "file" / "t.arrow"),
    ):
        pass


def test_an_empty_table_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no sample was added"), writer_for(tmp_path / "t.arrow"):
        pass
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "tokens, lengths, documents, starts, message",
    [
        ([1, 100], [2], [0], None, "outside the vocabulary of 100"),
        ([-1], [1], [0], None, "outside the vocabulary"),
        ([1, 2], [1], [0], None, "lengths sum to 1 for 2 tokens"),
        ([1, 2], [1, 1], [0], None, "1 document numbers"),
        ([1, 2], [1, 1], [1, 0], None, "must never fall"),
        ([1], [1], [0], [1], "must be given never"),
    ],
)
def test_what_does_not_fit_is_not_added(tmp_path, tokens, lengths, documents, starts, message):
    with (
        pytest.raises(DataError, match=message),
        writer_for(tmp_path / "t.arrow") as writer,
    ):
        writer.add(
            np.array(tokens),
            np.array(lengths),
            documents=np.array(documents),
            word_starts=None if starts is None else np.array(starts),
        )


def test_the_table_is_not_there_before_the_end(tmp_path):
    with writer_for(tmp_path / "t.arrow") as writer:
        add(writer)
        assert not (tmp_path / "t.arrow").exists()
        with pytest.raises(DataError, match="leave its `with` first"):
            _ = writer.table
    assert writer.table.tokens.to_lists() == ROWS


def _write_often(path, barrier, failures):
    barrier.wait()
    for _ in range(15):
        try:
            with writer_for(path) as writer:
                add(writer)
            assert TokenTable.open(path).tokens.to_lists() == ROWS
        except Exception as error:
            failures.put(repr(error))


def test_two_processes_write_one_table(tmp_path):
    context = multiprocessing.get_context("fork")
    barrier, failures = context.Barrier(2), context.Queue()
    arguments = (tmp_path / "t.arrow", barrier, failures)
    processes = [context.Process(target=_write_often, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert failures.empty(), failures.get()
    assert sorted(os.listdir(tmp_path)) == ["t.arrow", "t.json"]
