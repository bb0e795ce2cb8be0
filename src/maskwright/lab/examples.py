"""The same text under each policy, epoch by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from maskwright.batch import TokenBatch
from maskwright.clock import Clock
from maskwright.corruption import Masking, MaskPlan, learn_phrases, recipe
from maskwright.corruption.show import TokenView, token_views
from maskwright.errors import DataError
from maskwright.ragged import Ragged
from maskwright.vocabulary import Vocabulary

SENTINELS = tuple(f"<extra_id_{number}>" for number in range(100))
FIM_MARKS = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")


def plans_of(
    masking: Any, tokens: Any, tokenizer: Any, *, epochs: int, seed: int = 0, sample_id: int = 0
) -> list[MaskPlan]:
    """What ``masking`` plans for the sample ``tokens`` in each of its first epochs."""
    batch = TokenBatch(Ragged.from_lists([tokens]), np.array([sample_id]))
    bound = masking.bind(Vocabulary.from_tokenizer(tokenizer))
    clocks = [Clock(seed, epoch, epoch, total_steps=epochs) for epoch in range(epochs)]
    return [bound.plan(batch, clock) for clock in clocks]


def make_recipe(name: str, tokenizer: Any, texts: Sequence[str]) -> Any:
    """A recipe ready to be shown with any tokenizer.

    The sentinels and marks that it writes are added to ``tokenizer`` where they are missing, and
    the collocations of ``pmi`` are learned from ``texts``.
    """
    wanted = {"t5": SENTINELS, "ul2": SENTINELS, "fim": FIM_MARKS}.get(name, ())
    missing = [token for token in wanted if token not in tokenizer.get_vocab()]
    if missing:
        tokenizer.add_special_tokens({"additional_special_tokens": missing})
    if name != "pmi":
        return recipe(name, tokenizer)
    vocabulary = Vocabulary.from_tokenizer(tokenizer)
    rows = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
    phrases = learn_phrases(Ragged.from_lists(rows), vocabulary, size=2000, min_count=5)
    return recipe(name, vocabulary, phrases=phrases)


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
    """`plans_of` three epochs under each policy, in the form of the results file."""
    return [
        {
            "policy": name,
            "epochs": [
                {"epoch": epoch, "tokens": [_as_dict(v) for v in token_views(plan, 0, tokenizer)]}
                for epoch, plan in enumerate(
                    plans_of(masking, tokens, tokenizer, epochs=3, seed=seed)
                )
            ],
        }
        for name, masking in policies.items()
    ]


def _as_dict(view: TokenView) -> dict[str, str]:
    shown = {"text": view.text, "state": view.state}
    return shown if view.original is None else {**shown, "original": view.original}
