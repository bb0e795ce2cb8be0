"""A process that is killed while it tokenises leaves no half table, and nothing for long."""

from __future__ import annotations

import os
import signal
import sys

import numpy as np
import pytest

from maskwright.data import corpus as tokenising
from maskwright.data.leftovers import sweep
from maskwright.data.sources import load_corpus
from maskwright.data.table import TokenTable
from maskwright.data.table_cache import cached_table, table_path
from maskwright.data.table_writer import TableWriter
from maskwright.lab.preparation import prepare
from tests.data.prepare.texts import small_tokenizer
from tests.lab import tiny

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a fork of this process")
_EVENTS = {"open", "os.rename", "os.remove"}


def killed(before, work) -> bool:
    """Whether a fork that does ``work`` was killed; it ends by itself otherwise."""
    if (child := os.fork()) == 0:
        try:
            before()
            work()
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def at_event(number: int, folder) -> None:
    """Kills this process before its event ``number`` (from 0) below a folder."""
    left = number

    def hook(event, args) -> None:
        nonlocal left
        named = event in _EVENTS and isinstance(args[0], str | os.PathLike)
        if named and str(folder) in os.fspath(args[0]):
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "t.txt"
    return load_corpus(str(tiny.write_text(path, tiny.sentences(40))))


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_killed_before_each_thing_that_it_does_to_a_file(corpus, tmp_path):
    tokenizer = small_tokenizer()
    expected = cached_table(corpus, "train", tokenizer, max_length=24, cache_dir=tmp_path / "whole")
    number = 0
    while True:
        cache = tmp_path / str(number)

        def build(cache=cache) -> TokenTable:
            return cached_table(
                corpus, "train", tokenizer, max_length=24, cache_dir=cache, note=lambda _: None
            )

        if not killed(lambda n=number, c=cache: at_event(n, c), build):
            break
        path = table_path(corpus, "train", tokenizer, max_length=24, cache_dir=cache)
        if path.exists() and path.with_suffix(".json").exists():  # then it is whole
            assert TokenTable.open(path).tokens == expected.tokens
        for left in cache.rglob(".*"):  # as if it had been a minute ago
            os.utime(left, (1, 1))
        assert build().tokens == expected.tokens
        if "train.arrow" not in names(cache):
            raise AssertionError(names(cache))
        number += 1
    assert number > 8  # four spools, the table, its note, two renames and more


def test_what_was_left_is_removed_when_the_table_is_next_written(corpus, tmp_path):
    def build() -> TokenTable:
        return cached_table(corpus, "train", small_tokenizer(), max_length=24, cache_dir=tmp_path)

    assert killed(lambda: at_event(6, tmp_path), build)
    left = [name for name in names(tmp_path) if name.startswith(".train.")]
    assert len(left) >= 4
    build()
    assert [name for name in names(tmp_path) if name.startswith(".")] == left  # too young to tell
    for path in tmp_path.rglob("train.*"):
        path.unlink()
    for path in tmp_path.rglob(".train.*"):
        os.utime(path, (1, 1))
    build()
    assert names(tmp_path) == ["train.arrow", "train.json"]


def test_what_another_process_is_writing_is_left_alone(tmp_path):
    writer = TableWriter(tmp_path / "t.arrow", vocabulary_size=9, meta={})
    with writer:
        writer.add(np.array([5, 6]), np.array([2]), documents=np.array([0]))
        for path in tmp_path.iterdir():
            os.utime(path, (1, 1))
        # the lock is of this open file, so that it counts here too
        assert sweep(tmp_path, "t", "tokens") == 0
    assert writer.table.tokens.to_lists() == [[5, 6]]
    assert names(tmp_path) == ["t.arrow", "t.json"]
    (tmp_path / ".t.1.0123abcd.tokens").write_text("")
    (tmp_path / ".other.1.0123abcd.tokens").write_text("")
    (tmp_path / ".t.arrow.kept").write_text("")
    for path in tmp_path.iterdir():
        os.utime(path, (1, 1))
    assert sweep(tmp_path, "t", "tokens") == 1
    assert names(tmp_path) == [".other.1.0123abcd.tokens", ".t.arrow.kept", "t.arrow", "t.json"]


def test_a_comparison_that_is_killed_while_it_tokenises_begins_again(tmp_path, monkeypatch):
    monkeypatch.setenv("MASKWRIGHT_CACHE", str(tmp_path / "cache"))
    text = tiny.write_text(tmp_path / "t.txt", tiny.sentences(60))
    small_tokenizer().save_pretrained(tmp_path / "tokenizer")
    data = {"source": str(text), "tokenizer": str(tmp_path / "tokenizer"), "max_length": 32}
    experiment = tiny.experiment(text, data=data)
    monkeypatch.setattr(tokenising, "_BATCH_CHARACTERS", 2_000)
    real, calls = tokenising._tokenise, 0

    def twice(*arguments):
        nonlocal calls
        calls += 1
        if calls > 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments)

    def before() -> None:
        tokenising._tokenise = twice

    assert killed(before, lambda: prepare(experiment))
    assert not list((tmp_path / "cache").rglob("train.arrow"))
    assert list((tmp_path / "cache").rglob(".train.*"))  # it was at it
    prepared = prepare(experiment)
    expected = cached_table(
        load_corpus(str(text)), "train", small_tokenizer(), max_length=32,
        cache_dir=tmp_path / "other",
    )  # fmt: skip
    assert prepared.train.tokens == expected.tokens
