"""Which token of its sample each slot of a batch is of, where an emit moves tokens.

A score belongs to a token, and comes out of the model at a slot: of what it reads, or of what it
predicts. `MaskingCollator` sends the map between them with the batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from maskwright.corruption.emit import IGNORE, Decoder, Diffusion, Emit, MaskedBatch, Mlm

# What the batch calls the fields below; no model's forward takes them.
PLACES = ("input_places", "label_places", "sample_mask")
Texts = Literal["source", "target", "both"]


def moves(emit: Emit) -> bool:
    """Whether slots of a batch need a map: an emit other than those that leave every token where
    it stands."""
    return not isinstance(emit, Mlm | Diffusion)


def texts_of(emit: Emit) -> Texts:
    """On which side of an encoder–decoder the samples' tokens are read."""
    if isinstance(emit, Decoder):
        return "target"
    return "both" if moves(emit) else "source"


def places_of(masked: MaskedBatch) -> dict[str, Tensor]:
    """The map of a batch, by name."""
    return {name: getattr(masked, name) for name in PLACES}


@dataclass(frozen=True, eq=False)
class TokenPlaces:
    """The map of a batch. B samples of up to L tokens; S slots are read, T predicted.

    Args:
        inputs: ``(B, S)`` int32, see `MaskedBatch.input_places`.
        labels: ``(B, T)`` int32, see `MaskedBatch.label_places`.
        tokens: ``(B, L)`` int8, see `MaskedBatch.sample_mask`.
    """

    inputs: Tensor
    labels: Tensor
    tokens: Tensor

    @classmethod
    def of(cls, batch: Mapping[str, Any]) -> TokenPlaces | None:
        """Out of a batch, if it has one."""
        if not all(name in batch for name in PLACES):
            return None
        return cls(*(batch[name] for name in PLACES))

    @property
    def shifted(self) -> Tensor:
        """What a decoder reads that shifts its labels right by one behind a start token: the place
        of each, ``(B, T)``; the last label is never read."""
        return functional.pad(self.labels[:, :-1], (1, 0), value=-1)

    @property
    def hidden(self) -> Tensor:
        """Which tokens were masked, replaced or taken out, ``(B, L)`` bool."""
        return self.tokens == 3

    def gather(self, scores: Tensor, places: Tensor) -> Tensor:
        """Scores of slots, brought to the tokens: ``(B, L)`` float32.

        NaN at tokens of no slot, or of slots without a score; several slots of one token: their
        mean.

        Args:
            scores: ``(B, S)``, NaN where unknown.
            places: ``(B, S)``, one of the maps.
        """
        rows, length = self.tokens.shape
        there = (places >= 0) & ~scores.isnan()
        first = torch.arange(rows, device=places.device)[:, None] * length
        # one more for what is of no token, so that nobody has to wait for its number
        index = torch.where(there, first + places.long(), rows * length).flatten()
        values = torch.where(there, scores.float(), 0.0).flatten()
        sums, many = values.new_zeros(2, rows * length + 1)
        # index_put sums in the same order each time, on a GPU too
        sums = sums.index_put((index,), values, accumulate=True)
        many = many.index_put((index,), there.flatten().float(), accumulate=True)
        return (sums / many)[:-1].view(rows, length)  # 0 / 0: the NaN of a token without any

    def chosen(self, labels: Tensor) -> Tensor:
        """``(B, T)`` labels, and -100 at those that are not of a selected token."""
        selected = (self.tokens >= 2).gather(1, self.labels.clamp(min=0).long())
        return labels.masked_fill(~selected | (self.labels < 0), IGNORE)


def is_read(labels: Tensor) -> Tensor:
    """Which slots of a decoder that shifts its labels have something to predict at or after them,
    ``(B, T)`` bool: what is behind is padding, which asks for nothing."""
    return (labels != IGNORE).flip(1).cumsum(1).flip(1) > 0
