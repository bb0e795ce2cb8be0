"""train_bpe: the same tokenizer every time, and one that decodes cleanly."""

import pytest
from transformers import AutoTokenizer

from maskwright.data import tokenizer as module
from maskwright.data.tokenizer import SPECIAL_TOKENS, tokenizer_fingerprint, train_bpe
from maskwright.errors import CacheError, ConfigError, DataError, SaveError

from .conftest import TEXTS


def test_special_tokens_come_first_and_wrap_a_text(tokenizer):
    assert tokenizer.convert_ids_to_tokens([0, 1, 2, 3, 4]) == list(SPECIAL_TOKENS)
    ids = tokenizer("the state")["input_ids"]
    assert (ids[0], ids[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id) == (2, 3)
    pair = tokenizer("the", "state")
    assert pair["input_ids"].count(3) == 2
    assert len(tokenizer) <= 120
    assert tokenizer.model_max_length == 512
    assert train_bpe(TEXTS, 120, max_length=64).model_max_length == 64


@pytest.mark.parametrize("text", [*TEXTS[:3], "  the   the ,  's .", ""])
def test_decoding_gives_the_text_back(tokenizer, text):
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_the_same_documents_give_the_same_tokenizer(tokenizer, tmp_path):
    again = train_bpe(iter(TEXTS), 120, cache_dir=tmp_path / "another")
    assert again.get_vocab() == tokenizer.get_vocab()
    assert tokenizer_fingerprint(again) == tokenizer_fingerprint(tokenizer)
    again.save_pretrained(tmp_path / "saved")
    loaded = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert tokenizer_fingerprint(loaded) == tokenizer_fingerprint(tokenizer)
    assert loaded(TEXTS)["input_ids"] == tokenizer(TEXTS)["input_ids"]


def test_the_fingerprint_changes_with_the_tokenizer_and_not_with_its_use(tokenizer, tmp_path):
    before = tokenizer_fingerprint(tokenizer)
    tokenizer(TEXTS, truncation=True, padding=True, max_length=7)
    assert tokenizer_fingerprint(tokenizer) == before
    other = train_bpe(TEXTS, 119, cache_dir=tmp_path)
    assert tokenizer_fingerprint(other) != before
    same = train_bpe(TEXTS, 120, cache_dir=tmp_path)
    same.add_special_tokens({"bos_token": "[BOS]"})
    assert tokenizer_fingerprint(same) != before


def test_it_is_trained_once(tmp_path, monkeypatch):
    train_bpe(TEXTS, 100, cache_dir=tmp_path)
    calls = []
    real = module._train
    monkeypatch.setattr(module, "_train", lambda *args: calls.append(args) or real(*args))
    train_bpe(TEXTS, 100, cache_dir=tmp_path)
    assert calls == []
    train_bpe(TEXTS, 101, cache_dir=tmp_path)
    train_bpe(["".join(TEXTS)], 101, cache_dir=tmp_path)  # the same bytes, other documents
    assert len(calls) == 2


def test_a_small_vocabulary_has_the_bytes_that_occur(tokenizer):
    ids = tokenizer("Ω the ω", add_special_tokens=False)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids).count("[UNK]") == 2  # one a character, not a byte
    single = [token for token in tokenizer.get_vocab() if len(token) == 1]
    assert len(single) == len({byte for text in TEXTS for byte in text.encode()})


def test_a_large_vocabulary_has_every_byte(tmp_path):
    tokenizer = train_bpe(TEXTS, module.FULL_ALPHABET_FROM, cache_dir=tmp_path)
    text = "Ωω 日本 😀\x00"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids) == text


def test_byte_characters_are_those_of_the_library():
    from tokenizers import pre_tokenizers

    table = module._byte_characters()
    assert sorted(table.values()) == sorted(pre_tokenizers.ByteLevel.alphabet())
    for byte in (0, 10, 32, 65, 127, 161, 173, 195):
        text = bytes([byte]).decode("latin1")
        written = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(text)[0][0]
        assert written == "".join(table[b] for b in text.encode())


def test_a_vocabulary_that_cannot_hold_the_alphabet(tmp_path):
    with pytest.raises(ConfigError, match=r"vocabulary of 9 cannot hold 5 special .* at least 40"):
        train_bpe(TEXTS, 9, cache_dir=tmp_path)
    assert len(train_bpe(TEXTS, 40, cache_dir=tmp_path)) == 40


@pytest.mark.parametrize("documents", [[], ["", ""]])
def test_no_text_is_an_error(documents):
    with pytest.raises(DataError, match=f"{len(documents)} documents without any text"):
        train_bpe(documents, 100)


def test_a_damaged_cache_is_named(tmp_path):
    train_bpe(TEXTS, 100, cache_dir=tmp_path)
    (folder,) = (tmp_path / "tokenizers").iterdir()
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(CacheError, match=f"{folder} cannot be loaded .* Delete that folder"):
        train_bpe(TEXTS, 100, cache_dir=tmp_path)


def test_a_cache_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SaveError, match="MASKWRIGHT_CACHE"):
        train_bpe(TEXTS, 100, cache_dir=tmp_path / "file")
