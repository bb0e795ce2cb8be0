"""Loss of reference translations: after the reference's own words, and after the model's.

A model that is trained on reference prefixes and then reads its own is exposed to words that it
never saw in training (Ranzato et al., 1511.06732; Bengio et al., 1506.03099). The `exposure` of a
sentence is what that costs, where it can be measured without changing what is asked: the loss of
the same reference tokens, when every token that the decoder reads is the model's own guess of that
token from the reference prefix, minus the loss when it reads the reference. The guesses are those
of one parallel pass, as in the two passes of Mihaylova & Martins (1906.07651).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from maskwright.corruption.emit import IGNORE

# What a model reads of a batch of pairs.
READ = ("input_ids", "attention_mask", "decoder_input_ids", "decoder_attention_mask")


@dataclass(frozen=True, eq=False)
class SentenceScores:
    """Sums over the target tokens of each of ``D`` sentences.

    Args:
        loss: ``(D,)`` float64, cross-entropy in nats, without label smoothing.
        correct: ``(D,)`` int64, tokens where the likeliest id is the right one.
        count: ``(D,)`` int64, tokens, the end among them.
        exposed: ``(D,)`` float64, the loss after the model's own guesses; None where not measured.
    """

    loss: np.ndarray
    correct: np.ndarray
    count: np.ndarray
    exposed: np.ndarray | None = None

    @property
    def mean(self) -> dict[str, float]:
        """``loss`` per token, ``perplexity``, ``accuracy``; ``exposure`` where measured."""
        tokens = self.count.sum()
        loss = float(self.loss.sum() / tokens)
        found = {
            "loss": loss,
            "perplexity": math.exp(min(loss, 700.0)),
            "accuracy": float(self.correct.sum() / tokens),
        }
        if self.exposed is not None:
            found["exposure"] = float((self.exposed - self.loss).sum() / tokens)
        return found


def batches_of(collator: Any, rows: Sequence[Any], size: int) -> list[dict[str, torch.Tensor]]:
    """Rows of a table of pairs as padded batches, in their order."""
    return [dict(collator(rows[first : first + size])) for first in range(0, len(rows), size)]


def score_sentences(
    model: Any, batches: Iterable[dict[str, torch.Tensor]], *, exposure: bool = False
) -> SentenceScores:
    """The loss of reference translations under a model, sentence by sentence.

    Args:
        batches: of a `PairCollator`.
        exposure: also the loss after the model's own guesses; a second pass.
    """
    device = next(model.parameters()).device
    was = model.training
    model.eval()
    sums: list[list[torch.Tensor]] = []
    try:
        with torch.inference_mode():
            for batch in batches:
                inputs = {name: batch[name].to(device) for name in READ if name in batch}
                sums.append(_of_batch(model, inputs, batch["labels"].to(device), exposure))
    finally:
        model.train(was)
    loss, correct, count, exposed = (
        torch.cat(column).cpu().numpy() for column in zip(*sums, strict=True)
    )
    return SentenceScores(loss, correct, count, exposed if exposure else None)


def _of_batch(model: Any, inputs: Any, labels: torch.Tensor, exposure: bool) -> list[torch.Tensor]:
    logits = model(**inputs)["logits"]
    asked = labels != IGNORE
    guesses = logits.argmax(-1)
    loss = _sums(logits, labels)
    exposed = loss
    if exposure:
        reads = inputs["decoder_input_ids"].clone()
        # the guess of a token is read one place later; what is no token stays as it is
        reads[:, 1:] = torch.where(asked[:, :-1], guesses[:, :-1], reads[:, 1:])
        exposed = _sums(model(**{**inputs, "decoder_input_ids": reads})["logits"], labels)
    return [loss, ((guesses == labels) & asked).sum(1), asked.sum(1), exposed]


def _sums(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy summed over each row, ``(B,)`` float64."""
    each = functional.cross_entropy(
        logits.float().transpose(1, 2), labels, ignore_index=IGNORE, reduction="none"
    )
    return each.double().sum(1)
