"""How long a target is, as the encoder tells it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from maskwright.errors import BatchError, ConfigError


class LengthHead(nn.Module):
    """Predicts how many words more than its source a target has.

    Mask-predict (1904.09324, section 3.1) must know a target's length before its first word, and
    predicts it from the encoder, by a special token of the source. Here it is predicted from the
    mean of the encoder's states, so that any encoder will do, and as a difference to the source's
    length: one class for each from ``-reach`` to ``reach``. What is beyond counts as the last.

    Args:
        width: of the encoder's states.
        reach: the greatest difference, in tokens.
        seed: of the first weights.

    Raises:
        ConfigError: the reach is not a whole number above 0.
    """

    def __init__(self, width: int, reach: int = 64, *, seed: int = 0) -> None:
        super().__init__()
        if isinstance(reach, bool) or not isinstance(reach, int) or reach < 1:
            raise ConfigError(f"reach={reach!r} of LengthHead: it is a whole number, 1 or more.")
        self.reach = reach
        classes: Any = nn.utils.skip_init(nn.Linear, width, 2 * reach + 1)
        self.classes = classes
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            classes.weight.normal_(0.0, 0.02, generator=generator)
            classes.bias.zero_()

    def forward(self, states: Tensor, mask: Tensor | None = None) -> Tensor:
        """``(B, 2 · reach + 1)`` logits.

        Args:
            states: ``(B, S, H)`` of the encoder.
            mask: ``(B, S)``, 0 at padding; None: there is none.
        """
        if mask is None:
            return self.classes(states.mean(1))
        real = (mask != 0).to(states.dtype).unsqueeze(-1)
        # padding may hold anything
        total = torch.where(real != 0, states, 0.0).sum(1)
        return self.classes(total / real.sum(1).clamp(min=1))

    def loss(self, logits: Tensor, source: Tensor, target: Tensor) -> Tensor:
        """Mean cross-entropy of true lengths, ``()``.

        Args:
            logits: ``(B, 2 · reach + 1)``.
            source: ``(B,)`` tokens of the sources, special ones too.
            target: ``(B,)`` words of the targets: without what begins and ends them.
        """
        return functional.cross_entropy(logits.float(), self.class_of(source, target))

    def class_of(self, source: Tensor, target: Tensor) -> Tensor:
        """``(B,)`` int64: which class a pair of lengths is of."""
        return (target - source).clamp(-self.reach, self.reach) + self.reach

    def likeliest(
        self, logits: Tensor, source: Tensor, beam: int, longest: int
    ) -> tuple[Tensor, Tensor]:
        """The likeliest lengths of each target.

        Args:
            logits: ``(B, 2 · reach + 1)``.
            source: ``(B,)`` tokens of the sources.
            beam: how many lengths, at most.
            longest: no target is longer.

        Returns:
            ``(B, beam)`` int64 lengths from 1, the likeliest first, 0 where there are no more; and
            ``(B, beam)`` their logarithmic probabilities.

        Raises:
            BatchError: of a source no length within reach is possible.
        """
        scores = logits.float().log_softmax(-1)
        differences = torch.arange(-self.reach, self.reach + 1, device=logits.device)
        lengths = source.unsqueeze(1) + differences
        scores = scores.masked_fill((lengths < 1) | (lengths > longest), float("-inf"))
        ordered, at = scores.sort(dim=1, descending=True, stable=True)
        ordered, at = ordered[:, :beam], at[:, :beam]
        if bool((none := ordered[:, 0] == float("-inf")).any()):
            row = int(none.nonzero()[0])
            raise BatchError(
                f"Sample {row}: its source has {int(source[row])} tokens, so that with "
                f"reach={self.reach} its target has {int(source[row]) - self.reach} or more; the "
                f"longest allowed is {longest}. Shorten the source, or give lengths=."
            )
        return lengths.gather(1, at).masked_fill(ordered == float("-inf"), 0), ordered
