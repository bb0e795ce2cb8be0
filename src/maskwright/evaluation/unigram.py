"""The unigram baseline: guess from how often each token occurs, and from nothing else.

A tiny model stays on this plateau until it has learned to use its context, so a figure without it
says little.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from maskwright.evaluation.heldout import HeldOut, Scores
from maskwright.vocabulary import Vocabulary


def unigram_scores(table: Any, vocabulary: Vocabulary, held_out: HeldOut) -> Scores:
    """Scores of add-one smoothed token frequencies of ``table`` (the training text)."""
    counts = np.bincount(table.tokens.values, minlength=vocabulary.size).astype(np.float64)
    table.release()
    counts = np.where(vocabulary.maskable, counts + 1, 0)
    shares = counts / counts.sum()
    targets = held_out.targets
    return held_out.collect(-np.log(shares[targets]), targets == int(shares.argmax()))
