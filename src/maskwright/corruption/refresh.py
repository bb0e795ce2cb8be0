"""When the choice is drawn again.

A refresh turns the clock into one integer, the refresh key. Two moments with the same key have the
same masks, and that is all that static, dynamic and rotating masks differ in.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from maskwright.clock import Clock
from maskwright.errors import PolicyError, unknown


@runtime_checkable
class Refresh(Protocol):
    """Maps the clock to the refresh key, at least 0.

    `Coverage` also says which draws it takes at this moment; all others take those below the rate.
    """

    def key(self, clock: Clock) -> int: ...


@dataclass(frozen=True)
class Static:
    """Drawn once and never again (Devlin et al. 2018, with one copy of the data)."""

    def key(self, clock: Clock) -> int:
        return 0

    def __str__(self) -> str:
        return "static"


@dataclass(frozen=True)
class Dynamic:
    """Drawn anew every epoch (RoBERTa, 1907.11692, section 4.1). Epoch 0 is the static draw."""

    def key(self, clock: Clock) -> int:
        return _epoch(clock, self)

    def __str__(self) -> str:
        return "dynamic"


@dataclass(frozen=True)
class Rotating:
    """One of ``draws`` fixed draws, in turn by epoch.

    BERT wrote its data ten times with ten masks, so that in 40 epochs each mask was seen four
    times (RoBERTa, 1907.11692, section 4.1): ``Rotating(10)``.
    """

    draws: int

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise PolicyError(f"Rotating: draws must be at least 1, got {self.draws}.")

    def key(self, clock: Clock) -> int:
        return _epoch(clock, self) % self.draws

    def __str__(self) -> str:
        return f"rotating-{self.draws}"


@dataclass(frozen=True)
class EverySteps:
    """Drawn anew every ``steps`` optimizer steps."""

    steps: int

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise PolicyError(f"EverySteps: steps must be at least 1, got {self.steps}.")

    def key(self, clock: Clock) -> int:
        if clock.step is None:
            raise PolicyError(
                f"The refresh {self} needs the optimizer step, and the batch does not carry it. "
                "Use MaskingTrainer, or a ClockedSampler in a DataLoader of your own."
            )
        return clock.step // self.steps

    def __str__(self) -> str:
        return f"every-{self.steps}-steps"


@dataclass(frozen=True)
class Coverage:
    """Without replacement: what was not yet masked comes first.

    One draw serves ``ceil(1 / rate)`` epochs. In epoch ``j`` of them a unit is selected where its
    uniform draw lies in ``[j * rate, (j + 1) * rate)``, so after them every unit was selected
    exactly once; then a new draw begins. It is computed from the clock: nothing is stored.
    """

    rate: float

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 1:
            raise PolicyError(
                f"Coverage.rate is the share of one epoch, above 0 and at most 1; got {self.rate}."
            )

    @property
    def turns(self) -> int:
        """Epochs until every unit was selected once."""
        return math.ceil(round(1 / self.rate, 9))

    def key(self, clock: Clock) -> int:
        return _epoch(clock, self) // self.turns

    def window(self, clock: Clock) -> tuple[float, float]:
        """The draws that are selected at this moment."""
        turn = _epoch(clock, self) % self.turns
        last = turn == self.turns - 1  # ends at 1 whatever the rate was rounded to
        return turn * self.rate, 1.0 if last else (turn + 1) * self.rate

    def __str__(self) -> str:
        return f"coverage-{self.rate:g}"


def _epoch(clock: Clock, refresh: object) -> int:
    if clock.epoch is None:
        raise PolicyError(
            f"The refresh {refresh} needs the epoch, and the batch does not carry it. Use "
            "MaskingTrainer; or a ClockedSampler in a DataLoader of your own; or, in a plain "
            "Trainer, callbacks=[ClockCallback(collator)]."
        )
    return clock.epoch


def parse_refresh(text: str) -> Refresh:
    """``static``, ``dynamic``, ``rotating-10``, ``every-1000-steps`` or ``coverage-0.15``.

    >>> parse_refresh("rotating-10")
    Rotating(draws=10)
    """
    if text == "static":
        return Static()
    if text == "dynamic":
        return Dynamic()
    if match := re.fullmatch(r"rotating-(\d+)", text):
        return Rotating(int(match[1]))
    if match := re.fullmatch(r"coverage-(0?\.\d+|1|1\.0)", text):
        return Coverage(float(match[1]))
    if match := re.fullmatch(r"every-(\d+)-steps", text):
        return EverySteps(int(match[1]))
    raise PolicyError(
        unknown(
            "refresh", text, ["static", "dynamic", "rotating-N", "every-N-steps", "coverage-RATE"]
        )
    )
