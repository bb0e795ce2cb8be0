"""What a batch asks a language model to predict."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from maskwright.corruption.emit import IGNORE


@dataclass(frozen=True, eq=False)
class Predicted:
    """The predicted positions of a batch of ``B`` rows of ``T`` logits.

    Args:
        labels: ``(B, T)``, where the logits stand that they are compared with; -100: none.
        counted: ``(B, T)``, -100 but at the tokens that the loss is a mean over.
        positions: ``(P,)`` int64, of the labels in the flattened ``(B, T)``.
        targets: ``(P,)`` int64, the labels there.
        weights: ``(P,)`` of their losses; None: 1 each.
    """

    labels: Tensor
    counted: Tensor
    positions: Tensor
    targets: Tensor
    weights: Tensor | None

    @classmethod
    def of(cls, labels: Tensor, counted: Tensor, weights: Tensor | None) -> Predicted:
        """The positions of labels; ``weights`` are ``(B, T)`` here."""
        positions = (labels.flatten() != IGNORE).nonzero().squeeze(1)
        if weights is not None:
            weights = weights.flatten().index_select(0, positions)
        return cls(labels, counted, positions, labels.flatten().index_select(0, positions), weights)

    @property
    def shape(self) -> tuple[int, int]:
        """``(B, T)``."""
        return self.labels.shape[0], self.labels.shape[1]
