"""build_table and cached_table: cutting, special tokens, word starts, caching."""

import multiprocessing
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

from maskwright.data import corpus as corpus_module
from maskwright.data.corpus import build_table, special_affixes
from maskwright.data.sources import Corpus
from maskwright.data.table_cache import cached_table, table_path
from maskwright.errors import ConfigError, DataError, SaveError

from .conftest import TEXTS


@pytest.fixture
def build(tokenizer, tmp_path):
    def build(documents, tokenizer=tokenizer, max_length=8, **options):
        options = {"split": "train", "path": tmp_path / "t.arrow", **options}
        return build_table(documents, tokenizer, max_length=max_length, **options)

    return build


def reference(documents, tokenizer, max_length):
    """Samples and their documents, cut by hand."""
    samples = []
    for number, text in enumerate(documents):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        for start in range(0, len(ids), max_length - 2):
            piece = ids[start : start + max_length - 2]
            samples.append((number, [tokenizer.cls_token_id, *piece, tokenizer.sep_token_id]))
    return samples


@pytest.mark.parametrize("max_length", [3, 8, 1000])
def test_documents_are_cut_and_wrapped(build, tokenizer, max_length):
    table = build(TEXTS, max_length=max_length)
    expected = reference(TEXTS, tokenizer, max_length)
    assert table.tokens.to_lists() == [ids for _, ids in expected]
    assert table.documents.tolist() == [number for number, _ in expected]
    assert table.lengths.max() <= max_length
    assert table.meta["max_length"] == max_length
    assert table.meta["documents"] == len(TEXTS)


@given(batch=st.integers(1, 200), length=st.integers(3, 20), keep=st.sets(st.integers(0, 8)))
def test_the_batches_of_tokenising_change_nothing(tokenizer, tmp_path_factory, batch, length, keep):
    documents = [text if number in keep else "" for number, text in enumerate(TEXTS)] + ["end"]
    path = tmp_path_factory.mktemp("batches") / "t.arrow"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus_module, "_BATCH_CHARACTERS", batch)
        table = build_table(documents, tokenizer, max_length=length, path=path, split="train")
    expected = reference(documents, tokenizer, length)
    assert table.tokens.to_lists() == [ids for _, ids in expected]
    assert table.documents.tolist() == [number for number, _ in expected]


def test_no_text_is_lost(build, tokenizer):
    table = build(TEXTS)
    special = tokenizer.all_special_ids
    for number, text in enumerate(TEXTS):
        rows = np.flatnonzero(table.documents == number)
        ids = [i for row in rows for i in table.tokens[row].tolist() if i not in special]
        assert tokenizer.decode(ids) == text


def test_word_starts_follow_the_words(build, tokenizer):
    table = build(["It's the people's naïve café."], max_length=99)
    tokens, starts = table.tokens[0].tolist(), table.word_starts[0].tolist()
    words: list[list[int]] = []
    for token, start in zip(tokens[1:-1], starts[1:-1], strict=True):
        words = [*words, [token]] if start else [*words[:-1], [*words[-1], token]]
    assert [tokenizer.decode(word).strip() for word in words] == (
        # the pre-tokenizer keeps 's whole
        ["It", "'s", "the", "people", "'s", "naïve", "café", "."]
    )
    assert starts[0] == starts[-1] == 0


def test_special_tokens_in_the_text_are_no_words_but_unknown_is(build, tokenizer):
    table = build(["the [MASK] Ω the"], max_length=99)
    names = tokenizer.convert_ids_to_tokens(table.tokens[0].tolist())
    starts = dict(zip(names, table.word_starts[0].tolist(), strict=True))
    assert starts["[MASK]"] == 0
    assert starts["[UNK]"] == 1


def test_a_slow_tokenizer_has_no_word_starts(build):
    table = build(["héllo"], tokenizer=ByT5Tokenizer())
    assert table.word_starts is None
    # ByT5: bytes from 3 on, </s> = 1 after each piece and nothing before it
    data = [byte + 3 for byte in "héllo".encode()]
    assert table.tokens.to_lists() == [[*data, 1]]
    assert build(["hello"], tokenizer=ByT5Tokenizer(), max_length=3).tokens.to_lists() == [
        [ord("h") + 3, ord("e") + 3, 1],
        [ord("l") + 3, ord("l") + 3, 1],
        [ord("o") + 3, 1],
    ]


def test_a_tokenizer_without_special_tokens_adds_none(build, tokenizer):
    bare = PreTrainedTokenizerFast.from_pretrained(tokenizer.name_or_path)
    bare.backend_tokenizer.post_processor = None
    assert special_affixes(bare) == ([], [])
    assert special_affixes(tokenizer) == ([2], [3])
    table = build(["the people"], tokenizer=bare, max_length=2)
    assert bare.decode(table.tokens.values) == "the people"


def test_a_truncating_tokenizer_loses_nothing(build, tokenizer):
    before = build(TEXTS).tokens
    tokenizer(TEXTS, truncation=True, padding=True, max_length=4)
    assert build(TEXTS, path=build(TEXTS).path.with_name("again.arrow")).tokens == before


@pytest.mark.parametrize("documents", [[], [""], ["", ""]])
def test_nothing_to_mask_is_an_error(build, documents, tmp_path):
    with pytest.raises(DataError, match=f"The {len(documents)} documents .*hold no token"):
        build(documents)
    assert os.listdir(tmp_path) == []


def test_no_room_for_text_is_an_error(build):
    with pytest.raises(ConfigError, match=r"max_length=2 leaves no room .* at least 3"):
        build(TEXTS, max_length=2)


def test_progress_counts_documents_and_tokens(build, monkeypatch):
    monkeypatch.setattr(corpus_module, "_BATCH_CHARACTERS", 1)
    seen: list[tuple[int, int]] = []
    table = build(TEXTS, progress=lambda *counts: seen.append(counts))
    assert [done for done, _ in seen] == list(range(1, len(TEXTS) + 1))
    assert seen[-1][1] == len(table.tokens.values)


# -- the cache ----------------------------------------------------------------------------


def corpus_of(documents, fingerprint="f" * 64):
    return Corpus("mine", "none", {"train": tuple(documents), "test": ()}, fingerprint)


def test_a_table_is_built_once(tokenizer, tmp_path, monkeypatch):
    first = cached_table(corpus_of(TEXTS), "train", tokenizer, max_length=8, cache_dir=tmp_path)
    monkeypatch.setattr("maskwright.data.table_cache.build_table", None)  # may not be called
    again = cached_table(corpus_of(TEXTS), "train", tokenizer, max_length=8, cache_dir=tmp_path)
    assert again.path == first.path
    assert again.tokens == first.tokens
    assert again.meta["corpus"] == "f" * 64


def test_the_name_depends_on_all_that_decides_the_content(tokenizer):
    base = {"max_length": 8, "cache_dir": "c"}
    corpus = corpus_of(TEXTS)
    paths = [
        table_path(corpus, "train", tokenizer, **base),
        table_path(corpus, "test", tokenizer, **base),
        table_path(corpus, "train", ByT5Tokenizer(), **base),
        table_path(corpus, "train", tokenizer, **{**base, "max_length": 9}),
        table_path(corpus_of(TEXTS, "e" * 64), "train", tokenizer, **base),
    ]
    assert len(set(paths)) == 5
    assert table_path(corpus_of(TEXTS), "train", tokenizer, **base) == paths[0]


def test_the_cache_follows_the_environment(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setenv("MASKWRIGHT_CACHE", str(tmp_path / "here"))
    table = cached_table(corpus_of(TEXTS), "train", tokenizer, max_length=8)
    assert table.path.is_relative_to(tmp_path / "here")
    monkeypatch.delenv("MASKWRIGHT_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    path = table_path(corpus_of(TEXTS), "train", tokenizer, max_length=8)
    assert path.is_relative_to(tmp_path / "home/.cache/maskwright")


def test_a_damaged_table_is_built_again_with_a_note(tokenizer, tmp_path):
    options = {"max_length": 8, "cache_dir": tmp_path}
    good = cached_table(corpus_of(TEXTS), "train", tokenizer, **options)
    rows = good.tokens.to_lists()
    good.path.write_bytes(good.path.read_bytes()[:-9])
    notes: list[str] = []
    again = cached_table(corpus_of(TEXTS), "train", tokenizer, note=notes.append, **options)
    assert again.tokens.to_lists() == rows
    assert len(notes) == 1
    assert str(good.path) in notes[0]


def test_a_split_that_is_empty_or_unknown_is_an_error(tokenizer, tmp_path):
    with pytest.raises(DataError, match="no documents in its test split"):
        cached_table(corpus_of(TEXTS), "test", tokenizer, max_length=8, cache_dir=tmp_path)
    with pytest.raises(DataError, match="Did you mean 'train'"):
        cached_table(corpus_of(TEXTS), "trian", tokenizer, max_length=8, cache_dir=tmp_path)


def test_a_cache_that_cannot_be_written_is_an_error(tokenizer, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SaveError, match="MASKWRIGHT_CACHE"):
        cached_table(
            corpus_of(TEXTS), "train", tokenizer, max_length=8, cache_dir=tmp_path / "file"
        )


def test_the_bar_is_for_terminals(tokenizer, tmp_path, monkeypatch, capsys):
    options = {"max_length": 8, "cache_dir": tmp_path / "a"}
    cached_table(corpus_of(TEXTS), "train", tokenizer, **options)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    options["cache_dir"] = tmp_path / "b"
    cached_table(corpus_of(TEXTS), "train", tokenizer, progress=False, **options)
    assert capsys.readouterr().err == ""
    options["cache_dir"] = tmp_path / "c"
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    cached_table(corpus_of(TEXTS), "train", tokenizer, **options)
    assert "Tokenising mine (train)" in capsys.readouterr().err


def _build(tokenizer, folder, barrier):
    barrier.wait()
    table = cached_table(corpus_of(TEXTS * 50), "train", tokenizer, max_length=8, cache_dir=folder)
    assert len(table) > 1000


def test_two_processes_build_one_table(tokenizer, tmp_path):
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(2)
    arguments = (tokenizer, tmp_path, barrier)
    processes = [context.Process(target=_build, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    (folder,) = (tmp_path / "tables").iterdir()
    assert sorted(os.listdir(folder)) == ["train.arrow", "train.json"]
