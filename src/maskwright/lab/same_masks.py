"""Policies that draw the same masks and differ in how a step is computed: how far they drift."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

from maskwright.lab.policy import Policy

Run = dict[str, Any]


def same_masks(
    policies: Mapping[str, Policy], runs: Mapping[str, list[Run]]
) -> list[dict[str, Any]]:
    """The largest difference of held-out loss between the learning curves of such policies.

    Runs of a seed have the same initial weights, samples and masks. Whatever ``mask_aware`` says, a
    step has the same loss and gradients up to rounding, so what their curves differ by is what
    rounding grows to over the run.

    Args:
        runs: for each policy, its runs in the order of the seeds.

    Returns:
        for each pair: ``policies``, ``largest`` in nats, over all seeds and points, ``seed`` and
        ``step`` where it is, ``per_seed``, and ``final``: of the last point, over all seeds.
    """
    found = []
    for one, other in combinations(policies, 2):
        alike = _masks_of(policies[one]) == _masks_of(policies[other])
        if alike and policies[one].mask_aware != policies[other].mask_aware:
            gaps = [_gaps(a, b) for a, b in zip(runs[one], runs[other], strict=True)]
            largest, seed, step = max(
                (gap, run["spec"]["seed"], step)
                for run, points in zip(runs[one], gaps, strict=True)
                for step, gap in points
            )
            found.append(
                {
                    "policies": [one, other],
                    "metric": "loss",
                    "largest": largest,
                    "seed": seed,
                    "step": step,
                    "per_seed": [max(gap for _, gap in points) for points in gaps],
                    "final": max(points[-1][1] for points in gaps),
                }
            )
    return found


def _masks_of(policy: Policy) -> dict[str, Any]:
    return policy.model_dump(mode="json", exclude={"description", "mask_aware"})


def _gaps(one: Run, other: Run) -> list[tuple[int, float]]:
    """Steps, and how far the losses are apart there; the points are the same for both."""
    return [
        (a["step"], abs(a["loss"] - b["loss"]))
        for a, b in zip(one["history"], other["history"], strict=True)
    ]
