"""How many steps a policy needs to get to where the reference ended."""

from __future__ import annotations

from typing import Any

import numpy as np

Run = dict[str, Any]


def steps_to_reach(reference: str, runs: dict[str, list[Run]]) -> list[dict[str, Any]]:
    """Steps until held-out loss is first as low as the reference's last, paired by seed.

    A learning curve is read between its points along straight lines, as `matched_differences` does.
    The reference itself is in the list: where its loss had been as low before, it needs fewer
    steps than it took.

    Args:
        runs: for each policy, its runs in the order of the seeds.

    Returns:
        for each policy: ``per_seed`` (``None`` where it never got there), ``reached`` (of how many
        seeds it did), ``steps``: their mean, ``None`` unless all did; a mean over those alone that
        got there would flatter.
    """
    found = []
    for name, own in runs.items():
        per_seed = [
            _first(run["history"], theirs["history"][-1]["loss"])
            for run, theirs in zip(own, runs[reference], strict=True)
        ]
        known = [steps for steps in per_seed if steps is not None]
        found.append(
            {
                "policy": name,
                "reference": reference,
                "per_seed": per_seed,
                "reached": len(known),
                "steps": float(np.mean(known)) if len(known) == len(per_seed) else None,
            }
        )
    return found


def _first(history: list[dict[str, Any]], loss: float) -> float | None:
    before: dict[str, Any] | None = None
    for point in history:
        if point["loss"] <= loss:
            if before is None:
                return float(point["step"])
            share = (before["loss"] - loss) / (before["loss"] - point["loss"])
            return before["step"] + share * (point["step"] - before["step"])
        before = point
    return None
