"""Shards in Parquet: the same samples, read by anybody, mended like others."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from maskwright.corruption.phrases import Phrases
from maskwright.data.parquet_shard import read_parquet, write_parquet
from maskwright.data.prepare import prepare
from maskwright.data.prepare.corpus import PreparedCorpus, is_prepared
from maskwright.data.sharded_table import ShardedTable
from maskwright.data.table import TokenTable
from maskwright.errors import CacheError, ConfigError
from tests.data.prepare.texts import SMALL, WITH_PHRASES, contents, small_tokenizer

PARQUET = replace(WITH_PHRASES, format="parquet")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, source):
    out = tmp_path_factory.mktemp("parquet") / "out"
    prepare(source, small_tokenizer(), out, PARQUET)
    return out


def same(one: ShardedTable, other: ShardedTable) -> bool:
    ids = np.arange(len(other))
    mine, theirs = one.batch(ids), other.batch(ids)
    return (
        mine.tokens == theirs.tokens
        and mine.word_starts == theirs.word_starts
        and one.documents.tolist() == other.documents.tolist()
    )


def test_it_holds_what_arrow_holds(folder, whole, tmp_path):
    names = {path.name for path in folder.iterdir()}
    assert "shard-00000.parquet" in names
    assert not [name for name in names if name.endswith(".arrow")]
    assert "work" not in names
    table = ShardedTable.open(folder, cache_dir=tmp_path)
    assert same(table, ShardedTable.open(whole))
    assert table.batch(np.array([3])).tokens.values.dtype == np.uint16
    for name in ("phrases.npz", "statistics.bin", "dropped.npy", "splits.npy"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes()
    assert len(Phrases.load(folder / "phrases.npz")) > 10


def test_other_programs_read_it(folder, whole):
    rows = pq.read_table(folder / "shard-00000.parquet").to_pylist()
    expected = TokenTable.open(whole / "shard-00000.arrow")
    assert [row["input_ids"] for row in rows] == expected.tokens.to_lists()
    assert [row["word_starts"] for row in rows] == expected.word_starts.to_lists()
    assert [row["document"] for row in rows] == expected.documents.tolist()


def test_the_same_source_gives_the_same_bytes(folder, source, tmp_path):
    prepare(source, small_tokenizer(), tmp_path / "out", PARQUET)
    assert contents(tmp_path / "out") == contents(folder)


@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_a_damaged_shard_is_made_again(folder, source, tmp_path, damage):
    out = tmp_path / "out"
    shutil.copytree(folder, out)
    path, before = out / "shard-00001.parquet", contents(out)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-9])
    else:
        path.unlink()
    assert prepare(source, small_tokenizer(), out, PARQUET).written == 1
    assert contents(out) == before


def test_one_format_is_not_mixed_with_the_other(folder, whole, source):
    with pytest.raises(ConfigError, match="prepared with format = None, not 'parquet'"):
        prepare(source, small_tokenizer(), whole, PARQUET)
    assert not (whole / "work").exists()
    with pytest.raises(ConfigError, match="prepared with format = 'parquet', not None"):
        prepare(source, small_tokenizer(), folder, WITH_PHRASES)
    with pytest.raises(ConfigError, match="Did you mean 'parquet'"):
        replace(SMALL, format="parqet")


def test_decoded_shards_are_kept_in_a_bounded_cache(folder, whole, tmp_path):
    shards = json.loads((folder / "manifest.json").read_text())["shards"]
    most = max(shard["table_bytes"] for shard in shards)
    table = ShardedTable.open(folder, cache_dir=tmp_path, cache_bytes=2 * most)
    assert same(table, ShardedTable.open(whole))
    kept = list((tmp_path / "shards").glob("*.arrow"))
    assert 1 <= len(kept) <= 2 < len(shards)
    # what is decoded is a table like any other
    assert len(TokenTable.open(kept[0]))


def test_through_a_url(folder, whole, tmp_path):
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    memory.put(f"{folder}/", "/in-parquet", recursive=True)
    try:
        assert same(
            ShardedTable.open("memory://in-parquet", cache_dir=tmp_path), ShardedTable.open(whole)
        )
        assert not list(tmp_path.rglob("*.parquet"))
    finally:
        memory.rm("/in-parquet", recursive=True)


def test_what_is_no_shard_is_refused(folder, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(folder, out)
    (out / "shard-00000.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(CacheError, match="is not a shard of a token table"):
        ShardedTable.open(out, cache_dir=tmp_path)[0]
    assert not list(tmp_path.rglob("*.arrow"))
    assert not list(tmp_path.rglob(".shard*"))


def test_an_experiment_reads_it(folder, tmp_path):
    assert is_prepared(str(folder))
    table = PreparedCorpus.open(str(folder)).table(
        "train", small_tokenizer(), max_length=24, cache_dir=tmp_path
    )
    assert len(table) > 10


def test_several_row_groups(whole, tmp_path, monkeypatch):
    monkeypatch.setattr("maskwright.data.parquet_shard.ROW_GROUP", 60)
    table = TokenTable.open(whole / "shard-00000.arrow")
    write_parquet(table, tmp_path / "t.parquet")
    assert pq.ParquetFile(tmp_path / "t.parquet").num_row_groups > 3
    again = read_parquet(tmp_path / "t.parquet", tmp_path / "t.arrow")
    assert again.tokens == table.tokens
    assert again.meta == table.meta
    assert again.documents.tolist() == table.documents.tolist()
