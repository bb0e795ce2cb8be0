"""Whole words: every token of a word, or none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from maskwright.batch import TokenBatch
from maskwright.corruption.select import Select, thresholds
from maskwright.corruption.selection import Draw, Selection
from maskwright.errors import VocabularyError
from maskwright.vocabulary import Vocabulary

Unit = Literal["tokens", "words"]
UNITS = ("tokens", "words")

_UNMARKED = (
    "build the table with maskwright.data.build_table, which reads them from the text, or give "
    "word_starts."
)


@dataclass(frozen=True)
class WholeWords(Select):
    """Every token of a word together (whole-word masking of BERT's authors, 2019).

    A word goes from one ``word_starts`` flag of the batch to the next, or to a token that may not
    be selected; the first eligible token of a sample always begins one. Without such a column the
    marks of the tokenizer's own tokens say where words begin (`Vocabulary.word_start`). For scripts
    without spaces, let a segmenter set ``word_starts``.

    Independent draws: a word is selected by the draw of its first token, with probability ``rate``
    each, so that ``rate`` of the tokens are selected on average. With ``exact``, words are gone
    through in the order of their draws and each is taken that still fits in the budget of ``rate``
    times the tokens, which is never exceeded (but for ``at_least``, where no word fits: then the
    first is taken). That is BERT's rule, and it misses a budget by less than the shortest word that
    is left. Under a `Coverage` refresh with ``exact`` every word has its turn exactly once, and
    a turn may miss its budget by one word, either way.

    Raises:
        VocabularyError: where words begin is not known, or a sample has more than 32 tokens and no
            beginning at all.
    """

    def __call__(self, batch: TokenBatch, vocabulary: Vocabulary, draw: Draw) -> Selection:
        return select_units(mark_units(batch, vocabulary, "words"), batch, draw)

    def __str__(self) -> str:
        return "whole words"


def mark_units(batch: TokenBatch, vocabulary: Vocabulary, of: Unit) -> np.ndarray:
    """``(N,)`` uint8: 0 not eligible, 1 goes on with a unit, 2 begins one."""
    from maskwright.corruption import kernels, unit_kernels

    flags = table = kernels.NOTHING
    if of == "words":
        if batch.word_starts is not None:
            flags = (batch.word_starts.values != 0).view(np.uint8)
        elif vocabulary.word_start is not None:
            table = vocabulary.word_start.view(np.uint8)
        else:
            raise VocabularyError(
                f"The word boundaries of this tokenizer ({vocabulary.name!r}) are not known; "
                + _UNMARKED
            )
    tokens = batch.tokens
    protected = kernels.NOTHING if batch.protected is None else batch.protected.values
    marks = np.empty(len(tokens.values), np.uint8)
    lost = unit_kernels.mark(
        tokens.values, tokens.offsets, vocabulary.maskable, protected, flags, table,
        of == "tokens", marks,
    )  # fmt: skip
    if lost >= 0:
        raise VocabularyError(
            f"Sample {batch.sample_ids[lost]} has {int((marks[tokens.rows == lost] > 0).sum())} "
            "tokens and no beginning of a word: the word boundaries of this tokenizer "
            f"({vocabulary.name!r}) are not known; " + _UNMARKED
        )
    return marks


def select_units(marks: np.ndarray, batch: TokenBatch, draw: Draw) -> Selection:
    """Units of ``marks`` by chance, as `WholeWords` says."""
    from maskwright.corruption import unit_kernels

    offsets, ids, key = batch.tokens.offsets, batch.sample_ids, np.uint64(draw.run_key)
    out, units = np.empty(len(marks), np.int64), np.empty(len(marks), np.int64)
    if draw.exact:
        count = unit_kernels.select_exact(
            marks, offsets, ids, key, draw.low, draw.high, draw.at_least, draw.covering, out, units
        )
    else:
        low, high = thresholds(draw)
        count = unit_kernels.select_independent(marks, offsets, ids, key, low, high, out, units)
    return Selection(out[:count], units[:count])
