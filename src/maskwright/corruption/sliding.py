"""A window that moves over long sequences, epoch by epoch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from maskwright.batch import TokenBatch
from maskwright.corruption.select import Select
from maskwright.corruption.selection import Draw, Selection, eligible
from maskwright.errors import PolicyError
from maskwright.vocabulary import Vocabulary


@dataclass(frozen=True)
class Sliding(Select):
    """All maskable tokens of a window of ``size`` positions: ``Tokens() & Sliding(256, 128)``.

    In epoch ``e`` the window begins at position ``e * stride`` of the sample and wraps round its
    end. So a sample of ``S`` tokens was seen from end to end after ``cycle(S)`` epochs. It is a
    region, not a draw: no rate is used, and nothing is random. Each token is a unit.

    Args:
        size: positions inside the window; a shorter sample is inside it entirely.
        stride: how far it moves in one epoch, at most ``size``, or some tokens would never be
            inside.
    """

    size: int
    stride: int

    def __post_init__(self) -> None:
        if not 1 <= self.stride <= self.size:
            raise PolicyError(
                f"Sliding: stride must be from 1 to size, or tokens between two windows are never "
                f"selected; got size={self.size}, stride={self.stride}."
            )

    def cycle(self, length: int) -> int:
        """Epochs until every token of a sample of ``length`` was inside the window."""
        return 1 + max(0, -(-(length - self.size) // self.stride))

    def __call__(self, batch: TokenBatch, vocabulary: Vocabulary, draw: Draw) -> Selection:
        epoch = draw.clock.epoch
        if epoch is None:
            raise PolicyError(
                f"The select {self} needs the epoch, and the batch does not carry it. Use "
                "MaskingTrainer, or a ClockedSampler in a DataLoader of your own."
            )
        tokens = batch.tokens
        lengths = np.repeat(tokens.lengths, tokens.lengths)
        inside = (tokens.positions - epoch * self.stride) % lengths < self.size
        return Selection(np.flatnonzero(eligible(batch, vocabulary) & inside))

    def __str__(self) -> str:
        return f"window of {self.size} moving by {self.stride}"
