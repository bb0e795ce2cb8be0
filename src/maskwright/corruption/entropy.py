"""How varied the selected tokens of a plan are: a number to log, which falls when guidance narrows
to a few words."""

from __future__ import annotations

import numpy as np

from maskwright.corruption.plan import MaskPlan


def selection_entropy(plan: MaskPlan) -> float:
    """The Shannon entropy, in nats, of the vocabulary ids among the selected tokens.

    0 where they are all the same id, or there are none; ``ln K`` where all ``K`` differ. It grows
    with ``K``, so compare plans of as many tokens: with that of `Tokens` at the same rate on the
    same batch, or with the same run's some epochs before.
    """
    values = plan.batch.tokens.values[plan.positions]
    if not len(values):
        return 0.0
    shares = np.unique(values, return_counts=True)[1] / len(values)
    return float(np.abs(np.sum(shares * np.log(shares))))
