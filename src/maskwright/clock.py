"""Clock: where training is. It travels with each batch and keys its randomness."""

from __future__ import annotations

from dataclasses import dataclass

from maskwright.errors import ConfigError, ScheduleError


@dataclass(frozen=True)
class Clock:
    """The moment a batch is drawn for.

    Args:
        seed: the run's masking seed; any integer of 64 bits.
        epoch: how often the data set was passed before, from 0. ``None``: not known, which is
            an error only for a policy that asks.
        step: the optimizer step, from 0. ``None``: not known.
        total_steps: the steps of the whole run; needed by schedules only.

    >>> Clock(seed=1, epoch=2, step=50, total_steps=200).progress
    0.25
    """

    seed: int = 0
    epoch: int | None = 0
    step: int | None = 0
    total_steps: int | None = None

    def __post_init__(self) -> None:
        for name in ("epoch", "step"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ConfigError(f"Clock.{name} counts from 0, got {value}.")
        if self.total_steps is not None and self.total_steps < 1:
            raise ConfigError(f"Clock.total_steps must be at least 1, got {self.total_steps}.")

    @property
    def progress(self) -> float:
        """The share of training that is done, from 0 to 1."""
        if self.total_steps is None or self.step is None:
            raise ScheduleError(
                "A schedule needs to know how far training is, but the clock has "
                f"step={self.step} and total_steps={self.total_steps}. MaskingTrainer sets both; "
                "elsewhere give them to ClockedSampler(batch_size=…, total_steps=…)."
            )
        return min(1.0, self.step / self.total_steps)
