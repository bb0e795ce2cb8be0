"""What happens to a selected unit: masked, replaced, kept, deleted, or one token in its place.

Acts mix by weight: ``0.8 * Mask() + 0.1 * Random() + 0.1 * Keep()``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from maskwright.corruption.plan import Action
from maskwright.errors import PolicyError


@dataclass(frozen=True)
class Act:
    """One thing that can happen to a selected token."""

    code: ClassVar[Action]

    @property
    def parts(self) -> tuple[tuple[float, Act], ...]:
        return ((1.0, self),)

    def __rmul__(self, weight: float) -> Mixture:
        return Mixture(((float(weight), self),))

    def __add__(self, other: Act | Mixture) -> Mixture:
        return Mixture(self.parts + other.parts)

    def __str__(self) -> str:
        return type(self).__name__.lower()


class Mask(Act):
    """The mask token takes its place."""

    code = Action.MASK


class Random(Act):
    """A token drawn uniformly takes its place: never a special, padding, mask or unused one."""

    code = Action.RANDOM


class Keep(Act):
    """It stays, and must be predicted all the same."""

    code = Action.KEEP


class Delete(Act):
    """It disappears without a trace (token deletion of BART, 1910.13461, section 2.2)."""

    code = Action.DELETE


class Sentinel(Act):
    """A sentinel of its own takes the place of each unit, or of each run of adjacent tokens.

    T5, 1910.10683, section 3.1.4: ``<extra_id_0>`` for the first of a sample, and so on.
    """

    code = Action.SENTINEL


class Infill(Act):
    """One mask token takes the place of each unit, however long (BART, 1910.13461, section 2.2)."""

    code = Action.INFILL


@dataclass(frozen=True)
class Mixture:
    """Acts with their shares, one of them drawn for each selected token.

    The shares of a complete mixture sum to 1; `Masking` checks it.
    """

    parts: tuple[tuple[float, Act], ...]

    def __post_init__(self) -> None:
        for share, act in self.parts:
            if not 0 <= share <= 1:
                raise PolicyError(f"The share of {act} must be from 0 to 1, got {share}.")

    def __add__(self, other: Act | Mixture) -> Mixture:
        return Mixture(self.parts + other.parts)

    def __str__(self) -> str:
        return " + ".join(f"{share:g} {act}" for share, act in self.parts)


ACTS: dict[str, type[Act]] = {
    "mask": Mask,
    "random": Random,
    "keep": Keep,
    "delete": Delete,
    "sentinel": Sentinel,
    "infill": Infill,
}

# BERT's shares (1810.04805, section 3.1).
BERT_ACTS = 0.8 * Mask() + 0.1 * Random() + 0.1 * Keep()


def complete(act: Act | Mixture) -> Act | Mixture:
    """The act itself, once its shares are seen to sum to 1."""
    total = sum(share for share, _ in act.parts)
    if abs(total - 1) > 1e-9:
        raise PolicyError(f"The shares of the act must sum to 1, got {act} = {total:g}.")
    return act
