"""A gate for each head of one attention, on what the head hands to the output projection.

Source: Voita et al., "Analyzing Multi-Head Self-Attention", 2019 (arXiv:1905.09418): each head's
output is multiplied by its gate before heads are put side by side.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from maskwright.hf.interaction.draws import noise_of_heads
from maskwright.hf.interaction.hard_concrete import chance_open, expected, sampled
from maskwright.hf.interaction.moment import Moment
from maskwright.hf.interaction.projections import Projections


class HeadGates(nn.Module):
    """The gates of one attention; it acts from `install` to `remove`.

    The gates are applied where the output projection begins, so it does not matter how the
    attention before it was computed: by which kernel, under which pattern, with padding or without.

    Args:
        projections: of the attention.
        number: of the attention among all that have gates; part of the key of its draws.
        moment: of the draws.
        start: log α at the beginning.
    """

    def __init__(self, projections: Projections, number: int, moment: Moment, start: float) -> None:
        super().__init__()
        weight: Any = projections.output.weight
        self.log_alpha = nn.Parameter(torch.full((projections.heads,), start, device=weight.device))
        self.number, self.moment = number, moment
        # not as a part of this module: the weights are the model's
        self._projections = [projections]
        self._handles: list[Any] = []

    @property
    def projections(self) -> Projections:
        return self._projections[0]

    def install(self) -> None:
        """Put the gates on."""
        output = self.projections.output
        self._handles = [output.register_forward_pre_hook(self._multiply)]

    def remove(self) -> None:
        """Take them off; again does nothing more."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def gates(self) -> Tensor:
        """The gate of each head, ``(heads,)``: drawn while training, else what is expected."""
        if not self.training:
            return expected(self.log_alpha)
        moment = self.moment
        noise = noise_of_heads(moment.seed, moment.step, self.number, len(self.log_alpha))
        return sampled(self.log_alpha, noise.to(self.log_alpha))

    def values(self) -> Tensor:
        """The gates of evaluation, ``(heads,)``."""
        return expected(self.log_alpha.detach())

    def open_sum(self) -> tuple[Tensor, Tensor]:
        """The expected number of open gates, and how many there are, ``()`` each."""
        chances = chance_open(self.log_alpha)
        return chances.sum(), chances.new_tensor(float(len(chances)))

    def _multiply(self, _module: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        heads, *rest = inputs
        gates = self.gates().to(heads.dtype).repeat_interleave(self.projections.size)
        return (heads * gates, *rest)
