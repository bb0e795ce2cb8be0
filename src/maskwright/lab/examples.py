"""The same text under each policy, epoch by epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from maskwright.batch import TokenBatch
from maskwright.clock import Clock
from maskwright.corruption import Masking
from maskwright.corruption.show import TokenView, token_views
from maskwright.errors import DataError
from maskwright.ragged import Ragged
from maskwright.vocabulary import Vocabulary


def epochs_of(
    masking: Masking, tokens: Any, tokenizer: Any, *, epochs: int, seed: int = 0, sample_id: int = 0
) -> list[list[TokenView]]:
    """The sample ``tokens`` as ``masking`` shows it in each of its first epochs."""
    batch = TokenBatch(Ragged.from_lists([tokens]), np.array([sample_id]))
    bound = masking.bind(Vocabulary.from_tokenizer(tokenizer))
    clocks = [Clock(seed, epoch, epoch, total_steps=epochs) for epoch in range(epochs)]
    return [token_views(bound.plan(batch, clock), 0, tokenizer) for clock in clocks]


def tokenise(text: str, tokenizer: Any) -> list[int]:
    """A text as one sample.

    Raises:
        DataError: it holds no token.
    """
    ids: list[int] = tokenizer(text)["input_ids"]
    if not set(ids) - set(tokenizer.all_special_ids):
        raise DataError(f"The text {text!r} holds no token to mask, only {len(ids)} special ones.")
    return ids


def report_examples(
    policies: Mapping[str, Masking], tokens: Any, tokenizer: Any, *, seed: int
) -> list[dict[str, Any]]:
    """`epochs_of` three epochs under each policy, in the form of the results file."""
    return [
        {
            "policy": name,
            "epochs": [
                {"epoch": epoch, "tokens": [_as_dict(view) for view in views]}
                for epoch, views in enumerate(
                    epochs_of(masking, tokens, tokenizer, epochs=3, seed=seed)
                )
            ],
        }
        for name, masking in policies.items()
    ]


def _as_dict(view: TokenView) -> dict[str, str]:
    shown = {"text": view.text, "state": view.state}
    return shown if view.original is None else {**shown, "original": view.original}
