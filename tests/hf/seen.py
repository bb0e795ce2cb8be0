"""What a model saw: each sample's input and labels, however the batch was padded."""

from __future__ import annotations

from typing import Any

import torch

from maskwright import Clock
from maskwright.hf import MaskingCollator, MaskingTrainer

# input ids, and labels, of one sample without its padding
View = tuple[tuple[int, ...], tuple[int, ...]]


def views(batch: Any) -> list[View]:
    """Each row of a batch, without padding."""
    out = []
    for ids, mask, labels in zip(
        batch["input_ids"], batch["attention_mask"], batch["labels"], strict=True
    ):
        kept = mask.bool()
        out.append((tuple(ids[kept].tolist()), tuple(labels[kept].tolist())))
    return out


def original(view: View) -> tuple[int, ...]:
    """The tokens before they were masked."""
    pairs = zip(*view, strict=True)
    return tuple(token if label == -100 else label for token, label in pairs)


def expected(collator: MaskingCollator, row: list[int], sample_id: int, epoch: int) -> View:
    """What the collator's policy makes of one sample on its own."""
    from maskwright import Ragged, TokenBatch

    batch = TokenBatch(Ragged.from_lists([row]), torch.tensor([sample_id]).numpy())
    plan = collator.masking.plan(batch, Clock(collator.seed, epoch))
    return tuple(plan.corrupted.values.tolist()), tuple(plan.labels().values.tolist())


class RecordingTrainer(MaskingTrainer):
    """Writes down (sample ids, clock, views, loss) of each batch it trains on."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.batches: list[tuple[list[int], list[int], list[View], float]] = []

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        ids, clock, seen = inputs["sample_ids"], inputs["clock"], views(inputs)
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        if model.training:
            assert (clock == clock[0]).all()
            self.batches.append((ids.tolist(), clock[0].tolist(), seen, loss.item()))
        return loss

    def masks(self) -> dict[tuple[int, int], View]:
        """By (sample id, epoch)."""
        return {
            (sample_id, clock[0]): view
            for ids, clock, seen, _ in self.batches
            for sample_id, view in zip(ids, seen, strict=True)
        }
