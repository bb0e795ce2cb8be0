"""Pairs of tokens with the links of their tokens, which follow from links of words."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from maskwright.data.alignments import Link, token_links
from maskwright.data.corpus import knows_words
from maskwright.data.pairs import PairTable
from maskwright.errors import VocabularyError
from maskwright.lab.translate.alignments import Alignments


class AlignedPairs(Dataset):
    """A table of pairs whose rows have a column ``alignments``: links [source token, target token].

    A word's links are those of all its tokens.

    Args:
        table: the pairs.
        alignments: at least of all pairs in it.
        tokenizer, target_tokenizer: what the table was made with; the same object, if one was.

    Raises:
        VocabularyError: a tokenizer does not say which characters a token came from.
    """

    def __init__(
        self, table: PairTable, alignments: Alignments, tokenizer: Any, target_tokenizer: Any
    ) -> None:
        for one in (tokenizer, target_tokenizer):
            if not knows_words(one):
                raise VocabularyError(
                    f"{type(one).__name__} does not say which characters a token came from, so "
                    "links of words cannot become links of tokens. Use a model with a fast "
                    "tokenizer, or leave data.alignments and the mask alignment out."
                )
        self.table = table
        self.alignments = alignments
        self.tokenizer = tokenizer
        self.target_tokenizer = target_tokenizer

    @property
    def lengths(self) -> np.ndarray:
        """As of the table."""
        return self.table.lengths

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, sample_id: int) -> dict[str, Any]:
        return self.__getitems__([sample_id])[0]

    def __getitems__(self, sample_ids: Sequence[int]) -> list[dict[str, Any]]:
        rows = self.table.__getitems__(sample_ids)
        lines = self.table.lines[np.asarray(sample_ids, np.int64)].tolist()
        pairs = [self.alignments.pairs[line] for line in lines]
        sources = _words(self.tokenizer, text=[pair.source for pair in pairs])
        side = "text_target" if self.target_tokenizer is self.tokenizer else "text"
        targets = _words(self.target_tokenizer, **{side: [pair.target for pair in pairs]})
        return [
            {**row, "alignments": _in_tokens(self.alignments.links[line], target, source)}
            for row, line, target, source in zip(rows, lines, targets, sources, strict=True)
        ]


def _in_tokens(
    links: list[Link], target: list[int | None], source: list[int | None]
) -> list[list[int]]:
    # a word may have no token of its own: what a normalizer takes away, or joins to its neighbour
    known = [link for link in links if link[0] in target and link[1] in source]
    return [[at_source, at_target] for at_target, at_source in token_links(known, target, source)]


def _words(tokenizer: Any, **texts: list[str]) -> list[list[int | None]]:
    """The word of each token of each text, None of special ones; ids are those of the table."""
    encoded = tokenizer(
        **texts, split_special_tokens=True, return_offsets_mapping=True, verbose=False
    )
    [given] = texts.values()
    return [
        words_of(text, spans) for text, spans in zip(given, encoded["offset_mapping"], strict=True)
    ]


def words_of(text: str, spans: Iterable[tuple[int, int]]) -> list[int | None]:
    """The number of the word in which each token begins; None of a token without characters.

    A space is of the word behind it.

    Args:
        spans: first character of each token and one past its last, as ``offset_mapping`` has them.

    >>> words_of("la casa.", [(0, 2), (2, 5), (5, 7), (7, 8), (0, 0)])
    [0, 1, 1, 1, None]
    """
    ends = [word.end() for word in re.finditer(r"\S+", text)]
    found: list[int | None] = []
    for first, last in spans:
        word = bisect_right(ends, first)
        found.append(word if first < last and word < len(ends) else None)
    return found
