"""The collocations of a training table, learned once for each way to learn them."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from typing import Any

import numpy as np

from maskwright.corruption.phrases import Phrases, learn_phrases
from maskwright.errors import DataError
from maskwright.lab.policy import Policy
from maskwright.placing import placing
from maskwright.vocabulary import Vocabulary

_FORMAT = 1


def phrases_for(policy: Policy, table: Any, vocabulary: Vocabulary) -> Phrases | None:
    """What ``policy.masking`` needs besides: the phrases of ``pmi``, None for other policies.

    They are kept beside the table, in a file whose name is a hash of the settings. The same table
    and settings give the same phrases, so it does not matter who writes it, or how often.

    Args:
        table: the `TokenTable` of the training split.

    Raises:
        SaveError: they cannot be written.
    """
    settings = policy.collocations
    if settings is None:
        return None
    content = json.dumps([_FORMAT, settings.model_dump(mode="json")], sort_keys=True)
    key = hashlib.sha256(content.encode()).hexdigest()[:16]
    path = table.path.with_name(f"{table.path.stem}-phrases-{key}.npz")
    if path.exists():
        with suppress(DataError):  # a damaged file is written again
            return Phrases.load(path)
    part = table.batch(np.arange(_samples(table, settings.tokens)))
    phrases = learn_phrases(
        part.tokens,
        vocabulary,
        longest=settings.longest,
        size=settings.size,
        min_count=settings.min_count,
        word_starts=part.word_starts,
    )
    with placing(path) as temporary:
        phrases.save(temporary)
    return phrases


def _samples(table: Any, tokens: int) -> int:
    """How many of the first samples hold so many tokens; one at least."""
    return max(1, int(np.searchsorted(table.tokens.offsets, tokens, side="right")) - 1)
