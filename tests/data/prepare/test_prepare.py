"""What is prepared is what `build_table` makes of the same documents, in shards."""

from __future__ import annotations

import json
import multiprocessing
import os
from dataclasses import replace

import numpy as np
import pytest

from maskwright.corruption.phrases import Phrases, learn_phrases
from maskwright.data.corpus import build_table
from maskwright.data.prepare import Here, Processes, WorkerLost, prepare
from maskwright.data.sharded_table import ShardedTable
from maskwright.data.table import TokenTable
from maskwright.errors import CacheError, ConfigError, DataError, SaveError
from maskwright.guidance.statistics import TokenStatistics, count_tokens
from maskwright.vocabulary import Vocabulary
from tests.data.prepare.texts import (
    KEPT,
    SMALL,
    TEXTS,
    WITH_PHRASES,
    contents,
    small_tokenizer,
    write_source,
)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The documents that stay, as one table."""
    path = tmp_path_factory.mktemp("plain") / "t.arrow"
    return build_table(KEPT, small_tokenizer(), max_length=SMALL.max_length, path=path, split="all")


def test_samples_are_those_of_one_table(whole, plain):
    table = ShardedTable.open(whole)
    batch = table.batch(np.arange(len(table)))
    assert batch.tokens == plain.tokens
    assert batch.word_starts == plain.word_starts
    assert table.documents.tolist() == plain.documents.tolist()
    assert table.meta["documents"] == len(KEPT) == plain.meta["documents"]


def test_shards_are_as_full_as_their_samples_allow(whole, plain):
    shards = json.loads((whole / "manifest.json").read_text())["shards"]
    assert len(shards) > 3
    lengths, first = plain.lengths, 0
    for shard in shards:
        last = first + shard["samples"]
        assert lengths[first:last].sum() == shard["tokens"] <= SMALL.shard_tokens
        if last < len(lengths):
            assert shard["tokens"] + lengths[last] > SMALL.shard_tokens
        # each is a table of its own
        table = TokenTable.open(whole / f"{shard['name']}.arrow")
        assert len(table) == shard["samples"]
        assert table.documents[0] == 0
        assert plain.documents[first] == shard["first_document"]
        first = last
    assert first == len(lengths)


def test_statistics_are_those_of_all_samples(whole, plain):
    vocabulary = Vocabulary.from_tokenizer(small_tokenizer())
    expected = count_tokens(plain.tokens, vocabulary, documents=plain.documents)
    assert TokenStatistics.load(whole / "statistics.bin") == expected


def test_phrases_are_those_of_all_samples(whole, plain):
    vocabulary = Vocabulary.from_tokenizer(small_tokenizer())
    expected = learn_phrases(
        plain.tokens, vocabulary, longest=3, size=50, min_count=3, word_starts=plain.word_starts
    )
    assert len(expected) > 10
    assert Phrases.load(whole / "phrases.npz") == expected


def test_the_manifest_says_what_was_dropped(whole):
    manifest = json.loads((whole / "manifest.json").read_text())
    totals = manifest["totals"]
    assert (totals["documents_read"], totals["empty"], totals["duplicates"]) == (24, 2, 3)
    assert np.load(whole / "dropped.npy").tolist() == [12, 13, 19, 20, 21]
    assert len(TEXTS) == 24
    assert len(manifest["pieces"]) > 3
    assert sum(piece["kept"] for piece in manifest["pieces"]) == len(KEPT)


def test_duplicates_can_be_kept(tmp_path, source):
    settings = replace(SMALL, deduplicate=False)
    prepared = prepare(source, small_tokenizer(), tmp_path / "out", settings)
    assert prepared.totals["documents"] == 22
    assert prepared.totals["duplicates"] == 0


@pytest.mark.parametrize("piece_bytes", [1, 5_000, 10**7])
def test_tokens_do_not_depend_on_the_pieces(tmp_path, source, whole, piece_bytes):
    settings = replace(WITH_PHRASES, piece_bytes=piece_bytes)
    prepare(source, small_tokenizer(), tmp_path / "out", settings)
    mine, expected = contents(tmp_path / "out"), contents(whole)
    for name in expected:
        # a shard's note and meta name the sum of all pieces
        if name in ("phrases.npz", "statistics.bin", "dropped.npy", "splits.npy"):
            assert mine[name] == expected[name]
    table, other = ShardedTable.open(tmp_path / "out"), ShardedTable.open(whole)
    ids = np.arange(len(other))
    assert table.batch(ids).tokens == other.batch(ids).tokens
    assert table.documents.tolist() == other.documents.tolist()


def test_two_runs_write_the_same_bytes_and_nothing_else(tmp_path, source, whole):
    prepare(source, small_tokenizer(), tmp_path / "out", WITH_PHRASES)
    assert contents(tmp_path / "out") == contents(whole)
    names = {name for name in contents(whole) if not name.startswith("tokenizer/")}
    shards = {f"shard-{n:05d}.{kind}" for n in range(len(names)) for kind in ("arrow", "json")}
    assert names - shards == {
        "manifest.json", "statistics.bin", "phrases.npz", "dropped.npy", "splits.npy",
    }  # fmt: skip


def test_processes_write_the_same_bytes(tmp_path, source, whole):
    engine = Processes(2)
    try:
        prepare(source, small_tokenizer(), tmp_path / "out", WITH_PHRASES, engine=engine)
        assert contents(tmp_path / "out") == contents(whole)
        with pytest.raises(WorkerLost, match=r"ended from outside .*the same command goes on"):
            list(engine.run(os._exit, [1, 1]))
    finally:
        engine.close()


@pytest.mark.slow
def test_an_error_ends_the_processes(tmp_path):
    engine = Processes(2)
    bad = write_source(tmp_path)
    with open(bad.name, "a") as file:
        file.write('{"text": 1}\n')
    with pytest.raises(DataError, match="holds a int, not text"):
        prepare(bad, small_tokenizer(), tmp_path / "bad", SMALL, engine=engine)
    assert multiprocessing.active_children() == []


# -- once more ------------------------------------------------------------------------------


class Counted(Here):
    """Which tasks were done."""

    def __init__(self):
        self.names = []

    def run(self, function, tasks):
        for task in tasks:
            self.names.append(function.__name__)
            yield function(task)


def test_a_whole_folder_is_left_as_it_is(tmp_path, source):
    prepare(source, small_tokenizer(), tmp_path / "out", SMALL)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.*")}
    engine = Counted()
    prepared = prepare(source, small_tokenizer(), tmp_path / "out", SMALL, engine=engine)
    assert engine.names == []
    assert prepared.written == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize("damage", ["missing", "changed", "cut", "note"])
def test_a_damaged_shard_is_made_again_alone(tmp_path, source, damage):
    out = tmp_path / "out"
    first = prepare(source, small_tokenizer(), out, SMALL)
    before = contents(out)
    path = out / "shard-00001.arrow"
    if damage == "missing":
        path.unlink()
    elif damage == "note":
        path.with_suffix(".json").write_text("{}")
    else:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data[:-1] if damage == "cut" else data)
    engine = Counted()
    prepared = prepare(source, small_tokenizer(), out, SMALL, engine=engine)
    assert contents(out) == before
    assert prepared.written == 1 < first.written
    pieces = len(json.loads(before["manifest.json"])["pieces"])
    assert 0 < engine.names.count("tokenise_piece") < pieces
    assert engine.names.count("read_piece") == 0


@pytest.mark.parametrize("name", ["statistics.bin", "dropped.npy", "splits.npy"])
def test_another_damaged_file_is_made_again(tmp_path, source, name):
    out = tmp_path / "out"
    prepare(source, small_tokenizer(), out, SMALL)
    before = contents(out)
    (out / name).write_bytes(b"x")
    prepare(source, small_tokenizer(), out, SMALL)
    assert contents(out) == before


def test_other_settings_are_refused(tmp_path, source):
    prepare(source, small_tokenizer(), tmp_path / "out", SMALL)
    other = replace(SMALL, max_length=23)
    with pytest.raises(ConfigError, match="prepared with max_length = 24, not 23"):
        prepare(source, small_tokenizer(), tmp_path / "out", other)


class Interrupted(Exception):
    pass


class StopAt(Here):
    """Ends in front of the first task of a kind."""

    def __init__(self, kind):
        self.kind = kind

    def run(self, function, tasks):
        if function.__name__ == self.kind:
            raise Interrupted
        return map(function, tasks)


def test_other_settings_are_refused_halfway(tmp_path, source):
    with pytest.raises(Interrupted):
        prepare(source, small_tokenizer(), tmp_path / "out", SMALL, engine=StopAt("tokenise_piece"))
    other = replace(SMALL, shard_tokens=500)
    with pytest.raises(ConfigError, match="shard_tokens = 400, not 500"):
        prepare(source, small_tokenizer(), tmp_path / "out", other)


@pytest.mark.parametrize("change", ["longer", "same size"])
def test_a_source_that_changes_meanwhile_is_refused(tmp_path, change):
    source, out = write_source(tmp_path), tmp_path / "out"
    with pytest.raises(Interrupted):
        prepare(source, small_tokenizer(), out, SMALL, engine=StopAt("tokenise_piece"))
    text = (tmp_path / "texts.jsonl").read_text()
    new = text + '{"text": "more"}\n' if change == "longer" else text.replace("nation", "notion")
    (tmp_path / "texts.jsonl").write_text(new)
    with pytest.raises(DataError, match="changed since the preparation"):
        prepare(source, small_tokenizer(), out, SMALL)


def test_a_shard_cannot_be_mended_from_another_text(tmp_path):
    source, out = write_source(tmp_path), tmp_path / "out"
    prepare(source, small_tokenizer(), out, SMALL)
    (out / "shard-00001.arrow").unlink()
    path = tmp_path / "texts.jsonl"
    path.write_text(path.read_text().replace("nation", "notion"))
    with pytest.raises(DataError, match="changed since"):
        prepare(source, small_tokenizer(), out, SMALL)
    assert not (out / "shard-00001.arrow").exists()


def test_a_damaged_manifest_is_refused(tmp_path, source):
    out = tmp_path / "out"
    prepare(source, small_tokenizer(), out, SMALL)
    (out / "manifest.json").write_text("{")
    with pytest.raises(CacheError, match="is damaged"):
        prepare(source, small_tokenizer(), out, SMALL)


def test_one_preparation_at_a_time(tmp_path, source):
    fcntl = pytest.importorskip("fcntl")
    (tmp_path / "out" / "work").mkdir(parents=True)
    with open(tmp_path / "out" / "work" / ".lock", "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match="Another preparation is writing"):
            prepare(source, small_tokenizer(), tmp_path / "out", SMALL)


# -- what cannot be ---------------------------------------------------------------------------


@pytest.mark.parametrize("texts", [[], ["", " "]])
def test_no_text_at_all(tmp_path, texts):
    with pytest.raises(DataError, match="has no text in it"):
        prepare(write_source(tmp_path, texts), small_tokenizer(), tmp_path / "out", SMALL)
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_documents_without_a_token_are_no_samples(tmp_path):
    texts = ["\u00ad", *KEPT, "\u200b"]  # nothing is left of these by this tokenizer's rules
    prepared = prepare(write_source(tmp_path, texts), small_tokenizer(), tmp_path / "out", SMALL)
    assert prepared.totals["documents"] == len(texts)


def test_half_a_character_is_refused(tmp_path):
    with pytest.raises(DataError, match="document 1 from there, has half of a surrogate pair"):
        prepare(write_source(tmp_path, ["a", "\ud800"]), small_tokenizer(), tmp_path / "out", SMALL)


@pytest.mark.parametrize(
    "change, message",
    [({"shard_tokens": 10}, "does not hold a sample"), ({"piece_bytes": 0}, "at least 1")],
)
def test_settings_outside_their_rule(change, message):
    with pytest.raises(ConfigError, match=message):
        replace(SMALL, **change)


def test_no_room_for_text(tmp_path, source):
    with pytest.raises(ConfigError, match="leaves no room beside"):
        prepare(source, small_tokenizer(), tmp_path / "out", replace(SMALL, max_length=2))
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written(tmp_path, source):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(SaveError, match="cannot be written: Not a directory"):
        prepare(source, small_tokenizer(), tmp_path / "file" / "out", SMALL)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="limits the size of files in a fork")
def test_a_full_disk_is_said_and_what_was_finished_is_kept(tmp_path, source, whole):
    """A limit on the size of files stands for the end of the disk: a write fails in the middle."""
    import resource
    import signal

    out, said = tmp_path / "out", tmp_path / "said"
    if (child := os.fork()) == 0:
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))
            prepare(source, small_tokenizer(), out, WITH_PHRASES)
        except BaseException as error:
            said.write_text(f"{type(error).__name__}: {error}")
        os._exit(0)
    os.waitpid(child, 0)
    assert said.read_text().startswith(f"SaveError: {out} cannot be written: File too large")
    assert not (out / "manifest.json").exists()
    prepare(source, small_tokenizer(), out, WITH_PHRASES)
    assert contents(out) == contents(whole)
