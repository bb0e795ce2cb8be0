"""Held-out loss and accuracy of a masked language model at frozen positions, by document."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from maskwright.clock import Clock
from maskwright.corruption import MaskedBatch, mlm
from maskwright.errors import DataError
from maskwright.evaluation.masks import SEED, evaluation_masking
from maskwright.hf.head import predicted_only
from maskwright.vocabulary import Vocabulary


@dataclass(frozen=True, eq=False)
class Scores:
    """Sums over the predicted positions of each of ``D`` documents.

    Args:
        documents: ``(D,)`` int64, their numbers.
        loss: ``(D,)`` float64, summed cross-entropy in nats.
        correct: ``(D,)`` int64, positions where the likeliest id is the right one.
        count: ``(D,)`` int64, positions.
    """

    documents: np.ndarray
    loss: np.ndarray
    correct: np.ndarray
    count: np.ndarray

    @property
    def mean(self) -> dict[str, float]:
        """``loss`` per predicted token in nats, ``perplexity`` (its exponential), ``accuracy``."""
        loss = float(self.loss.sum() / self.count.sum())
        return {
            "loss": loss,
            "perplexity": math.exp(min(loss, 700.0)),
            "accuracy": float(self.correct.sum() / self.count.sum()),
        }


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Samples with their frozen masks, ready to be scored.

    Args:
        name: of the evaluation masks.
        batches: padded batches.
        documents: the document of each predicted position, in the order of the batches.
        fingerprint: of the samples and the selected positions; two runs with the same one were
            judged on the same positions.
    """

    name: str
    batches: tuple[MaskedBatch, ...]
    documents: np.ndarray
    fingerprint: str

    @classmethod
    def build(
        cls,
        table: Any,
        vocabulary: Vocabulary,
        *,
        masks: str = "random-15",
        tokens: int | None = None,
        batch_size: int = 32,
    ) -> HeldOut:
        """From a `TokenTable`.

        Args:
            table: of the held-out split.
            masks: the name of the evaluation masks.
            tokens: how many tokens to use at most, spread evenly over the split; all unless given.
            batch_size: samples of a batch. It is part of the result: sums in another order round
                differently.

        Raises:
            ConfigError: the masks are unknown.
            DataError: there is no token to predict.
        """
        masking = evaluation_masking(masks).bind(vocabulary)
        share = 1.0 if tokens is None else min(1.0, tokens / int(table.lengths.sum()))
        chosen = max(1, int(len(table) * share))
        samples = np.arange(chosen) * len(table) // chosen
        digest = hashlib.sha256()
        batches, documents = [], []
        for first in range(0, chosen, batch_size):
            batch = table.batch(samples[first : first + batch_size])
            plan = masking.plan(batch, Clock(seed=SEED))
            digest.update(batch.sample_ids.tobytes())
            digest.update(batch.tokens.values.astype(np.int64).tobytes())
            digest.update(plan.positions.tobytes())
            batches.append(mlm(plan, side=vocabulary.padding_side))
            documents.append(table.documents[batch.sample_ids[batch.tokens.rows[plan.positions]]])
        numbers = np.concatenate(documents)
        if not len(numbers):
            raise DataError(
                f"The {chosen} held-out samples hold special tokens only, such as [UNK]: there is "
                "nothing to predict. Check data.source, and that data.tokenizer knows its script."
            )
        return cls(masks, tuple(batches), numbers, digest.hexdigest()[:16])

    @property
    def targets(self) -> np.ndarray:
        """The ids to predict, in the order of `documents`."""
        labels = [batch.labels.flatten() for batch in self.batches]
        return torch.cat([part[part != -100] for part in labels]).numpy()

    @torch.no_grad()
    def score(self, model: Any) -> Scores:
        """Scores a Hugging Face masked language model; its mode (train or eval) is kept."""
        training, device = model.training, next(model.parameters()).device
        model.eval()
        losses, hits = [], []
        for batch in self.batches:
            positions = (batch.labels.flatten() != -100).nonzero().squeeze(1).to(device)
            targets = batch.labels.to(device).flatten()[positions]
            with predicted_only(model, positions, (batch.labels.shape[0], batch.labels.shape[1])):
                logits = model(
                    input_ids=batch.input_ids.to(device),
                    attention_mask=batch.attention_mask.to(device),
                ).logits[0].float()  # fmt: skip
            losses.append(functional.cross_entropy(logits, targets, reduction="none").cpu())
            hits.append((logits.argmax(-1) == targets).cpu())
        model.train(training)
        return self.collect(torch.cat(losses).double().numpy(), torch.cat(hits).numpy())

    def collect(self, losses: np.ndarray, hits: np.ndarray) -> Scores:
        """Sums by document of ``(P,)`` losses and hits in the order of `documents`."""
        documents, which = np.unique(self.documents, return_inverse=True)
        size = len(documents)
        return Scores(
            documents.astype(np.int64),
            np.bincount(which, losses, size),
            np.bincount(which, hits, size).astype(np.int64),
            np.bincount(which, minlength=size),
        )
