"""Schedules: pure functions of training progress, for rates and other settings of a policy.

A schedule maps progress in [0, 1] to a value. Where a policy takes a rate, it takes a schedule.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from maskwright.clock import Clock
from maskwright.errors import ScheduleError


@runtime_checkable
class Schedule(Protocol):
    """Anything that maps progress in [0, 1] to a value."""

    def __call__(self, progress: float) -> float: ...


@dataclass(frozen=True)
class Constant:
    """The same value always."""

    value: float

    def __call__(self, progress: float) -> float:
        return self.value


@dataclass(frozen=True)
class Linear:
    """A straight line from ``start`` to ``end``.

    The decay of 30% to 15% of Yang et al. 2023 (2305.15096) is ``Linear(0.30, 0.15)``.
    """

    start: float
    end: float

    def __call__(self, progress: float) -> float:
        return _between(self.start, self.end, self.start + (self.end - self.start) * progress)


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from ``start`` to ``end``: flat at both ends."""

    start: float
    end: float

    def __call__(self, progress: float) -> float:
        value = self.end + (self.start - self.end) * 0.5 * (1 + math.cos(math.pi * progress))
        return _between(self.start, self.end, value)


@dataclass(frozen=True)
class Step:
    """``values[i]`` from ``boundaries[i - 1]`` on.

    >>> rate = Step(values=(0.15, 0.30, 0.40), boundaries=(0.5, 0.9))
    >>> rate(0.0), rate(0.5), rate(1.0)
    (0.15, 0.3, 0.4)
    """

    values: tuple[float, ...]
    boundaries: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.values) != len(self.boundaries) + 1:
            raise ScheduleError(
                f"Step needs one value more than boundaries, got {len(self.values)} values and "
                f"{len(self.boundaries)} boundaries."
            )
        if list(self.boundaries) != sorted(set(self.boundaries)) or not all(
            0 < boundary < 1 for boundary in self.boundaries
        ):
            raise ScheduleError(
                f"Step boundaries must rise inside (0, 1), got {self.boundaries}: they are shares "
                "of the run, not steps."
            )

    def __call__(self, progress: float) -> float:
        return self.values[sum(progress >= boundary for boundary in self.boundaries)]


@dataclass(frozen=True)
class WarmupHoldDecay:
    """From ``start`` to ``peak`` during ``warmup``, then held, then to ``end`` during ``decay``.

    ``warmup`` and ``decay`` are shares of the run.
    """

    start: float
    peak: float
    end: float
    warmup: float
    decay: float

    def __post_init__(self) -> None:
        if self.warmup < 0 or self.decay < 0 or self.warmup + self.decay > 1:
            raise ScheduleError(
                "WarmupHoldDecay: warmup and decay are shares of the run, at least 0 and together "
                f"at most 1; got {self.warmup} and {self.decay}."
            )

    def __call__(self, progress: float) -> float:
        if progress < self.warmup:
            value = self.start + (self.peak - self.start) * progress / self.warmup
            return _between(self.start, self.peak, value)
        if progress > 1 - self.decay:
            value = self.peak + (self.end - self.peak) * (progress - 1 + self.decay) / self.decay
            return _between(self.peak, self.end, value)
        return self.peak


def _between(one: float, other: float, value: float) -> float:
    """``value``, brought back where rounding took it past an end: a rate below 0 is no rate."""
    return min(max(value, min(one, other)), max(one, other))


def value_at(setting: float | Schedule, clock: Clock) -> float:
    """The value of a number or of a schedule at a moment."""
    if isinstance(setting, Constant):
        return setting.value
    if isinstance(setting, Schedule):
        return setting(clock.progress)
    return setting
