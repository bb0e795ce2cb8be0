"""Word starts: literal cases, and the regular expression as the reference."""

import re
import unicodedata
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from maskwright.data.words import token_word_starts, word_beginnings


def words_of(text):
    """``text`` cut where words begin, without spaces."""
    places = [*np.flatnonzero(word_beginnings(text)), len(text)]
    return [text[a:b].strip() for a, b in pairwise(places)]


@pytest.mark.parametrize(
    "text, words",
    [
        ("It's 1790, a_b!", ["It", "'", "s", "1790", ",", "a_b", "!"]),
        ("naïve café", ["naïve", "café"]),
        (unicodedata.normalize("NFD", "naïve café"), ["nai\u0308ve", "cafe\u0301"]),
        ("日本語 ok", ["日", "本", "語", "ok"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("한국어 말", ["한국어", "말"]),
        ("\n a\tb  ", ["a", "b"]),
        ("😀😀", ["😀", "😀"]),
        ("", []),
        (" ", []),
    ],
)
def test_literal_words(text, words):
    assert words_of(text) == words


@given(st.text(st.characters(codec="utf-8"), max_size=30))
def test_it_is_the_regular_expression_but_for_ideographs_and_marks(text):
    simple = "".join(
        "." if unicodedata.category(c) in ("Mn", "Mc", "Me", "Cf", "Lo") and not c.isspace() else c
        for c in text
    )
    expected = np.zeros(len(simple), bool)
    expected[[match.start() for match in re.finditer(r"\w+|[^\w\s]", simple)]] = True
    assert word_beginnings(simple).tolist() == expected.tolist()


@pytest.mark.parametrize(
    "text, spans, starts",
    [
        ("ab cd", [(0, 2), (2, 5)], [1, 1]),  # byte-level: the space belongs to the next token
        ("ab cd", [(0, 1), (1, 2), (2, 3), (3, 5)], [1, 0, 0, 1]),  # a lone space is no start
        ("é!", [(0, 1), (0, 1), (1, 2)], [1, 0, 1]),  # one character in two tokens
        ("aé", [(0, 2), (1, 2)], [1, 0]),
        ("a, b", [(0, 1), (1, 4)], [1, 1]),  # ", b" begins with the comma
        ("a b", [(0, 0), (0, 1), (1, 3)], [0, 1, 1]),  # an empty span, of a special token
        ("a", [], []),
        ("", [(0, 0)], [0]),
    ],
)
def test_literal_tokens(text, spans, starts):
    spans = np.array(spans, np.int64).reshape(-1, 2)
    assert token_word_starts(text, spans).tolist() == starts


TEXT = "Hello  world, it's naïve 日本語 café 😀 foo-bar new"
WORDS = "Hello world , it ' s naïve 日 本 語 café 😀 foo - bar new".split()  # noqa: SIM905

WAYS = {
    "byte-level": (pre_tokenizers.ByteLevel(add_prefix_space=False), None),
    "byte-level with a space before": (pre_tokenizers.ByteLevel(add_prefix_space=True), None),
    "metaspace": (pre_tokenizers.Metaspace(), None),
    "BERT": (pre_tokenizers.BertPreTokenizer(), normalizers.BertNormalizer(lowercase=True)),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_kind_of_tokenizer_starts_the_same_words(way):
    """Where a token ends at each word's end, all tokenizers must start the same words."""
    backend = Tokenizer(models.BPE())
    # alone, Metaspace would allow a token to run from one word into the next ("o-b")
    split = pre_tokenizers.Split(Regex("日|本|語|[^\\w\\s]"), "isolated")
    pre_tokenizer, normalizer = WAYS[way]
    backend.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizer])
    if normalizer is not None:
        backend.normalizer = normalizer
    trainer = trainers.BpeTrainer(vocab_size=70, show_progress=False)
    backend.train_from_iterator([TEXT] * 3, trainer)
    encoding = backend.encode(TEXT)
    spans = np.array(encoding.offsets)
    starts = token_word_starts(TEXT, spans)
    begun = [TEXT[a:b].split()[0] for (a, b), s in zip(spans, starts, strict=True) if s]
    assert len(begun) == len(WORDS), begun
    assert all(word.startswith(token) for word, token in zip(WORDS, begun, strict=True))
