"""The table of recipes: what it says, and what it asks for."""

from __future__ import annotations

import pickle
import re
from dataclasses import replace

import numpy as np
import pytest

from maskwright import Clock, Masking, Ragged, TokenBatch, Vocabulary, recipe
from maskwright.corruption import RECIPES
from maskwright.corruption.mixture import MixedMasking
from maskwright.corruption.phrases import Phrases
from maskwright.errors import ConfigError, PolicyError, VocabularyError
from tests.core import tokenizers
from tests.corruption import recipes
from tests.corruption.recipes import NAMES, VOCABULARY, build, ingredients

every = pytest.mark.parametrize("name", NAMES)
SOURCE = re.compile(r"\b\d{4}\.\d{5}\b|\b[\w-]+/[\w-]+\b|^Ours\.$")
# Bare of everything that a recipe could find.
BARE = Vocabulary(50, mask_id=4, pad_id=0, special_ids=(0, 1, 2, 3))


def test_the_names_are_these():
    """A new one is added here too, and to the golden decisions."""
    assert NAMES == (
        "bert", "roberta", "whole-word", "spanbert", "pmi", "electra", "t5", "bart", "ul2", "mass",
        "prefix-lm", "fim", "cmlm", "word-dropout", "mdlm", "sparse", "sliding", "coverage",
        "rate-decay", "high-rate", "attention-guided", "attention-low", "attention-hints",
        "loss-guided", "attention-threshold",
    )  # fmt: skip


@every
def test_each_says_what_it_does_and_where_it_was_published(name):
    entry = RECIPES[name]
    assert re.fullmatch(r"[A-Z0-9][^\n]{10,99}\.", entry.meaning)
    assert re.fullmatch(r"[A-Z][^\n]*\.", entry.paper)
    assert SOURCE.search(entry.paper), entry.paper
    for text in (entry.meaning, entry.paper):
        assert "Args" not in text
        assert "  " not in text
    # a paper has its section or the heading of it; a repository and what is ours have none
    if re.search(r"\d{4}\.\d{5}", entry.paper):
        assert re.search(r'section|appendix|abstract|"[A-Z][^"]+"', entry.paper), entry.paper


def test_no_two_say_the_same():
    assert len({entry.meaning for entry in RECIPES.values()}) == len(RECIPES)


@every
def test_names_go_round(name):
    assert RECIPES[name].name == name == name.lower()
    policy = build(name)
    assert isinstance(policy, Masking | MixedMasking)
    assert policy.bound is VOCABULARY
    again = recipe(name, **ingredients(name))
    assert again == policy == RECIPES[name].build(**ingredients(name))
    assert again.vocabulary is None
    assert pickle.loads(pickle.dumps(policy)) == policy
    assert hash(again) == hash(policy)
    assert repr(policy).startswith(("Masking(", "MixedMasking("))
    others = [build(other) for other in NAMES if other != name]
    assert policy not in others


@every
def test_a_change_is_taken(name):
    assert build(name, stream=9) == replace(build(name), stream=9)
    assert build(name, stream=9) != build(name)
    assert build(name, refresh="static").refresh == replace(build(name), refresh="static").refresh


@every
def test_an_unknown_change_is_an_error(name):
    with pytest.raises(ConfigError, match=r"Unknown setting .*'refrehs'. Did you mean 'refresh'"):
        build(name, refrehs="static")


def test_another_recipes_ingredient_is_an_unknown_change():
    with pytest.raises(ConfigError, match="'phrases'"):
        recipe("bert", VOCABULARY, phrases=recipes.phrases())


@pytest.mark.parametrize(
    "wrong, right",
    [("spanbet", "spanbert"), ("whole_word", "whole-word"), ("T5", "t5"), ("mlm-decay", None)],
)
def test_unknown_names(wrong, right):
    with pytest.raises(PolicyError, match="Unknown recipe") as caught:
        recipe(wrong)
    text = str(caught.value)
    if right and right != "t5":
        assert f"Did you mean {right!r}?" in text
    assert all(name in text for name in NAMES)


@pytest.mark.parametrize(
    "name, word, remedy",
    [
        ("pmi", "phrases", "learn_phrases"),
        ("bart", "ends", "name the ids that end a sentence"),
        ("fim", "prefix_id", "add the token to the tokenizer"),
        ("word-dropout", "start_id", "name its id"),
    ],
)
def test_a_missing_ingredient_names_the_remedy(name, word, remedy):
    for source in (None, BARE):
        with pytest.raises(PolicyError, match=remedy) as caught:
            recipe(name, source)
        assert f"The recipe {name!r} needs {word}" in str(caught.value)
        assert f"{word}=" in str(caught.value)


def test_ingredients_are_found_in_a_tokenizer():
    tokenizer = recipes.tokenizer()
    found = {name: recipe(name, tokenizer) for name in NAMES if name != "pmi"}
    assert found["bart"].arrange.ends == (8, 9)
    emit = found["fim"].emit
    assert (emit.prefix_id, emit.suffix_id, emit.middle_id) == (5, 6, 7)
    assert found["word-dropout"].emit.start_id == 2  # [CLS]: there is no bos
    given = recipe("fim", tokenizer, middle_id=50).emit
    assert (given.prefix_id, given.suffix_id, given.middle_id) == (5, 6, 50)
    assert recipe("bart", tokenizer, ends=(33,)).arrange.ends == (33,)
    known = Phrases(np.array([3], np.uint64), 2, "words", len(tokenizer))
    found["pmi"] = recipe("pmi", tokenizer, phrases=known)
    row = [2, *range(10, 40), 8, *range(40, 70), 3]
    batch = TokenBatch(Ragged.from_lists([row]), np.array([4]))
    for policy in found.values():
        plan = policy.plan(batch, Clock(2, 0, 0, 10))
        assert len(plan.positions)
        assert policy.emit(plan).input_ids.shape[0] == 1


def test_the_decoders_start_is_bos_then_cls_then_padding():
    assert recipe("word-dropout", _with_mask(tokenizers.byte_level())).emit.start_id == 0
    assert recipe("word-dropout", tokenizers.words()).emit.start_id == 2
    with pytest.raises(VocabularyError, match="no mask token"):
        recipe("word-dropout", tokenizers.unigram())  # it starts with padding, but has no mask


def _with_mask(tokenizer):
    assert tokenizer.mask_token_id is not None
    return tokenizer


def test_a_tokenizer_without_sentence_ends_asks_for_them():
    with pytest.raises(PolicyError, match=r"recipe\('bart', tokenizer, ends=…\)"):
        recipe("bart", tokenizers.words())


def test_a_tokenizer_without_any_start_asks_for_it():
    class Nothing:
        bos_token_id = cls_token_id = pad_token_id = None

        def get_vocab(self):
            return {"a": 0}

    with pytest.raises(PolicyError, match="The recipe 'word-dropout' needs start_id"):
        recipe("word-dropout", Nothing())


@pytest.mark.parametrize("name", ["t5", "ul2"])
def test_what_the_act_writes_must_be_there(name):
    with pytest.raises(VocabularyError, match="sentinels"):
        recipe(name, tokenizers.words())


@pytest.mark.parametrize("name", ["whole-word", "spanbert", "bart"])
def test_words_must_be_known(name):
    policy = recipe(name, BARE, **ingredients(name))
    batch = TokenBatch(Ragged.from_lists([list(range(5, 40))]), np.array([0]))
    with pytest.raises(VocabularyError, match="word"):
        policy.plan(batch)
    flags = batch.tokens.like(np.ones(35, np.uint8))
    assert len(policy.plan(replace(batch, word_starts=flags)).positions)
