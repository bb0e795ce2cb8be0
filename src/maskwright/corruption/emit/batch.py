"""MaskedBatch: what a plan becomes, and the protocol of what makes it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch

from maskwright.corruption.plan import MaskPlan
from maskwright.errors import BatchError
from maskwright.ragged import Ragged, Side

if TYPE_CHECKING:
    from maskwright.corruption.masking import Masking

# The label that torch's cross-entropy leaves out.
IGNORE = -100


@dataclass(frozen=True, eq=False)
class MaskedBatch:
    """A padded batch of ``B`` samples, ready for a model; ids are int64.

    Args:
        input_ids: ``(B, S)``: what the model, or its encoder, reads.
        attention_mask: ``(B, S)``: 1 at tokens, 0 at padding.
        labels: ``(B, T)``: the id to predict, -100 where there is none. ``T`` is ``S`` but for
            encoder–decoders.
        plan: what it was made from.
        side: where it is padded.
        others: more tensors that the model's ``forward`` takes (``decoder_input_ids`` …).
        sample_weights: ``(B,)`` float32: the weight of each sample's losses, 1 unless given.
        origins: where each token of ``input_ids`` came from, if not `MaskPlan.origin`.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    labels: torch.Tensor
    plan: MaskPlan
    side: Side = "right"
    others: dict[str, torch.Tensor] = field(default_factory=dict)
    sample_weights: torch.Tensor | None = None
    origins: Ragged | None = None

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        """What the model's ``forward`` takes, by name."""
        return {
            "input_ids": self.input_ids,
            "attention_mask": self.attention_mask,
            "labels": self.labels,
            **self.others,
        }

    @cached_property
    def loss_weights(self) -> torch.Tensor:
        """The weight of the loss at each label, ``(B, T)`` float32; 0 where there is no label."""
        weights = (self.labels != IGNORE).float()
        if self.sample_weights is not None:
            weights *= self.sample_weights[:, None]
        return weights

    @cached_property
    def origin(self) -> torch.Tensor:
        """For each id of ``input_ids``, its place in the sample before; -1 at padding and at
        tokens that were put in: ``(B, S)`` int64."""
        origins = self.plan.origin if self.origins is None else self.origins
        return origins.to_padded(-1, side=self.side, length=self.input_ids.shape[1])

    def new_places(self) -> Ragged:
        """For each token before, its place in ``input_ids``; -1 where it is there no more."""
        import numpy as np

        tokens = self.plan.batch.tokens
        places = np.full(len(tokens.values), -1, np.int64)
        origin = self.origin.numpy()
        rows, columns = np.nonzero(origin >= 0)
        places[tokens.offsets[rows] + origin[rows, columns]] = columns
        return tokens.like(places)


@runtime_checkable
class Emit(Protocol):
    """Makes a batch of a plan."""

    def __call__(
        self, plan: MaskPlan, *, side: Side = "right", length: int | None = None
    ) -> MaskedBatch:
        """Pads to ``length`` on ``side``; to the longest sample unless given."""
        ...

    def check(self, masking: Masking) -> None:
        """Raises `PolicyError`, with the remedy, if it cannot emit what the policy does."""
        ...


def padded_length(tokens: Ragged, plan: MaskPlan, length: int | None) -> int:
    """The length to pad ``tokens`` to.

    Raises:
        BatchError: a sample is longer than ``length``.
    """
    longest = int(tokens.lengths.max(initial=0))
    if length is None:
        return longest
    if longest > length:
        row = int(tokens.lengths.argmax())
        raise BatchError(
            f"Sample {plan.batch.sample_ids[row]} has {longest} tokens, more than the length "
            f"{length} to pad to. Cut samples when they are tokenised (max_length={length}): "
            "nothing is truncated in silence."
        )
    return length


def padding_id(tokens: Ragged, plan: MaskPlan, length: int) -> int:
    """The padding id; any where no sample is shorter than ``length``.

    Raises:
        VocabularyError: one is needed and there is none.
    """
    if int(tokens.lengths.min(initial=length)) == length:
        return 0
    return plan.masking.bound.require_pad()
