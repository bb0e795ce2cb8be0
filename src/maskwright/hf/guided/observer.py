"""What a training step shows to callbacks that want more of it than its number."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from transformers import TrainerCallback

from maskwright.hf.guided.places import TokenPlaces


@dataclass(frozen=True, eq=False)
class SeenBatch:
    """One batch that was trained on, apart from the graph. B samples, S positions, P predicted.

    Args:
        sample_ids: ``(B,)`` int64.
        attention_mask: ``(B, S)``, 0 at padding.
        labels: ``(B, S)`` int64, where the logits stand that they are compared with; -100: none.
            Of an encoder–decoder ``(B, T)``, for T positions of its decoder.
        shifted: whether that is one place before the label's own token, as in causal models.
        logits: ``(P, V)`` of the predicted positions, row after row, or ``(B, S, V)``; None where
            nobody wants them.
        losses: ``(P,)`` of them, where they were computed anyway.
        loss: of the batch, as it is summed over micro-batches.
        places: of which token each slot is, where the batch says so.
    """

    sample_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    shifted: bool
    logits: Tensor | None
    losses: Tensor | None
    loss: Tensor | None
    places: TokenPlaces | None = None


class BatchObserver(TrainerCallback):
    """A callback that `MaskingTrainer` shows each batch it trains on."""

    #: Whether the losses of single positions are of use.
    wants_losses = False

    def observe(self, seen: SeenBatch) -> None:
        """Called after the loss of a batch was computed, before its gradient."""
        raise NotImplementedError

    def measures(self) -> dict[str, float]:
        """What to log beside the loss."""
        return {}
