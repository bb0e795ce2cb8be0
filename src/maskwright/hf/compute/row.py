"""The real tokens of a padded batch as one row, and the way back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from maskwright.attention import Axis


@dataclass(frozen=True, eq=False)
class Row:
    """The ``T`` tokens of a batch of ``(B, S)`` that are no padding, sample behind sample.

    Args:
        shape: ``(B, S)``.
        places: ``(T,)`` int64, where each token stands in the flattened batch; rising.
    """

    shape: tuple[int, int]
    places: Tensor

    @classmethod
    def of(cls, mask: Tensor) -> Row:
        """From the ``(B, S)`` mask of a tokenizer, 0 at padding, on whatever side or in between."""
        return cls((mask.shape[0], mask.shape[1]), mask.flatten().nonzero().squeeze(1))

    def __len__(self) -> int:
        return len(self.places)

    @property
    def padded(self) -> bool:
        """Whether the batch has padding."""
        return len(self) < self.shape[0] * self.shape[1]

    @property
    def mask(self) -> Tensor:
        """``(B, S)`` Boolean: True at tokens."""
        flat = torch.zeros(self.shape[0] * self.shape[1], dtype=torch.bool)
        flat = flat.to(self.places.device).index_fill(0, self.places, True)
        return flat.unflatten(0, self.shape)

    @cached_property
    def slots(self) -> Tensor:
        """``(T,)`` int64: the place of each token in its sample, padding before it included.

        The plain model counts so: positions are those that it would have taken.
        """
        return self.places % self.shape[1]

    @cached_property
    def samples(self) -> Tensor:
        """``(T,)`` int64: the number of each token's sample."""
        return self.places // self.shape[1]

    @cached_property
    def solid(self) -> bool:
        """Whether no sample has padding between its tokens, so that indices count as slots do."""
        steps, same = self.places.diff(), self.samples.diff() == 0
        return not bool((same & (steps > 1)).any())

    @cached_property
    def lengths(self) -> list[int]:
        """Tokens of each sample that has some."""
        return torch.unique_consecutive(self.samples, return_counts=True)[1].tolist()

    @cached_property
    def axis(self) -> Axis:
        """The row as documents; made once, so that what is found out about it serves all layers."""
        positions = None if self.solid else self.slots
        return Axis(len(self), positions=positions, segments=self.samples)

    def gather(self, values: Tensor) -> Tensor:
        """``(B, S, …)`` → ``(1, T, …)``; a batch of 1 stands for all samples."""
        if len(values) != self.shape[0]:
            values = values.expand(self.shape[0], *values.shape[1:])
        return values.flatten(0, 1).index_select(0, self.places).unsqueeze(0)

    def scatter(self, values: Tensor) -> Tensor:
        """``(1, T, …)`` → ``(B, S, …)``, zeros at padding."""
        batch, length = self.shape
        out = values.new_zeros(batch * length, *values.shape[2:])
        return out.index_copy(0, self.places, values[0]).unflatten(0, (batch, length))
