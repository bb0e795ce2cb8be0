"""When the loss jumps, guidance steps aside: masks by chance for a while.

Which batches that holds for must not depend on how far ahead workers read. So it begins so late
that no batch of it can have been read when it is decided, and each batch tells by its own clock
whether it is meant.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field
from typing import Any

from maskwright.errors import ConfigError

#: Steps between two looks at the losses.
EVERY = 8
#: Steps between a look and the first batch that it can change.
AHEAD = 24
_KEPT = 64  # losses that the median is of
_LEAST = 16


@dataclass
class Spikes:
    """The rule ``loss > factor × median of the last 64 losses``, and what follows from it.

    Args:
        factor: above 1; None: no rule.
        pause: steps by chance; rounded up to whole epochs where batches do not know their step.

    Attributes:
        losses: the last ones, the newest last.
        first, last: the steps by chance, the last not included; -1 without.
        epoch: the epoch by chance, where steps are not known; -1 without.
    """

    factor: float | None = None
    pause: int = 100
    losses: list[float] = field(default_factory=list)
    first: int = -1
    last: int = -1
    epoch: int = -1

    def __post_init__(self) -> None:
        if self.factor is not None and not 1 < self.factor < math.inf:
            raise ConfigError(
                f"spike={self.factor!r}: how many times the median loss is a spike; above 1."
            )
        if self.pause < 1:
            raise ConfigError(f"pause={self.pause!r}: it is a number of steps, at least 1.")

    def see(self, step: int, epoch: int, loss: float) -> bool:
        """Take the loss of a step; whether it was a spike."""
        spiked = self._is_spike(loss)
        if math.isfinite(loss):
            self.losses = [*self.losses, loss][-_KEPT:]
        if spiked:
            # the look that notices is at the next multiple of EVERY, or before
            first = (step // EVERY + 1) * EVERY + AHEAD
            if first > self.last:  # not one that is on, or about to be
                self.first, self.last = first, first + self.pause
            else:
                self.last = max(self.last, first + self.pause)
            self.epoch = epoch + 1
        return spiked

    def _is_spike(self, loss: float) -> bool:
        if self.factor is None or len(self.losses) < _LEAST:
            return False
        return not math.isfinite(loss) or loss > self.factor * statistics.median(self.losses)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {name: getattr(self, name) for name in ("losses", "first", "last", "epoch")}

    def restore(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
