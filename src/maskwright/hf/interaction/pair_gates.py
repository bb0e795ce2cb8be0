"""A gate for each pair of a query and a key of one attention, scored from their states.

    log α[h, i, j] = (q[h, i] U[h]) · (k[h, j] V[h]) / √r + b[h]
    a[h, i, j]     = z[h, i, j] exp(s[h, i, j]) / Σ_j' z[h, i, j'] exp(s[h, i, j'])

U and V have the low rank r, and s are the scores of the attention. The gate is added to the scores
as its logarithm, before the softmax, so the weights of the keys that stay add up to 1. A query all
of whose gates are closed gives zeros.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from maskwright.errors import ModelError
from maskwright.hf.attachment.seats import Seat
from maskwright.hf.interaction.draws import noise_of_pairs
from maskwright.hf.interaction.hard_concrete import chance_open, sampled
from maskwright.hf.interaction.moment import Moment

# The logarithm of a smaller gate would be that of a gate that is closed.
_LEAST = 1e-6


class PairGates(nn.Module):
    """The gates of one attention; a `ScoreGate` of its seat from `install` to `remove`.

    While training they are drawn, one draw of a pair of slots for all samples. In evaluation they
    are 0 or 1: open where log α is at least 0, which is where the expected gate is at least ½.

    Args:
        heads, size: of the attention.
        number, moment, start: as of `HeadGates`; ``start`` is b at the beginning.
        rank: r.
        generator: of U and V at the beginning.

    Attributes:
        recording: whether to keep what was open in a pass of evaluation.
        kept: that, ``(batch, heads, q, kv)`` Boolean.
    """

    def __init__(
        self,
        heads: int,
        size: int,
        number: int,
        moment: Moment,
        start: float,
        rank: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        shape = (heads, size, rank)
        self.of_query = nn.Parameter(torch.randn(shape, generator=generator) * size**-0.5)
        self.of_key = nn.Parameter(torch.randn(shape, generator=generator) * size**-0.5)
        self.bias = nn.Parameter(torch.full((heads,), start))
        self.number, self.moment = number, moment
        self.recording = False
        self.kept: Tensor | None = None
        self._open: tuple[Tensor, Tensor] | None = None
        self._seat: list[Seat] = []

    def install(self, seat: Seat) -> None:
        """Put the gates on a seat."""
        self._seat = [seat]
        seat.gate = self

    def remove(self) -> None:
        """Take them off; again does nothing more."""
        for seat in self._seat:
            seat.gate = None
        self._seat, self._open, self.kept = [], None, None

    def forward(
        self, query: Tensor, key: Tensor, allowed: Tensor, scores: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """As of `ScoreGate`."""
        of_query = torch.einsum("bhqd,hdr->bhqr", query.float(), self.of_query)
        of_key = torch.einsum("bhkd,hdr->bhkr", key.float(), self.of_key)
        log_alpha = of_query @ of_key.transpose(-1, -2) * self.of_query.shape[-1] ** -0.5
        log_alpha = log_alpha + self.bias[:, None, None]
        if torch.is_grad_enabled():
            # of a pass without gradient, the further loss would have none either
            within = allowed.expand_as(log_alpha)
            chances = chance_open(log_alpha).masked_fill(~within, 0)
            self._open = chances.sum(), within.sum().to(chances)
        if not self.training:
            opened = allowed & (log_alpha >= 0)
            self.kept = opened if self.recording else None
            return opened, None
        moment = self.moment
        _, heads, q, kv = log_alpha.shape
        noise = noise_of_pairs(
            moment.seed, moment.step, self.number, heads, q, kv, log_alpha.device
        )
        gates = sampled(log_alpha, noise)
        return allowed & (gates > 0), gates.clamp(min=_LEAST).log()

    def open_sum(self) -> tuple[Tensor, Tensor]:
        """The expected number of open pairs of the last pass, and how many were allowed.

        Raises:
            ModelError: no pass with gradients went before.
        """
        if self._open is None:
            raise ModelError(
                "The gates of pairs were not computed in a pass with gradients, so how many of "
                "them are open cannot be told: with gradient checkpointing, set "
                'gradient_checkpointing_kwargs={"use_reentrant": False}.'
            )
        return self._open
