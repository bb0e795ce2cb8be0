"""What a model may add to the loss that `MaskingTrainer` computes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class FurtherLoss(Protocol):
    """A model with a loss of its own beside the cross-entropy of predicted tokens."""

    def further_loss(
        self,
        run: Callable[..., Any],
        inputs: dict[str, Any],
        batch: dict[str, Any],
        places: Tensor,
        logits: Tensor,
        tokens: Tensor | int | None,
    ) -> Tensor:
        """What is added to the loss of a batch that is trained on, ``()``.

        Args:
            run: calls the model, in whatever it is wrapped.
            inputs: what the model was called with.
            batch: what the collator gave, with ``labels``, ``sample_ids`` and ``clock``.
            places: ``(P,)`` int64: predicted positions in the flattened ``(B, S)``.
            logits: ``(P, V)`` there, in the graph.
            tokens: real tokens of all micro-batches and ranks; None: of this batch.
        """
        ...

    def measures(self) -> dict[str, float]:
        """What to log beside the loss."""
        ...
