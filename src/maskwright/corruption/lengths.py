"""How long spans are: distributions over 0 … longest, as thresholds that one draw is compared with.

Probabilities are made of sums, products and quotients only, one after another, so that they are
the same to the last bit on every machine (``exp`` and ``pow`` are not).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from maskwright.errors import PolicyError


class Lengths(ABC):
    """A distribution of span lengths."""

    @abstractmethod
    def weights(self) -> list[float]:
        """What the probabilities of 0, 1, … are proportional to."""

    @cached_property
    def probabilities(self) -> np.ndarray:
        """``(longest + 1,)`` float64: of each length from 0."""
        weights = self.weights()
        total = sum(weights)
        return np.array([weight / total for weight in weights])

    @cached_property
    def limits(self) -> np.ndarray:
        """``(longest + 1,)`` uint64: a 53-bit draw means the first length whose limit is above."""
        weights, total, below = self.weights(), 0.0, []
        for weight in weights:
            total += weight
            below.append(total)
        return np.array([round(part / total * (1 << 53)) for part in below], np.uint64)

    @property
    def expected(self) -> float:
        """The mean length."""
        return float(self.probabilities @ np.arange(len(self.probabilities)))


@dataclass(frozen=True)
class Fixed(Lengths):
    """Always the same length."""

    length: int

    def __post_init__(self) -> None:
        _whole("Fixed.length", self.length)

    def weights(self) -> list[float]:
        """All on one."""
        return [0.0] * self.length + [1.0]

    def __str__(self) -> str:
        return f"length {self.length}"


@dataclass(frozen=True)
class Geometric(Lengths):
    """``P(n) ∝ p * (1 - p) ** (n - 1)`` for n from 1 to ``longest``.

    SpanBERT, 1907.10529, section 3.1: p = 0.2 up to 10, renormalised, with mean 3.8.
    """

    p: float = 0.2
    longest: int = 10

    def __post_init__(self) -> None:
        if not 0 < self.p <= 1:
            raise PolicyError(f"Geometric.p must be above 0 and at most 1, got {self.p}.")
        _whole("Geometric.longest", self.longest)

    def weights(self) -> list[float]:
        """Each the share ``1 - p`` of the one before."""
        weights = [0.0, 1.0]
        while len(weights) <= self.longest:
            weights.append(weights[-1] * (1 - self.p))
        return weights

    def __str__(self) -> str:
        return f"geometric({self.p:g}) up to {self.longest}"


@dataclass(frozen=True)
class Poisson(Lengths):
    """``P(n) ∝ mean ** n / n!`` for n from 0 to ``longest``: a span may be empty.

    BART, 1910.13461, section 2.2: mean 3; its code stops at 127 as well. An empty span is a place
    where a mask is put in.
    """

    mean: float = 3.0
    longest: int = 127

    def __post_init__(self) -> None:
        _whole("Poisson.longest", self.longest)
        if not 0 < self.mean <= self.longest:
            raise PolicyError(
                f"Poisson.mean must be above 0 and at most longest={self.longest}, got {self.mean}."
            )

    def weights(self) -> list[float]:
        """Each ``mean / n`` of the one before."""
        weights = [1.0]
        for length in range(1, self.longest + 1):
            weights.append(weights[-1] * self.mean / length)
        return weights

    def __str__(self) -> str:
        return f"poisson({self.mean:g})"


@dataclass(frozen=True)
class Harmonic(Lengths):
    """``P(n) ∝ 1 / n`` for n from 1 to ``longest``.

    N-gram masking: ALBERT, 1909.11942, section 3.1.
    """

    longest: int = 3

    def __post_init__(self) -> None:
        _whole("Harmonic.longest", self.longest)

    def weights(self) -> list[float]:
        """1, 1/2, 1/3, …"""
        return [0.0] + [1 / length for length in range(1, self.longest + 1)]

    def __str__(self) -> str:
        return f"harmonic up to {self.longest}"


def _whole(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise PolicyError(f"{name} counts tokens or words and must be at least 1, got {value!r}.")
