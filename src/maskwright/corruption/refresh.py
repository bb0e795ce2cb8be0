"""When the choice is drawn again.

A refresh turns the clock into one integer, the refresh key. Two moments with the same key have the
same masks, and that is all that static, dynamic and rotating masks differ in.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from maskwright.clock import Clock
from maskwright.errors import PolicyError, unknown


@runtime_checkable
class Refresh(Protocol):
    """Maps the clock to the refresh key, at least 0.

    `Coverage` also says which draws it takes at this moment; all others take those below the rate.
    Under `RollingWindow` each part of a sample has a key of its own.
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


@dataclass(frozen=True)
class RollingWindow:
    """One part of each sample is drawn anew in an epoch, and the rest keeps its masks.

    A sample is cut into tiles of ``width`` tokens, the last one shorter. In epoch ``e`` tile
    ``e mod tiles`` is drawn anew; every other tile keeps the draw of the last epoch in which it was
    its turn, or that of epoch 0, which draws all. A sample of one tile is drawn anew every epoch.

    A tile is drawn as if it were a sample: budgets (``exact``, ``at_least``), ranks and weights of
    scores are those of the tile, so that nothing which happens in one can change another. Words
    belong to the tile of their first token. What goes with it: `Tokens`, `WholeWords`, `Above`,
    `Weighted`, `Cautious` and what is made of them, at rates that do not change, with acts that
    leave tokens where they are.

    With scores, a kept tile must be drawn by the scores that it was drawn by:
    ``ScoreStore.create(…, update_window=width)``.
    """

    width: int

    def __post_init__(self) -> None:
        if not isinstance(self.width, int) or isinstance(self.width, bool) or self.width < 1:
            raise PolicyError(
                f"RollingWindow: width counts tokens and must be at least 1, got {self.width!r}."
            )

    def key(self, clock: Clock) -> int:
        """0: what differs from tile to tile, and from turn to turn, is in the ids of the tiles."""
        self.epoch(clock)
        return 0

    def epoch(self, clock: Clock) -> int:
        """Whose turn it is."""
        return _epoch(clock, self)

    def tiles(self, lengths: np.ndarray) -> np.ndarray:
        """How many tiles samples of these lengths have, int64; none where there are no tokens."""
        return -(-lengths // self.width)

    def inside(self, places: np.ndarray, lengths: np.ndarray, epoch: int) -> np.ndarray:
        """Whether tokens at these places of samples of these lengths are drawn anew in an epoch,
        where no words move the edges; ``(N,)`` bool."""
        return places // self.width == epoch % np.maximum(self.tiles(lengths), 1)

    def __str__(self) -> str:
        return f"window-{self.width}"


def _epoch(clock: Clock, refresh: object) -> int:
    if clock.epoch is None:
        raise PolicyError(
            f"The refresh {refresh} needs the epoch, and the batch does not carry it. Use "
            "MaskingTrainer; or a ClockedSampler in a DataLoader of your own; or, in a plain "
            "Trainer, callbacks=[ClockCallback(collator)]."
        )
    return clock.epoch


def parse_refresh(text: str) -> Refresh:
    """``static``, ``dynamic``, ``rotating-10``, ``every-1000-steps``, ``coverage-0.15`` or
    ``window-512``.

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
    if match := re.fullmatch(r"window-(\d+)", text):
        return RollingWindow(int(match[1]))
    known = ["static", "dynamic", "rotating-N", "every-N-steps", "coverage-RATE", "window-N"]
    raise PolicyError(unknown("refresh", text, known))
