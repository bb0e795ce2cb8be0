"""What BLEU and chrF are made of: counts of each sentence, which add up.

A metric of a corpus is a function of sums over its sentences. So a resampled corpus is a weighted
sum, and thousands of them are one matrix product; the texts are looked at once. The counts of a
sentence are sacrebleu's; the two formulas are written again here for many sums at once, and the
tests compare them with sacrebleu.

Sources: Papineni et al. 2002 ("BLEU"), Popović 2015 ("chrF"), Post 2018 (sacrebleu, 1804.08771).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from maskwright.errors import DataError, MissingExtra

_ORDERS = 4  # n-grams of words in BLEU
_CHARACTER_ORDERS = 6
_BETA = 2  # recall counts so many times as much as precision in chrF

References = Sequence[Sequence[str]]


def sentence_counts(
    hypotheses: Sequence[str], references: References
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The counts of each sentence, and the signatures of sacrebleu.

    Args:
        hypotheses: ``D`` translations; an empty one is a translation, and a bad one.
        references: of each, one or more good translations; their number may differ.

    Returns:
        ``bleu``: ``(D, 10)`` int64: lengths of the hypothesis and of the closest reference, matched
        n-grams of orders 1 to 4, n-grams in all. ``chrf``: ``(D, 18)`` int64: of each order from 1
        to 6 the n-grams of characters in the hypothesis, in the best reference, and in both.

    Raises:
        DataError: there is nothing to judge, or not one list of references for each hypothesis.
    """
    check_references(hypotheses, references)
    try:
        from sacrebleu.metrics.bleu import BLEU
        from sacrebleu.metrics.chrf import CHRF
    except ImportError:
        raise MissingExtra("sacrebleu", "lab") from None
    # sacrebleu wants streams, the n-th reference of all sentences; None where there is none
    most = max(map(len, references))
    streams = [[row[n] if n < len(row) else None for row in references] for n in range(most)]
    counts, signatures = {}, {}
    metrics: dict[str, Any] = {"bleu": BLEU(), "chrf": CHRF()}
    for name, metric in metrics.items():
        rows = metric._extract_corpus_statistics(list(hypotheses), streams)
        counts[name] = np.array(rows, np.int64)
        signatures[name] = str(metric.get_signature())
    return counts, signatures


def check_references(hypotheses: Sequence[str], references: References) -> None:
    """A `DataError` unless each hypothesis has at least one reference with text."""
    if isinstance(hypotheses, str) or not len(hypotheses):
        raise DataError("There are no translations to judge. Give a list with at least one text.")
    if len(hypotheses) != len(references):
        raise DataError(
            f"{len(hypotheses):,} translations and references of {len(references):,} sentences: "
            "give a list of references for each translation, in the same order."
        )
    for number, row in enumerate(references):
        if isinstance(row, str) or not len(row) or not all(text.strip() for text in row):
            raise DataError(
                f"The references of sentence {number} are {row!r}. Give a list of at least one "
                "text, and no empty ones; [[text] for text in texts] where there is one each."
            )


def bleu_of(sums: np.ndarray) -> np.ndarray:
    """BLEU, 0 to 100, of sums of counts ``(…, 10)``.

    With the "exp" smoothing of sacrebleu: the k-th order without a match counts 1/2ᵏ matches.
    """
    length, wanted = sums[..., 0], sums[..., 1]
    matched = sums[..., 2 : 2 + _ORDERS].astype(np.float64)
    total = sums[..., 2 + _ORDERS :]
    none = matched == 0
    matched = np.where(none, 0.5 ** np.cumsum(none, axis=-1), matched)
    possible = (total > 0).all(axis=-1) & ~none.all(axis=-1)
    precision = matched / np.maximum(total, 1)
    brevity = np.exp(np.minimum(0.0, 1 - wanted / np.maximum(length, 1)))
    return np.where(possible, 100 * brevity * np.exp(np.log(precision).mean(axis=-1)), 0.0)


def chrf_of(sums: np.ndarray) -> np.ndarray:
    """chrF2, 0 to 100, of sums of counts ``(…, 18)``; orders that a side lacks do not count."""
    by_order = sums.reshape(*sums.shape[:-1], _CHARACTER_ORDERS, 3).astype(np.float64)
    found, wanted, both = by_order[..., 0], by_order[..., 1], by_order[..., 2]
    counted = (found > 0) & (wanted > 0)
    orders = np.maximum(counted.sum(axis=-1), 1)
    precision = (both / np.maximum(found, 1) * counted).sum(axis=-1) / orders
    recall = (both / np.maximum(wanted, 1) * counted).sum(axis=-1) / orders
    below = _BETA**2 * precision + recall
    score = 100 * (1 + _BETA**2) * precision * recall / np.where(below > 0, below, 1.0)
    return np.where(below > 0, score, 0.0)


# Metric → what makes a score of sums of its counts; more is better.
METRICS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = MappingProxyType(
    {"bleu": bleu_of, "chrf": chrf_of}
)
