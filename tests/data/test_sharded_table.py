"""ShardedTable: what one table holds, from many files, here or at a URL."""

from __future__ import annotations

import json
import pickle
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maskwright import Clock, Masking
from maskwright.data import sharded_table
from maskwright.data.prepare import prepare
from maskwright.data.sharded_table import ShardedTable
from maskwright.data.table import TokenTable
from maskwright.errors import CacheError, ConfigError, SampleIdError
from maskwright.hf import ClockedIndex, MaskingCollator, with_sample_ids
from tests.data.prepare import texts


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sharded")
    prepare(texts.write_source(folder), texts.small_tokenizer(), folder / "out", texts.SMALL)
    return folder / "out"


@pytest.fixture(scope="module")
def rows(folder):
    """Every sample, shard after shard."""
    return [row for path in sorted(folder.glob("*.arrow")) for row in TokenTable.open(path).tokens]


@pytest.fixture(scope="module")
def table(folder):
    return ShardedTable.open(folder)


@given(st.lists(st.integers(0, 10**6)))
def test_batches_in_any_order(table, rows, ids):
    ids = np.array([i % len(rows) for i in ids], np.int64)
    batch = table.batch(ids)
    assert batch.tokens.to_lists() == [rows[i].tolist() for i in ids]
    assert batch.sample_ids.tolist() == ids.tolist()
    assert batch.word_starts is not None
    assert batch.tokens.values.dtype == np.uint16


def test_rows(table, rows):
    assert len(table) == len(rows)
    for number in (0, 7, len(rows) - 1, -1):
        assert table[number]["input_ids"].tolist() == rows[number].tolist()
        assert table[number]["input_ids"].dtype == np.int64
        assert table[number]["sample_id"] == number % len(rows)
    with pytest.raises(IndexError):
        table[len(rows)]


def test_lengths_and_documents(table, rows):
    assert table.lengths.tolist() == [len(row) for row in rows]
    assert (np.diff(table.documents) >= 0).all()
    assert len(np.unique(table.documents)) == table.meta["documents"]
    assert table.meta["samples"] == len(rows)
    assert table.meta["tokens"] == table.lengths.sum()


@pytest.mark.parametrize(
    "ids, message",
    [
        ([10**6], "Sample id 1000000 is outside"),
        ([-1], "Sample id -1 is outside"),
        ([[0]], "one axis of integer"),
        ([0.5], "one axis of integer"),
    ],
)
def test_wrong_ids(table, ids, message):
    with pytest.raises(SampleIdError, match=message):
        table.batch(np.array(ids))


def test_the_first_samples(table, rows):
    first = table._starts[1]
    for samples in (1, int(first), int(first) + 1, len(rows), len(rows) + 9):
        view = table.head(samples)
        assert len(view) == min(samples, len(rows))
        assert view.lengths.tolist() == table.lengths[:samples].tolist()
        assert view.documents.tolist() == table.documents[:samples].tolist()
        assert view.meta["tokens"] == view.lengths.sum()
        assert view.meta["documents"] == len(np.unique(view.documents))
        with pytest.raises(SampleIdError):
            view.batch(np.array([len(view)]))
    with pytest.raises(ConfigError, match="at least 1"):
        table.head(0)


@given(st.integers(30, 3000))
def test_a_budget_of_tokens(table, tokens):
    view = table.slice(tokens)
    ends = np.cumsum(table.lengths)
    assert len(view) == np.searchsorted(ends, tokens, side="right")
    with pytest.raises(ConfigError, match="does not hold the first sample"):
        table.slice(1)


def test_it_pickles_as_its_path(table):
    data = pickle.dumps(table)
    assert len(data) < 1000
    again, part = pickle.loads(data), pickle.loads(pickle.dumps(table.head(9)))
    assert again.batch(np.arange(9)).tokens == table.batch(np.arange(9)).tokens
    assert (len(again), len(part)) == (len(table), 9)


def test_workers_read_it(table, rows):
    collator = MaskingCollator(texts.small_tokenizer(), Masking(rate=0.3))
    clock = Clock(epoch=1)
    batches = [[ClockedIndex(i, clock) for i in ids] for ids in ((5, 60, 2), (len(rows) - 1, 0, 9))]
    made = [
        list(
            torch.utils.data.DataLoader(
                with_sample_ids(table), batch_sampler=batches, collate_fn=collator,
                num_workers=workers,
            )
        )
        for workers in (0, 2)
    ]  # fmt: skip
    for mine, theirs in zip(*made, strict=True):
        assert mine["input_ids"].equal(theirs["input_ids"])
        assert mine["labels"].equal(theirs["labels"])
    kept = made[0][0]["labels"][1] == -100
    kept[len(rows[60]) :] = False
    assert made[0][0]["input_ids"][1][kept].tolist() == rows[60][kept[: len(rows[60])]].tolist()


def test_a_trainer_trains_on_it(table, tmp_path):
    from transformers import BertConfig, BertForMaskedLM, TrainingArguments

    from maskwright.hf import MaskingTrainer

    config = BertConfig(
        vocab_size=table.meta["vocabulary_size"], hidden_size=16, num_hidden_layers=1,
        num_attention_heads=1, intermediate_size=16, max_position_embeddings=32,
    )  # fmt: skip
    trainer = MaskingTrainer(
        model=BertForMaskedLM(config),
        args=TrainingArguments(
            output_dir=str(tmp_path), max_steps=2, per_device_train_batch_size=4, report_to=[],
            save_strategy="no", disable_tqdm=True, use_cpu=True,
        ),
        data_collator=MaskingCollator(texts.small_tokenizer(), Masking(rate=0.3)),
        train_dataset=table,
    )  # fmt: skip
    assert 0 < trainer.train().training_loss < 20


def test_few_shards_are_open_at_a_time(folder, rows, monkeypatch):
    monkeypatch.setattr(sharded_table, "OPEN_SHARDS", 2)
    table = ShardedTable.open(folder)
    ids = np.arange(len(table))[::-1]
    assert table.batch(ids).tokens.to_lists() == [rows[i].tolist() for i in ids]
    assert len(table._open) == 2


def test_pages_are_given_back_over_all_shards(folder):
    table = ShardedTable.open(folder, resident_limit=200_000)  # three touches of 64 KiB
    released = []
    for number in range(len(table._manifest["shards"])):
        table._shard(number)._mapped.release = lambda number=number: released.append(number)
    table._fits = False
    for sample in range(0, len(table), 20):
        table.batch(np.array([sample]))
    assert set(released) == set(range(len(table._manifest["shards"])))


# -- damage -------------------------------------------------------------------------------


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def test_without_a_manifest_it_is_not_whole(copy):
    (copy / "manifest.json").unlink()
    with pytest.raises(CacheError, match=r"manifest.json cannot be read .* until it ends"):
        ShardedTable.open(copy)


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 1}'])
def test_a_damaged_manifest_is_refused(copy, text):
    (copy / "manifest.json").write_text(text)
    with pytest.raises(CacheError, match="is damaged"):
        ShardedTable.open(copy)


def test_another_format_is_refused(copy):
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**manifest, "format": 9}))
    with pytest.raises(CacheError, match="has format 9 where this version reads 1"):
        ShardedTable.open(copy)


def test_a_shard_in_the_place_of_another_is_refused(copy):
    for kind in ("arrow", "json"):
        shutil.copy(sorted(copy.glob(f"shard*.{kind}"))[-1], copy / f"shard-00000.{kind}")
    with pytest.raises(CacheError, match="is not the shard"):
        ShardedTable.open(copy).batch(np.array([0]))


# -- a URL --------------------------------------------------------------------------------


@pytest.fixture
def url(folder):
    fsspec = pytest.importorskip("fsspec")
    system = fsspec.filesystem("memory")
    system.put(str(folder) + "/", "/prepared/", recursive=True)
    yield "memory://prepared"
    system.rm("/prepared", recursive=True)


def test_a_url_is_read_through_a_bounded_cache(url, folder, rows, tmp_path):
    largest = max(path.stat().st_size for path in folder.glob("*.arrow"))
    limit = 2 * largest
    table = ShardedTable.open(url, cache_dir=tmp_path, cache_bytes=limit)
    draws = np.random.default_rng(0)
    for _ in range(20):
        ids = draws.integers(0, len(rows), 5)
        assert table.batch(ids).tokens.to_lists() == [rows[i].tolist() for i in ids]
        files = list((tmp_path / "shards").glob("*"))
        assert sum(path.stat().st_size for path in files if path.suffix == ".arrow") <= limit
    assert 2 <= len([path for path in files if path.suffix == ".arrow"]) < 5
    # in the cache as they are: read again without the URL
    again = pickle.loads(pickle.dumps(table))
    assert len(again) == len(rows)


def test_a_shard_that_comes_damaged_is_refused(url, tmp_path):
    import fsspec

    system = fsspec.filesystem("memory")
    with system.open("/prepared/shard-00001.arrow", "wb") as file:
        file.write(b"half")
    table = ShardedTable.open(url, cache_dir=tmp_path)
    with pytest.raises(CacheError, match=r"shard-00001.arrow has sha256 .* not the"):
        table.batch(np.array([int(table._starts[1])]))
    assert not list((tmp_path / "shards").glob("*00001*.arrow"))


def test_a_url_without_a_folder(tmp_path):
    pytest.importorskip("fsspec")
    with pytest.raises(CacheError, match=r"memory://none/manifest.json cannot be read"):
        ShardedTable.open("memory://none", cache_dir=tmp_path)
