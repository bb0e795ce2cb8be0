"""From finished runs to the results file: means, intervals, paired differences, verdicts."""

from __future__ import annotations

from typing import Any

import numpy as np

from maskwright.evaluation.statistics import CONFIDENCE, Interval, interval, verdict
from maskwright.lab.config import Experiment, Regime
from maskwright.lab.matched import matched_differences, on_processor
from maskwright.lab.reached import steps_to_reach
from maskwright.lab.same_masks import same_masks

METRICS = {"loss": True, "accuracy": False}  # is lower better?
# What is shown as 0: of losses in nats, of accuracies.
_LEAST = {"loss": 0.0005, "accuracy": 0.00005}
_SUMS = {"loss": "loss", "accuracy": "correct"}


def regime_results(
    experiment: Experiment, regime: Regime, runs: dict[str, list[dict[str, Any]]]
) -> dict[str, Any]:
    """The results of one regime.

    Args:
        runs: for each policy, its runs in the order of the seeds.
    """
    first = runs[experiment.reference][0]
    differences = [
        _difference(name, experiment.reference, metric, runs)
        for name in experiment.policies
        if name != experiment.reference
        for metric in METRICS
    ]
    return {
        "name": regime.name,
        "title": regime.title or regime.name,
        "explanation": regime.explanation,
        "tokens": first["spec"]["samples"]["tokens"],
        "epochs": first["history"][-1]["epoch"],
        "steps": first["steps"],
        "reference": experiment.reference,
        "policies": [
            _policy(name, experiment.policies[name].description, runs[name])
            for name in experiment.policies
        ],
        "differences": differences,
        "matched": matched_differences(experiment.reference, runs),
        "reached": steps_to_reach(experiment.reference, runs),
        "same_masks": same_masks(experiment.policies, runs),
        "verdict": regime_verdict(experiment.reference, differences, len(experiment.seeds)),
    }


def _policy(name: str, description: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    loss = interval(_sums(runs, "loss"), _counts(runs))
    accuracy = interval(_sums(runs, "accuracy"), _counts(runs))
    perplexity = Interval(float(np.exp(loss.mean)), _exp(loss.low), _exp(loss.high))
    costs = [run["cost"] for run in runs]
    return {
        "name": name,
        "description": description,
        "runs": [
            {
                "seed": run["spec"]["seed"],
                "history": run["history"],
                "training": run["training"],
                "timing": run.get("timing", []),  # of runs of an older version there is none
                "final": run["final"],
                "cost": run["cost"],
            }
            for run in runs
        ],
        "summary": {
            "loss": vars(loss),
            "perplexity": vars(perplexity),
            "accuracy": vars(accuracy),
        },
        "cost": {key: float(np.mean([cost[key] for cost in costs])) for key in costs[0]}
        | _processor_time(runs),
    }


def _processor_time(runs: list[dict[str, Any]]) -> dict[str, float]:
    """Of a whole run; nothing where it is not known, or was not where the work was done."""
    if not all(on_processor(run) and run["timing"] for run in runs):
        return {}
    return {"cpu_seconds": float(np.mean([run["timing"][-1]["cpu_seconds"] for run in runs]))}


def _exp(bound: float | None) -> float | None:
    return None if bound is None else float(np.exp(bound))


def _difference(
    name: str, reference: str, metric: str, runs: dict[str, list[dict[str, Any]]]
) -> dict[str, Any]:
    sums = _sums(runs[name], metric) - _sums(runs[reference], metric)
    counts = _counts(runs[name])
    found = interval(sums, counts)
    per_seed = [float(row.sum() / counts.sum()) for row in sums]
    return {
        "policy": name,
        "reference": reference,
        "metric": metric,
        "per_seed": per_seed,
        **vars(found),
        "confidence": CONFIDENCE,
        "verdict": verdict(found, per_seed, lower_is_better=METRICS[metric], least=_LEAST[metric]),
    }


def _sums(runs: list[dict[str, Any]], metric: str) -> np.ndarray:
    """``(S, D)``."""
    return np.array([run["documents"][_SUMS[metric]] for run in runs], np.float64)


def _counts(runs: list[dict[str, Any]]) -> np.ndarray:
    """``(D,)``; the same for every run, since the masks are frozen."""
    return np.array(runs[0]["documents"]["count"], np.float64)


def regime_verdict(reference: str, differences: list[dict[str, Any]], seeds: int) -> str:
    """One sentence on held-out loss, which may be that there is no difference."""
    clause = _clause(differences)
    if not clause:
        return f"Only {reference} was run."
    note = " (one seed: no verdict is possible)" if seeds < 2 else ""
    return f"Held-out loss against {reference}: {clause}{note}."


def overall_verdict(regimes: list[dict[str, Any]]) -> str:
    """The verdicts of all regimes as one sentence."""
    if len(regimes) == 1 or not regimes[0]["differences"]:
        return regimes[0]["verdict"]
    parts = [
        f"{regime['title'][0].lower()}{regime['title'][1:]}: {_clause(regime['differences'])}"
        for regime in regimes
    ]
    few = len(regimes[0]["policies"][0]["runs"]) < 2
    note = " (one seed: no verdict is possible)" if few else ""
    return f"Held-out loss against {regimes[0]['reference']}: {'; '.join(parts)}{note}."


def _clause(differences: list[dict[str, Any]]) -> str:
    """``static (+2.614) is worse, high-rate (−0.010) shows no difference``."""
    by_verdict: dict[str, list[str]] = {"worse": [], "better": [], "no difference": []}
    for difference in differences:
        if difference["metric"] == "loss":
            size = f"{difference['mean']:+.3f}".replace("-", "−")
            size = "0.000" if size[1:] == "0.000" else size  # no direction, no sign
            by_verdict[difference["verdict"]].append(f"{difference['policy']} ({size})")
    if len(by_verdict["no difference"]) == sum(map(len, by_verdict.values())) > 1:
        return f"no difference for {_list(by_verdict['no difference'])}"
    verbs = {"worse": "be worse", "better": "be better", "no difference": "show no difference"}
    forms = {"be": ("is", "are"), "show": ("shows", "show")}
    parts = []
    for word, names in by_verdict.items():
        if names:
            verb, _, rest = verbs[word].partition(" ")
            parts.append(f"{_list(names)} {forms[verb][len(names) > 1]} {rest}")
    return ", ".join(parts)


def _list(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
