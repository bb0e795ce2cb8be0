"""A prepared folder as the text of an experiment: the splits and samples that the text gives."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from maskwright.data import load_corpus
from maskwright.data.prepare import Source, prepare
from maskwright.data.prepare.corpus import PreparedCorpus, is_prepared
from maskwright.data.splits import SPLITS, divide, divide_places, place
from maskwright.data.table_cache import cached_table
from maskwright.errors import ConfigError, DataError
from tests.data.prepare.texts import SMALL, contents, small_tokenizer, write_source
from tests.lab.tiny import sentences


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """Enough documents that a hash fills all splits, and the folder that is made of them."""
    folder = tmp_path_factory.mktemp("long")
    texts = sentences(120, 12)
    source = write_source(folder, [*texts, "", *texts[:5]])
    prepare(source, small_tokenizer(), folder / "out", replace(SMALL, shard_tokens=700))
    return source, folder / "out"


@pytest.mark.parametrize("split", SPLITS)
def test_a_split_is_what_tokenising_the_text_gives(long, tmp_path, split):
    source, folder = long
    corpus = PreparedCorpus.open(str(folder))
    text = load_corpus(source.name)
    assert corpus.sizes == text.sizes
    tokenizer = small_tokenizer()
    expected = cached_table(
        text, split, tokenizer, max_length=SMALL.max_length, cache_dir=tmp_path / "a"
    )
    found = corpus.table(split, tokenizer, max_length=99, cache_dir=tmp_path / "b")
    assert found.tokens == expected.tokens
    assert found.word_starts == expected.word_starts
    assert found.documents.tolist() == expected.documents.tolist()
    for name in ("tokenizer", "split", "samples", "tokens", "vocabulary_size"):
        assert found.meta[name] == expected.meta[name]
    assert found.meta["max_length"] == SMALL.max_length  # of its samples, not what is allowed
    shards = json.loads((folder / "manifest.json").read_text())["shards"]
    assert len(shards) > 2


def test_its_first_samples_are_text_again(long, tmp_path):
    corpus = PreparedCorpus.open(str(long[1]))
    texts = corpus.documents("validation")
    table = corpus.table("validation", small_tokenizer(), max_length=24, cache_dir=tmp_path)
    assert len(texts) == min(64, len(table))
    sources = [text.replace(" ", "") for text in sentences(120, 12)]
    for text in texts:  # this tokenizer leaves its marks of pieces in the text
        assert len(text) > 3
        assert any(text.replace(" ", "").replace("##", "") in source for source in sources)
    with pytest.raises(DataError, match="Did you mean 'validation'"):
        corpus.documents("validtion")


def test_a_single_document_cannot_be_divided(tmp_path):
    source = write_source(tmp_path, sentences(1, 9))
    prepare(source, small_tokenizer(), tmp_path / "out", SMALL)
    corpus = PreparedCorpus.open(str(tmp_path / "out"))
    assert corpus.sizes == {"train": 1, "validation": 0, "test": 0}
    with pytest.raises(DataError, match=r"no documents in its test split\. 1 document cannot be"):
        corpus.table("test", small_tokenizer(), max_length=24, cache_dir=tmp_path)


def test_it_is_copied_once_and_a_damaged_copy_again(long, tmp_path):
    corpus = PreparedCorpus.open(str(long[1]))
    arguments = {"max_length": SMALL.max_length, "cache_dir": tmp_path}
    table = corpus.table("train", small_tokenizer(), **arguments)
    before = contents(tmp_path)
    assert set(before) == {str(table.path.relative_to(tmp_path)).replace("arrow", kind)
                           for kind in ("arrow", "json")}  # fmt: skip
    written = table.path.stat().st_mtime_ns
    corpus.table("train", small_tokenizer(), **arguments)
    assert table.path.stat().st_mtime_ns == written
    table.path.write_bytes(before[str(table.path.relative_to(tmp_path))][:-100])
    corpus.table("train", small_tokenizer(), **arguments)
    assert contents(tmp_path) == before


def test_one_split_alone_is_divided_again(tmp_path):
    texts = sentences(200, 6)
    source = write_source(tmp_path, texts)
    train = Source(source.name, split="train")
    # a file is prepared undivided; as a data set of the Hub would give its training documents
    kept = [text for text in texts if place(text) < 0.9]
    write_source(tmp_path, kept)
    prepare(train, small_tokenizer(), tmp_path / "out", SMALL)
    corpus = PreparedCorpus.open(str(tmp_path / "out"))
    sizes = corpus.sizes
    assert sum(sizes.values()) == len(kept)
    assert all(2 < sizes[name] < 20 for name in ("validation", "test"))
    assert "is the train split of its source" in corpus.notes[0]


def test_places_divide_as_texts_do():
    for number in (1, 2, 3, 5, 150):
        texts = sentences(number, 5)
        for shares in ({}, {"validation": 0.0}, {"validation": 0.11, "test": 0.11}):
            splits, notes = divide(texts, **shares)
            where, same = divide_places(np.array([place(text) for text in texts]), **shares)
            assert notes == same
            for number_of, name in enumerate(SPLITS):
                mine = [text for text, w in zip(texts, where, strict=True) if w == number_of]
                assert tuple(mine) == splits[name]


def test_what_contradicts_it_is_refused(long, tmp_path):
    corpus = PreparedCorpus.open(str(long[1]))
    with pytest.raises(ConfigError, match=r"up to 24 tokens, and data\.max_length is 20"):
        corpus.table("train", small_tokenizer(), max_length=20, cache_dir=tmp_path)
    other = type(small_tokenizer())(tokenizer_object=small_tokenizer().backend_tokenizer)
    with pytest.raises(ConfigError, match="prepared with another tokenizer"):
        corpus.table("train", other, max_length=24, cache_dir=tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_is_a_prepared_folder_and_what_is_not(long, tmp_path):
    assert is_prepared(str(long[1]))
    assert not is_prepared(str(tmp_path))
    assert not is_prepared("state-of-the-union")
    (tmp_path / "manifest.json").write_text('{"somebody": "else"}')
    assert not is_prepared(str(tmp_path))
    begun = tmp_path / "begun"
    (begun / "work").mkdir(parents=True)
    (begun / "work" / "plan.json").write_text("{}")
    assert is_prepared(str(begun))
    with pytest.raises(DataError, match=r"is not finished\. Give the same maskwright prepare"):
        PreparedCorpus.open(str(begun))


def test_a_folder_that_does_not_say_its_splits_is_refused(whole, tmp_path):
    manifest = json.loads((whole / "manifest.json").read_text())
    del manifest["files"]["splits.npy"]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="by an earlier version"):
        PreparedCorpus.open(str(tmp_path))
