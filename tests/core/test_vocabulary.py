"""Vocabulary: the roles of ids, from real tokenizers of each family."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from maskwright import Vocabulary
from maskwright.errors import VocabularyError
from tests.core import tokenizers
from tests.strategies import vocabularies


@pytest.mark.parametrize(
    "make", [tokenizers.wordpiece, tokenizers.byte_level, tokenizers.unigram, tokenizers.words]
)
def test_what_every_tokenizer_gives(make):
    tokenizer = make()
    vocabulary = Vocabulary.from_tokenizer(tokenizer)
    assert vocabulary.size == len(tokenizer)
    assert vocabulary.mask_id == tokenizer.mask_token_id
    assert vocabulary.pad_id == tokenizer.pad_token_id
    assert vocabulary.padding_side == tokenizer.padding_side
    assert set(tokenizer.all_special_ids) <= set(vocabulary.special_ids)
    encoded = tokenizer("the quick brown fox guesses words")["input_ids"]
    if make is not tokenizers.words:  # it knows none of these
        assert vocabulary.maskable[encoded].all()
        assert np.isin(encoded, vocabulary.replacements).all()


def test_unused_rows_of_wordpiece_are_never_drawn_but_may_be_selected():
    tokenizer = tokenizers.wordpiece()
    vocabulary = Vocabulary.from_tokenizer(tokenizer)
    unused = tokenizer.convert_tokens_to_ids(["[unused0]", "[unused1]"])
    assert set(unused) <= set(vocabulary.unused_ids)
    assert not np.isin(unused, vocabulary.replacements).any()
    assert vocabulary.maskable[unused].all()


def test_sentinels_of_t5_come_in_their_order_and_are_special():
    tokenizer = tokenizers.unigram()
    vocabulary = Vocabulary.from_tokenizer(tokenizer)
    expected = tokenizer.convert_tokens_to_ids([f"<extra_id_{i}>" for i in range(12)])
    assert list(vocabulary.sentinel_ids) == expected
    assert expected == sorted(expected, reverse=True)  # so the order is not that of the ids
    assert not vocabulary.maskable[expected].any()


def test_ids_may_have_holes():
    vocabulary = Vocabulary.from_tokenizer(tokenizers.with_holes())
    assert vocabulary.size == 13
    assert vocabulary.unused_ids == (5, 6, 7, 8, 10, 11)
    assert vocabulary.replacements.tolist() == [9, 12]


def test_padding_side_of_the_tokenizer():
    assert Vocabulary.from_tokenizer(tokenizers.byte_level()).padding_side == "left"


def test_no_mask_token():
    vocabulary = Vocabulary.from_tokenizer(tokenizers.unigram())
    assert vocabulary.mask_id is None
    with pytest.raises(VocabularyError, match="add_special_tokens"):
        vocabulary.require_mask()


def test_what_is_required_is_given_or_refused():
    full, bare = Vocabulary(9, mask_id=3, pad_id=0), Vocabulary(2, special_ids=(0, 1))
    assert (full.require_mask(), full.require_pad()) == (3, 0)
    assert full.require_replacements().tolist() == [1, 2, 4, 5, 6, 7, 8]
    with pytest.raises(VocabularyError, match="no padding token"):
        bare.require_pad()
    with pytest.raises(VocabularyError, match="only special and unused ids"):
        bare.require_replacements()


@pytest.mark.parametrize("ids", [{"mask_id": 5}, {"special_ids": (-1,)}, {"unused_ids": (7,)}])
def test_ids_outside_the_vocabulary(ids):
    with pytest.raises(VocabularyError, match=r"outside 0 … 4"):
        Vocabulary(5, **ids)


def test_what_is_no_tokenizer():
    with pytest.raises(VocabularyError, match="takes a Hugging Face tokenizer, got str"):
        Vocabulary.from_tokenizer("bert-base-uncased")


@pytest.mark.parametrize(
    "token", ["[unused7]", "<unused7>", "<|reserved_special_token_3|>", "madeupword0001"]
)
def test_names_of_unused_rows(token):
    class Stub:
        all_special_ids = (0,)
        mask_token_id = pad_token_id = None
        padding_side = "right"

        def get_vocab(self):
            return {"<s>": 0, token: 1, f"x{token}": 2}

    assert Vocabulary.from_tokenizer(Stub()).unused_ids == (1,)


@given(vocabularies())
def test_roles_part_the_ids(vocabulary):
    special, unused = set(vocabulary.special_ids), set(vocabulary.unused_ids)
    assert {vocabulary.mask_id} - {None} <= special
    assert set(np.flatnonzero(vocabulary.maskable)) == set(range(vocabulary.size)) - special
    drawn = vocabulary.replacements.tolist()
    assert drawn == sorted(set(range(vocabulary.size)) - special - unused)


def test_a_vocabulary_is_a_value_whatever_its_name():
    assert Vocabulary(9, mask_id=3, name="a") == Vocabulary(9, mask_id=3, name="b")
    assert hash(Vocabulary(9)) == hash(Vocabulary(9))
    assert Vocabulary(9) != Vocabulary(9, pad_id=1)
