"""Scores of tokens from counts of a corpus: how rare they are, how bound to their neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from maskwright.batch import TokenBatch
from maskwright.errors import BatchError, ConfigError
from maskwright.guidance.statistics import TokenStatistics
from maskwright.ragged import Ragged


@dataclass(frozen=True, eq=False)
class InverseDocumentFrequency:
    """``log(documents / documents with the token)``: 0 for what is everywhere, high for the rare.

    NaN for special tokens and for tokens that the corpus does not have.

    Source: Spärck Jones 1972, "A statistical interpretation of term specificity".

    >>> from maskwright.guidance import count_tokens
    >>> from maskwright.vocabulary import Vocabulary
    >>> counts = count_tokens([[1, 1, 2], [1]], Vocabulary(size=4))
    >>> print(InverseDocumentFrequency(counts).table.round(3))
    [  nan 0.    0.693   nan]
    """

    statistics: TokenStatistics

    @cached_property
    def table(self) -> np.ndarray:
        """The score of each id, ``(size,)`` float32."""
        found = self.statistics.document_frequency
        share = np.where(found > 0, found, np.nan) / max(1, self.statistics.documents)
        return (0.0 - np.log(share)).astype(np.float32)  # 0 - 0, where a minus would give -0

    def scores(self, batch: TokenBatch) -> Ragged:
        check_tokens(batch, self.statistics.size)
        return batch.tokens.like(self.table[batch.tokens.values])


@dataclass(frozen=True, eq=False)
class PairInformation:
    """Pointwise mutual information of a token with the neighbour it is bound to most.

    ``log p(a, b) / p(a) p(b)`` of the token and the one before, and of it and the one after; the
    greater of the two. High inside collocations, which a model can guess from their other half;
    below 0 where two tokens avoid each other. NaN where neither pair is known: beside special
    tokens, alone in a sample, or in pairs rarer than ``min_count``, which say little.

    Args:
        min_count: least occurrences of a pair.

    Source: Church and Hanks 1990, "Word association norms, mutual information, and lexicography".
    `learn_phrases` finds whole collocations (PMI-Masking, 2010.01825); this scores each token.
    """

    statistics: TokenStatistics
    min_count: int = 5

    def __post_init__(self) -> None:
        if self.min_count < 1:
            raise ConfigError(
                f"PairInformation: min_count must be at least 1, got {self.min_count}."
            )

    @cached_property
    def information(self) -> np.ndarray:
        """Of each pair of the statistics, ``(P,)`` float32; NaN below ``min_count``."""
        known = self.statistics
        size = np.uint64(known.size)
        single = known.frequency / max(1, known.frequency.sum())
        left, right = single[known.pairs // size], single[known.pairs % size]
        both = known.pair_counts / max(1, known.pair_counts.sum())
        scores = np.log(both) - np.log(left) - np.log(right)
        return np.where(known.pair_counts < self.min_count, np.nan, scores).astype(np.float32)

    def scores(self, batch: TokenBatch) -> Ragged:
        known = self.statistics
        check_tokens(batch, known.size)
        tokens = batch.tokens.values.astype(np.uint64)
        out = np.full(len(tokens), np.nan, np.float32)
        if len(tokens) and len(known.pairs):
            wanted = tokens[:-1] * np.uint64(known.size) + tokens[1:]
            place = np.minimum(np.searchsorted(known.pairs, wanted), len(known.pairs) - 1)
            ends = batch.tokens.offsets[1:-1]
            found = known.pairs[place] == wanted
            found[ends[(ends > 0) & (ends < len(tokens))] - 1] = False
            pair = np.where(found, self.information[place], np.float32(np.nan))
            # fmax takes the number where the other is NaN
            out[:-1] = pair
            out[1:] = np.fmax(out[1:], pair)
        return batch.tokens.like(out)


def check_tokens(batch: TokenBatch, size: int) -> None:
    """Raises `BatchError` where a token is outside the vocabulary that was counted."""
    tokens = batch.tokens.values
    if len(tokens) and not 0 <= tokens.min() <= tokens.max() < size:
        raise BatchError(
            f"Token ids run from {tokens.min()} to {tokens.max()}, and the statistics are of a "
            f"vocabulary of {size}. Count the tokens of this tokenizer."
        )
