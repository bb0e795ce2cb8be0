"""The same text under each policy, epoch by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from maskwright.batch import TokenBatch
from maskwright.clock import Clock
from maskwright.corruption import Masking, MaskPlan, Phrases, Weighted, learn_phrases, recipe
from maskwright.corruption.show import TokenView, token_views
from maskwright.errors import DataError, ResultsError
from maskwright.lab.policy import Policy
from maskwright.ragged import Ragged
from maskwright.vocabulary import Vocabulary

SENTINELS = tuple(f"<extra_id_{number}>" for number in range(100))
_TOKENS = 48  # of the sample in the report
_EPOCHS = 3
FIM_MARKS = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")


def plans_of(
    masking: Any,
    tokens: Any,
    tokenizer: Any,
    *,
    epochs: int,
    seed: int = 0,
    sample_id: int = 0,
    scores: Sequence[np.ndarray | None] = (),
) -> list[MaskPlan]:
    """What ``masking`` plans for the sample ``tokens`` in each of its first epochs.

    Args:
        scores: of the tokens, epoch by epoch; none in epochs without an entry.
    """
    batch = TokenBatch(Ragged.from_lists([tokens]), np.array([sample_id]))
    bound = masking.bind(Vocabulary.from_tokenizer(tokenizer))
    plans = []
    for epoch in range(epochs):
        known = scores[epoch] if epoch < len(scores) else None
        if known is None and isinstance(getattr(masking, "select", None), Weighted):
            known = np.ones(len(tokens))  # as learned weights begin: by chance
        rows = None if known is None else Ragged.from_lists([known], np.float32)
        clock = Clock(seed, epoch, epoch, total_steps=epochs)
        plans.append(bound.plan(replace(batch, scores=rows), clock))
    return plans


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
    return recipe(name, Vocabulary.from_tokenizer(tokenizer), phrases=phrases_in(texts, tokenizer))


def phrases_in(texts: Sequence[str], tokenizer: Any) -> Phrases:
    """A few collocations of some texts, to be shown."""
    rows = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
    vocabulary = Vocabulary.from_tokenizer(tokenizer)
    return learn_phrases(Ragged.from_lists(rows), vocabulary, size=2000, min_count=5)


def tokenise(text: str, tokenizer: Any) -> list[int]:
    """A text as one sample.

    Raises:
        DataError: it holds no token.
    """
    ids: list[int] = tokenizer(text)["input_ids"]
    if not set(ids) - set(tokenizer.all_special_ids):
        raise DataError(f"The text {text!r} holds no token to mask, only {len(ids)} special ones.")
    return ids


@dataclass(frozen=True)
class Example:
    """A sample to be shown under each policy.

    Args:
        sample_id, tokens: of the sample, cut off where it is too long to be shown.
        scores: of its tokens for each guided policy, epoch by epoch; None where it had none.
    """

    sample_id: int
    tokens: np.ndarray
    scores: Mapping[str, Sequence[np.ndarray | None]]


def example_of(prepared: Any, runs: Mapping[str, tuple[Path, Policy]], ids: np.ndarray) -> Example:
    """A sample of the held-out text; or, where policies are guided, of the training text, with the
    scores that runs gave it.

    Args:
        runs: for each guided policy, the folder of a finished run.
        ids: of the samples that these were trained on.
    """
    if not runs:
        return Example(0, prepared.held_out.tokens[0][:_TOKENS], {})
    sample = int(ids[0])
    scores = {
        name: [_scores(*run, prepared.train, epoch, sample) for epoch in range(_EPOCHS)]
        for name, run in runs.items()
    }
    return Example(sample, prepared.train.tokens[sample][:_TOKENS], scores)


def _scores(folder: Path, policy: Policy, table: Any, epoch: int, sample: int) -> np.ndarray | None:
    from maskwright.lab.guided import kept_reader  # with torch, which a preview needs not wait for

    try:
        return kept_reader(folder, epoch, policy, table).read(np.array([sample]))[0][:_TOKENS]
    except ResultsError:  # not kept, or a run of fewer epochs: shown as at a first visit
        return None


def report_examples(
    policies: Mapping[str, Masking], example: Example, tokenizer: Any, *, seed: int
) -> list[dict[str, Any]]:
    """`plans_of` three epochs under each policy, in the form of the results file."""
    return [
        {
            "policy": name,
            "epochs": [
                {"epoch": epoch, "tokens": [_as_dict(v) for v in token_views(plan, 0, tokenizer)]}
                for epoch, plan in enumerate(
                    plans_of(
                        masking,
                        example.tokens,
                        tokenizer,
                        epochs=_EPOCHS,
                        seed=seed,
                        sample_id=example.sample_id,
                        scores=example.scores.get(name, ()),
                    )
                )
            ],
        }
        for name, masking in policies.items()
    ]


def _as_dict(view: TokenView) -> dict[str, str]:
    shown = {"text": view.text, "state": view.state}
    return shown if view.original is None else {**shown, "original": view.original}
