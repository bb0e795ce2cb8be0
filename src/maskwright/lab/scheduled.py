"""What the schedules of a policy say at a step, for the log of a run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from maskwright.clock import Clock
from maskwright.corruption import Above, Masking
from maskwright.corruption.rate import SampledRate, TwoPointRate, rate_at
from maskwright.schedule import value_at


def scheduled(masking: Any, clock: Clock) -> dict[str, float]:
    """Of a policy with `Above`, its ``threshold`` and ``probability``; of others nothing.

    The rule is ``score > threshold and u < probability``; the threshold may be one of ranks, of
    standard scores or of scores.
    """
    if not isinstance(masking, Masking):
        return {}
    above = next((part for part in _parts(masking.select) if isinstance(part, Above)), None)
    if above is None:
        return {}
    found = {"threshold": float(value_at(above.threshold, clock))}
    if not isinstance(masking.rate, SampledRate | TwoPointRate):
        found["probability"] = float(rate_at(masking.rate, clock))
    return found


def _parts(select: Any) -> Iterator[Any]:
    """A select and all that it is made of."""
    yield select
    for field in fields(select) if is_dataclass(select) else ():
        value = getattr(select, field.name)
        for part in value if isinstance(value, list | tuple) else [value]:
            if is_dataclass(part):
                yield from _parts(part)
