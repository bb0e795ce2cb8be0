"""Rates that differ from sample to sample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from maskwright import randomness
from maskwright.batch import TokenBatch
from maskwright.clock import Clock
from maskwright.corruption.selection import eligible
from maskwright.errors import PolicyError
from maskwright.schedule import Constant, Schedule, value_at
from maskwright.vocabulary import Vocabulary


@dataclass(frozen=True)
class SampledRate:
    """A rate drawn for each sample, uniformly from ``low`` to ``high``.

    With independent draws it is the time ``t ~ U(0, 1)`` of masked diffusion (MDLM, 2406.07524,
    equation 10). With ``exact=True``, rates from 0 to 1 give each number of tokens from
    ``at_least`` to all the same chance; with ``at_least=1`` that is the conditional masked language
    model (1904.09324, section 3.1).
    """

    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        check_rate(self.low)
        check_rate(self.high)
        if self.low > self.high:
            raise PolicyError(f"SampledRate: low {self.low} is above high {self.high}.")

    def __str__(self) -> str:
        return f"U({self.low:g}, {self.high:g})"


@dataclass(frozen=True)
class TwoPointRate:
    """The distance of two uniform points, drawn for each sample: density ``2 (1 - x)``.

    With one span at a uniform place it cuts the sample at two uniform points, as fill-in-the-middle
    does (2207.14255, section 3).
    """

    def __str__(self) -> str:
        return "|U - U'|"


Rate = float | Schedule | SampledRate | TwoPointRate


def check_rate(rate: object) -> None:
    """Raises `PolicyError` unless ``rate`` is a share."""
    # not (0 <= NaN <= 1) holds too
    if not isinstance(rate, int | float) or not 0 <= rate <= 1:
        raise PolicyError(f"A mask rate is a share from 0 to 1, got {rate!r}. 15% is 0.15.")


def check_setting(rate: object) -> None:
    """Checks what can be checked before the clock is known."""
    if isinstance(rate, SampledRate | TwoPointRate):
        return
    if isinstance(rate, Constant):
        rate = rate.value
    if not isinstance(rate, Schedule):
        check_rate(rate)


def rates_of(rate: Rate, batch: TokenBatch, clock: Clock, run_key: int) -> np.ndarray:
    """The rate of each sample at a moment, ``(B,)`` float64."""
    if isinstance(rate, SampledRate | TwoPointRate):
        keys = randomness.sample_keys(run_key, batch.sample_ids, randomness.RATE)
        draws = randomness.mix_array(keys + np.uint64(randomness.GAMMA)) >> np.uint64(11)
        uniforms = draws.astype(np.float64) * 2.0**-53
        if isinstance(rate, TwoPointRate):
            return 1 - np.sqrt(uniforms)  # its distribution function is 1 - (1 - x)**2
        return rate.low + (rate.high - rate.low) * uniforms
    return np.full(len(batch), rate_at(rate, clock))


def rate_at(rate: Rate, clock: Clock) -> float:
    """The rate that all samples share at a moment: of a number or a schedule.

    Raises:
        PolicyError: it is none from 0 to 1.
    """
    # a number is the usual case, and asking whether it is a schedule takes longer than the rest
    if isinstance(rate, float):
        value = rate
    else:
        assert not isinstance(rate, SampledRate | TwoPointRate)
        value = value_at(rate, clock)
    check_rate(value)
    return value


def whole_rates(
    rate: Rate, rates: np.ndarray, batch: TokenBatch, vocabulary: Vocabulary, at_least: int
) -> np.ndarray:
    """The rates under an exact budget, ``(B,)`` float64.

    Rounding a rate of U(0, 1) by chance gives none and all of the ``m`` tokens half the chance of
    any other number. So there it is a fraction ``k / m`` with uniform ``k``; other rates stay.
    """
    if rate != SampledRate():
        return rates
    allowed = eligible(batch, vocabulary)
    many = np.bincount(batch.tokens.rows[allowed], minlength=len(batch))
    least = np.minimum(at_least, many)
    # the product may be rounded up to what it must stay below
    drawn = np.minimum(np.floor(rates * (many - least + 1)), many - least)
    return (least + drawn) / np.maximum(many, 1)
