"""The joint vocabulary: the same bytes again, whole characters, and text given back."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskwright.data.pairs import Pair, train_pair_tokenizer
from maskwright.errors import CacheError, ConfigError, DataError
from maskwright.vocabulary import Vocabulary


def folder(root):
    [found] = (root / "tokenizers").iterdir()
    return found


def test_special_tokens_and_ends(tokenizer):
    names = ("bos_token_id", "pad_token_id", "eos_token_id", "unk_token_id", "mask_token_id")
    assert [getattr(tokenizer, name) for name in names] == [0, 1, 2, 3, 4]
    ids = tokenizer("Me voy.")["input_ids"]
    assert ids[-1] == tokenizer.eos_token_id
    assert ids.count(tokenizer.eos_token_id) == 1
    assert tokenizer(text_target="Me voy.")["input_ids"] == ids
    assert len(tokenizer) == 200
    assert tokenizer.model_max_length == 512


def test_pieces_end_where_words_do(tmp_path):
    # so often and so alike that all within a piece is merged
    texts = ["¿Casa?", "casa. casa", "don't \"'don't\"", "1990 19"]
    pairs = [Pair(text, text, 1) for text in texts for _ in range(5)]
    tokenizer = train_pair_tokenizer(pairs, 60, cache_dir=tmp_path)
    assert [tokenizer.tokenize(text) for text in texts] == [
        ["▁¿", "Casa", "?"],
        ["▁casa", ".", "▁casa"],
        ["▁don", "'t", "▁\"'", "don", "'t", '"'],
        ["▁1", "9", "9", "0", "▁1", "9"],
    ]


def test_masking_knows_which_ids_begin_a_word(tokenizer):
    table = Vocabulary.from_tokenizer(tokenizer).word_start
    assert table is not None
    first, *rest = tokenizer("Tommmm", add_special_tokens=False)["input_ids"]
    assert table[first]
    assert not table[rest].any()


def test_the_texts_come_back(tokenizer, pairs):
    for pair in pairs:
        for text in (pair.source, pair.target):
            ids = tokenizer(text)["input_ids"]
            assert tokenizer.unk_token_id not in ids
            assert tokenizer.decode(ids, skip_special_tokens=True) == text


@given(st.text(alphabet="Tomnáéñ ¿?.'\n\u0301", max_size=20))
def test_round_trip_up_to_space_and_composition(tokenizer, text):
    ids = tokenizer(text)["input_ids"]
    if tokenizer.unk_token_id in ids:  # a mark that stands alone has no id
        return
    wanted = " ".join(unicodedata.normalize("NFC", text).split())
    assert tokenizer.decode(ids, skip_special_tokens=True) == wanted


def test_decomposed_accents_have_the_same_ids(tokenizer):
    text = "Éramos así"
    assert tokenizer(unicodedata.normalize("NFD", text)) == tokenizer(text)
    assert tokenizer("日本")["input_ids"][-2] == tokenizer.unk_token_id


def test_the_same_bytes_again(pairs, tmp_path):
    lines = []
    for name in ("one", "two"):
        train_pair_tokenizer(pairs, 150, cache_dir=tmp_path / name, say=lines.append)
    one, two = (folder(tmp_path / name) for name in ("one", "two"))
    assert one.name == two.name
    for file in one.iterdir():
        assert file.read_bytes() == (two / file.name).read_bytes()
    assert lines == ["Training a tokenizer of 150 entries on 61 pairs"] * 2
    # a second call trains nothing
    train_pair_tokenizer(pairs, 150, cache_dir=tmp_path / "one", say=lines.append)
    assert len(lines) == 2
    other = list(pairs)[1:]
    train_pair_tokenizer(other, 150, cache_dir=tmp_path / "one", say=lines.append)
    assert len(lines) == 3


def test_bad_requests(pairs, tmp_path):
    with pytest.raises(DataError, match="no pairs"):
        train_pair_tokenizer([], cache_dir=tmp_path)
    with pytest.raises(ConfigError, match="cannot hold 5 special tokens and the 6 characters"):
        train_pair_tokenizer([Pair("ab", "cd e", 1)], 9, cache_dir=tmp_path)
    train_pair_tokenizer(pairs, 150, cache_dir=tmp_path)
    (folder(tmp_path) / "tokenizer.json").write_text("{")
    with pytest.raises(CacheError, match="Delete that folder"):
        train_pair_tokenizer(pairs, 150, cache_dir=tmp_path)
