"""``maskwright prepare``: teaches, tells, goes on, and refuses in one line."""

from __future__ import annotations

import sys

import pytest

from maskwright.data.sharded_table import ShardedTable
from tests.data.prepare.texts import KEPT, small_tokenizer, write_source


@pytest.fixture
def arguments(tmp_path):
    source = write_source(tmp_path)
    small_tokenizer().save_pretrained(tmp_path / "tokenizer")
    return [
        "prepare", source.name, "--tokenizer", tmp_path / "tokenizer", "--out", tmp_path / "out",
        "--max-length", 24,
    ]  # fmt: skip


def test_it_says_what_it_did(command, arguments, tmp_path):
    ended = command(*arguments, "--shard-tokens", 400)
    assert ended.status == 0, ended.err
    table = ShardedTable.open(tmp_path / "out")
    assert table.meta["documents"] == len(KEPT)
    for line in (
        "documents  19 of 24",
        "dropped    3 duplicates, 2 empty",
        f"samples    {len(table):,}",
        f"tokens     {table.meta['tokens']:,}",
        "shards     10, 10 of them written now",
        "time       ",
        "Prepared: ",
    ):
        assert line in ended.out
    again = command(*arguments, "--shard-tokens", 400)
    assert "shards     10, 0 of them written now" in again.out


@pytest.mark.parametrize(
    "change, message",
    [
        (["--max-length", 2], "leaves no room beside"),
        (["--split", "tran"], "Did you mean 'train'?"),
        (["--text-column", "txt"], "Choose one with --text-column."),
        (["--tokenizer", "nowhere/at-all"], "No tokenizer can be loaded"),
        (["--shard-tokens", 10], "does not hold a sample"),
    ],
)
def test_what_is_wrong_is_one_message(command, arguments, tmp_path, change, message):
    ended = command(*arguments, *change)
    assert ended.status == 2
    assert message in ended.err
    assert ended.err.startswith("maskwright: ")
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_a_source_that_is_not_there(command, arguments):
    ended = command("prepare", "state-of-the-onion", *arguments[2:])
    assert ended.status == 2
    assert "Did you mean 'state-of-the-union'?" in ended.err


def test_memory_is_of_one_process(command, arguments):
    ended = command("prepare", "memory://t.txt", *arguments[2:], "--workers", 2)
    assert ended.status == 2
    assert "is in the memory of one process" in ended.err


def test_without_ray(command, arguments, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    ended = command(*arguments, "--engine", "ray")
    assert ended.status == 2
    assert ended.err == (
        'maskwright: ray is not installed; it comes with: pip install "maskwright[scale]"\n'
    )


def test_help_teaches(command):
    ended = command("prepare", "--help")
    for part in ("goes on where it was stopped", "--workers", "Example:", "ShardedTable.open"):
        assert part in ended.out
