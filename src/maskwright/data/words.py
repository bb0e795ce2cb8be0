r"""Where words begin: from the character spans of the tokens, whatever the tokenizer.

A word is a run of letters, digits and underscores, or one other visible character (the
regular expression ``\w+|[^\w\s]``), with two refinements: each CJK ideograph is a word, as in
BERT, and a combining mark belongs to what it follows, so that decomposed accents and Indic
vowel signs do not cut a word in two.
"""

from __future__ import annotations

import unicodedata

import numpy as np

_SPACE, _WORD, _OTHER, _IDEOGRAPH, _MARK, _UNKNOWN = range(6)
# Filled as characters are met: asking unicodedata for all 1,114,112 takes longer than most runs.
_kinds = np.full(0x110000, _UNKNOWN, np.uint8)
_IDEOGRAPHS = (
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x2FA1F),
    (0x30000, 0x323AF),
)


def _kind(code: int) -> int:
    character = chr(code)
    if character.isspace():
        return _SPACE
    if any(first <= code <= last for first, last in _IDEOGRAPHS):
        return _IDEOGRAPH
    if character.isalnum() or character == "_":
        return _WORD
    return _MARK if unicodedata.category(character) in ("Mn", "Mc", "Me", "Cf") else _OTHER


def _kinds_of(text: str) -> np.ndarray:
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    kinds = _kinds[codes]
    if (kinds == _UNKNOWN).any():
        for code in np.unique(codes[kinds == _UNKNOWN]):
            _kinds[code] = _kind(int(code))
        kinds = _kinds[codes]
    return kinds


def word_beginnings(text: str) -> np.ndarray:
    """True at each character of ``text`` where a word begins, ``(len(text),)`` bool.

    >>> [i for i, begins in enumerate(word_beginnings("it's 日本")) if begins]
    [0, 2, 3, 5, 6]
    """
    return _beginnings(_kinds_of(text))


def _beginnings(kinds: np.ndarray) -> np.ndarray:
    before = np.concatenate([[_SPACE], kinds[:-1]]).astype(np.uint8)
    runs_on = (before == _WORD) | (before == _MARK)
    begins = (kinds == _OTHER) | (kinds == _IDEOGRAPH) | ((kinds == _WORD) & ~runs_on)
    return begins | ((kinds == _MARK) & (before == _SPACE))


def token_word_starts(text: str, spans: np.ndarray) -> np.ndarray:
    """1 for each token that is the first token of a word.

    A token starts a word when the first non-space character of its span is where a word
    begins, and no earlier token of ``text`` covers that character: of the tokens that share
    one multi-byte character only the first is a start. A token of spaces alone is none.

    Args:
        text: the document, as it was given to the tokenizer.
        spans: ``(N, 2)`` character offsets of its tokens, first and one past the last.

    Returns:
        ``(N,)`` uint8.
    """
    if len(spans) == 0 or not text:
        return np.zeros(len(spans), np.uint8)
    kinds = _kinds_of(text)
    # next_visible[i] = the first position >= i that is not a space, len(text) if none
    visible = np.where(kinds == _SPACE, len(text), np.arange(len(text)))
    next_visible = np.minimum.accumulate(visible[::-1])[::-1]
    first = next_visible[np.minimum(spans[:, 0], len(text) - 1)]
    inside = first < spans[:, 1]
    begins = _beginnings(kinds)[np.minimum(first, len(text) - 1)] & inside
    # the furthest character that any earlier token began at; -1 before the first
    reached = np.maximum.accumulate(np.where(inside, first, -1))
    earlier = np.concatenate([[-1], reached[:-1]])
    return (begins & (first > earlier)).astype(np.uint8)
