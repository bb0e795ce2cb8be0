"""The clock of batches that carry none: a collator's in a plain `Trainer`."""

from __future__ import annotations

import torch

from maskwright.clock import Clock


class FallbackClock:
    """Epoch and step, in shared memory, so that what `ClockCallback` writes reaches worker
    processes that already run."""

    def __init__(self) -> None:
        self._moment = torch.full((2,), -1, dtype=torch.int64).share_memory_()  # -1 = not known

    def set(self, epoch: int, step: int | None = None) -> None:
        """For this process and its live workers."""
        self._moment[0] = epoch
        self._moment[1] = -1 if step is None else step

    def at(self, seed: int) -> Clock:
        """The moment, with a seed."""
        epoch, step = (None if value < 0 else value for value in self._moment.tolist())
        return Clock(seed, epoch, step)
