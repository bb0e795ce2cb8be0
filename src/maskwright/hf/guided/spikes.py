"""When the loss jumps, or a few words are all that is asked, guidance steps aside: masks by chance
for a while.

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
_STATE = ("losses", "entropies", "first", "last", "epoch")


@dataclass
class Spikes:
    """The rules ``loss > factor × median of the last 64 losses`` and ``mean of the last 64
    selection entropies < floor``, and what follows from them.

    Entropies of the steps up to the end of a pause are not looked at: they are those that it was
    made for, and its own.

    Args:
        factor: above 1; None: no such rule.
        pause: steps by chance; rounded up to whole epochs where batches do not know their step.
        floor: in nats, of the words selected in a step; None: no such rule.

    Attributes:
        losses, entropies: the last ones, the newest last.
        first, last: the steps by chance, the last not included; -1 without.
        epoch: the epoch by chance, where steps are not known; -1 without.
    """

    factor: float | None = None
    pause: int = 100
    floor: float | None = None
    losses: list[float] = field(default_factory=list)
    entropies: list[float] = field(default_factory=list)
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

        if self.floor is not None and not 0 < self.floor < math.inf:
            raise ConfigError(
                f"entropy_floor={self.floor!r}: it is an entropy in nats, above 0. Take a share of "
                "the guidance/entropy that the first epoch, by chance, logs."
            )

    @property
    def active(self) -> bool:
        """Whether there is a rule."""
        return self.factor is not None or self.floor is not None

    @property
    def rules(self) -> str:
        """As they were given to `Guidance`."""
        given = {"spike": self.factor, "entropy_floor": self.floor}
        return ", ".join(f"{name}={value}" for name, value in given.items() if value is not None)

    def see(self, step: int, epoch: int, loss: float) -> bool:
        """Take the loss of a step; whether it was a spike."""
        spiked = self._is_spike(loss)
        if math.isfinite(loss):
            self.losses = [*self.losses, loss][-_KEPT:]
        if spiked:
            self._pause_after(step, epoch)
        return spiked

    def see_entropy(self, step: int, epoch: int, entropy: float) -> bool:
        """Take the entropy of what a step selected; whether the floor was broken."""
        if self.floor is None or step < self.last:
            return False
        self.entropies = [*self.entropies, entropy][-_KEPT:]
        if len(self.entropies) < _LEAST or statistics.fmean(self.entropies) >= self.floor:
            return False
        self.entropies = []
        self._pause_after(step, epoch)
        return True

    def _pause_after(self, step: int, epoch: int) -> None:
        # the look that notices is at the next multiple of EVERY, or before
        first = (step // EVERY + 1) * EVERY + AHEAD
        if first > self.last:  # not one that is on, or about to be
            self.first, self.last = first, first + self.pause
        else:
            self.last = max(self.last, first + self.pause)
        self.epoch = epoch + 1

    def _is_spike(self, loss: float) -> bool:
        if self.factor is None or len(self.losses) < _LEAST:
            return False
        return not math.isfinite(loss) or loss > self.factor * statistics.median(self.losses)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {name: getattr(self, name) for name in _STATE}

    def restore(self, state: dict[str, Any]) -> None:
        for name in _STATE:
            if name in state:  # one of an older version has fewer
                setattr(self, name, state[name])
