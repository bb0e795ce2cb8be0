"""The learning rate of a step: a pure function of the step and of how much of the budget is spent.

Progress is a share of whatever the budget is in: steps, epochs, or time. A schedule that ends at
zero ends there when the budget does, so a run of 20 minutes is whole after 20 minutes.
"""

from __future__ import annotations

import math

COOLDOWN = 0.15


def factor(scheduler: str, step: int, warmup: int, progress: float) -> float:
    """What the highest learning rate is multiplied with.

    Args:
        scheduler: ``cosine`` and ``linear`` go to zero with progress. ``inverse-sqrt`` falls with
            the root of the step (Vaswani et al., 1706.03762, section 5.3), and over the last 15%
            of the budget along a line to zero, without which its last steps stay noisy.
        step: from 0.
        warmup: steps in which it rises from zero along a line.
        progress: share of the budget that is spent, from 0 to 1.

    >>> [factor("linear", step, 2, step / 4) for step in range(5)]
    [0.5, 0.75, 0.5, 0.25, 0.0]
    """
    progress = min(max(progress, 0.0), 1.0)
    rising = min(1.0, (step + 1) / warmup) if warmup else 1.0
    if scheduler == "cosine":
        return rising * 0.5 * (1 + math.cos(math.pi * progress))
    if scheduler == "linear":
        return rising * (1 - progress)
    if scheduler == "inverse-sqrt":
        falling = math.sqrt(max(warmup, 1) / max(step + 1, warmup, 1))
        return rising * falling * min(1.0, (1 - progress) / COOLDOWN)
    return rising  # constant
