"""Policies at the same expense: as many predicted tokens, or as much time, as the reference.

Runs of a seed take as many steps, but a step does not predict as many tokens under each policy,
nor take as long. So each pair is also compared where the one that spends less ends; the other's
learning curve is read there, between its points. That one has not brought its learning rate down
as far, which counts against it: where expenses differ much, this is a bound and no verdict.

Seconds are processor seconds where every run recorded them and trained on the CPU: another program
that takes the processor away then does not count. Elsewhere, as where a GPU does the work, they are
those of the wall's clock.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import t

from maskwright.evaluation.statistics import CONFIDENCE, Interval, verdict

EXPENSES = ("predicted tokens", "seconds")

Run = dict[str, Any]


def matched_differences(reference: str, runs: dict[str, list[Run]]) -> list[dict[str, Any]]:
    """Held-out loss of each policy minus the reference's, paired by seed, at the same expense.

    Args:
        runs: for each policy, its runs in the order of the seeds.

    Returns:
        for each policy and expense: ``by``, ``clock`` (``processor`` or ``wall`` for seconds),
        ``spent`` (mean over seeds), and what a difference has; its interval is Student's, of seeds
        alone. Nothing where runs did not record it.
    """
    processor = all(on_processor(run) for several in runs.values() for run in several)
    keys = {"predicted tokens": "predicted", "seconds": "cpu_seconds" if processor else "seconds"}
    clocks = {"seconds": {"clock": "processor" if processor else "wall"}}
    return [
        found | clocks.get(by, {})
        for name in runs
        if name != reference
        for by in EXPENSES
        if (found := _difference(name, reference, by, keys[by], runs)) is not None
    ]


def on_processor(run: Run) -> bool:
    """Whether all work of a run was the processor's, and was measured as such."""
    timing = run.get("timing", [])
    return run.get("device") == "cpu" and all("cpu_seconds" in point for point in timing)


def _difference(
    name: str, reference: str, by: str, key: str, runs: dict[str, list[Run]]
) -> dict[str, Any] | None:
    spent, per_seed = [], []
    for mine, theirs in zip(runs[name], runs[reference], strict=True):
        one, other = _curve(mine, key), _curve(theirs, key)
        if one is None or other is None:
            return None
        at = min(one[0][-1], other[0][-1])
        spent.append(at)
        per_seed.append(float(np.interp(at, *one) - np.interp(at, *other)))
    found = _interval(np.array(per_seed))
    return {
        "policy": name,
        "reference": reference,
        "metric": "loss",
        "by": by,
        "spent": float(np.mean(spent)),
        "per_seed": per_seed,
        **vars(found),
        "confidence": CONFIDENCE,
        "verdict": verdict(found, per_seed, lower_is_better=True),
    }


def _interval(per_seed: np.ndarray) -> Interval:
    """Student's, over the seeds: at points of a curve no losses of single documents are kept."""
    mean, many = float(per_seed.mean()), len(per_seed)
    if many < 2:
        return Interval(mean, None, None)
    half = float(t.ppf((1 + CONFIDENCE) / 2, many - 1) * per_seed.std(ddof=1) / np.sqrt(many))
    return Interval(mean, mean - half, mean + half)


def _curve(run: Run, key: str) -> tuple[list[float], list[float]] | None:
    """Expense and loss at each point of the learning curve."""
    history = run["history"]
    kept = history if key == "predicted" else run.get("timing", [])
    points = [point[key] for point in kept if key in point]
    if len(points) != len(history):
        return None
    return points, [point["loss"] for point in history]
