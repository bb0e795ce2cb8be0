"""The share of gates that may stay open, held by an augmented Lagrangian.

With g the expected share of open gates less the budget of the moment, the constraint is g ≤ 0, and
what is added to the loss is::

    (max(0, λ + c g)² - λ²) / 2c,    whose gradient is    max(0, λ + c g) ∇g

After each step the multiplier goes up where the budget is exceeded, and down to 0 where it is not:
λ ← max(0, λ + η g). So the penalty becomes as strong as the budget needs, and no weight of it has
to be tuned.

Source: the augmented Lagrangian of inequalities in Nocedal and Wright, "Numerical Optimization",
section 17.4; a constraint on the expected L0 norm of hard concrete gates, in place of a penalty, in
Gallego-Posada et al., "Controlled Sparsity via Constrained Optimization", 2022 (arXiv:2208.04425).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from maskwright.clock import Clock
from maskwright.errors import ConfigError
from maskwright.schedule import Schedule, value_at


@dataclass(frozen=True)
class GateBudget:
    """How many gates may stay open, and how hard that is held.

    Args:
        share: of the gates, above 0 and at most 1; a number, or a `maskwright.schedule`.
        strength: c, of the penalty, in units of the loss.
        rate: η, by how much the multiplier follows, in units of the loss for each step.

    Raises:
        ConfigError: a number outside its rule.
    """

    share: float | Schedule
    strength: float = 100.0
    rate: float = 0.1

    def __post_init__(self) -> None:
        if not isinstance(self.share, Schedule):
            check_share(self.share)
        for name in ("strength", "rate"):
            value = getattr(self, name)
            if isinstance(value, bool) or not 0 < value < float("inf"):
                raise ConfigError(f"{name}={value!r} of GateBudget: it is a number above 0.")

    def at(self, clock: Clock) -> float:
        """The share that may be open at a moment.

        Raises:
            ConfigError: the schedule gives no share.
        """
        share = value_at(self.share, clock)
        check_share(share)
        return share

    def penalty(self, open_share: Tensor, budget: float, multiplier: Tensor) -> Tensor:
        """What is added to the loss, ``()``."""
        pressed = (multiplier + self.strength * (open_share - budget)).clamp(min=0)
        return (pressed.square() - multiplier.square()) / (2 * self.strength)

    def followed(self, multiplier: Tensor, open_share: Tensor, budget: float) -> Tensor:
        """The multiplier after a step."""
        return torch.clamp(multiplier + self.rate * (open_share - budget), min=0)


def check_share(share: object) -> None:
    """Raises `ConfigError` where it is no share above 0."""
    number = isinstance(share, int | float) and not isinstance(share, bool)
    if not number or not 0 < share <= 1:  # type: ignore[operator]
        raise ConfigError(
            f"budget={share!r}: it is the share of gates that may stay open, above 0 and at most "
            "1, or a schedule of shares such as Linear(1.0, 0.5)."
        )
