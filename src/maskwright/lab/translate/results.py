"""From finished translation runs to the results file: means, intervals, paired differences."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from maskwright.evaluation.statistics import (
    CONFIDENCE,
    Interval,
    Statistic,
    crossed,
    interval,
    verdict,
)
from maskwright.evaluation.translation import difference_over_seeds, paired_bootstrap
from maskwright.evaluation.translation.counts import METRICS as OF_TEXT
from maskwright.evaluation.translation.counts import References, sentence_counts
from maskwright.lab.translate.config import Translation
from maskwright.lab.translate.masks import NONE

Run = dict[str, Any]
# Is lower better? What is shown as 0 is no difference.
METRICS = {"bleu": False, "chrf": False, "loss": True, "exposure": True}
_LEAST = {"bleu": 0.005, "chrf": 0.005, "loss": 0.0005, "exposure": 0.0005}


def translation_results(
    experiment: Translation, runs: Mapping[str, list[Run]], references: References
) -> dict[str, Any]:
    """Every variant and its difference from ``none``, seed by seed.

    Args:
        runs: for each variant, its runs in the order of the seeds.
        references: all of each test sentence.
    """
    judged = {name: _Judged(several, references) for name, several in runs.items()}
    differences = [
        found
        for name in experiment.variants
        if name != NONE
        for found in _differences(name, judged[name], judged[NONE])
    ]
    return {
        "reference": NONE,
        "variants": [
            _variant(name, variant, runs[name], judged[name])
            for name, variant in experiment.variants.items()
        ],
        "differences": differences,
        "bootstrap": _bootstrap(experiment, runs, references),
        "verdict": verdict_sentence(differences, len(experiment.seeds)),
    }


class _Judged:
    """What the runs of a variant were measured by, sentence by sentence.

    Attributes:
        texts: what each run wrote in its first way to write.
        sums: ``(S, D)``: of each seed, loss and exposure of each sentence; none of a model that
            does not write from left to right.
        tokens: ``(D,)``.
    """

    def __init__(self, runs: list[Run], references: References) -> None:
        self.texts = [main_texts(run) for run in runs]
        self.references = references
        self.sums: dict[str, np.ndarray] = {}
        if all(run["sentences"] is not None for run in runs):
            loss, exposed = (
                np.array([run["sentences"][name] for run in runs]) for name in ("loss", "exposed")
            )
            self.sums = {"loss": loss, "exposure": exposed - loss}
            self.tokens = np.array(runs[0]["sentences"]["count"], np.float64)

    def estimates(self) -> dict[str, Interval]:
        """Means over the seeds, each with its interval over seeds and sentences."""
        counts = [sentence_counts(texts, self.references)[0] for texts in self.texts]
        found = {}
        for name, metric in OF_TEXT.items():
            several = np.stack([one[name] for one in counts])
            found[name] = crossed(_mean_score(metric, several), *several.shape[:2])
        return found | {name: interval(sums, self.tokens) for name, sums in self.sums.items()}


def _mean_score(metric: Callable[[np.ndarray], np.ndarray], counts: np.ndarray) -> Statistic:
    """The mean over runs of a score of a corpus, as a statistic of runs and sentences.

    Args:
        counts: ``(S, D, K)``: of each run, what the score of each sentence is made of.
    """

    def mean(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        flat = columns.reshape(-1, columns.shape[-1])
        times = np.stack([np.bincount(one, minlength=counts.shape[1]) for one in flat])
        sums = np.einsum("bd,sdk->bsk", times, counts, optimize=True)
        scores = metric(sums).reshape(*columns.shape[:-1], len(counts))
        return np.take_along_axis(scores, rows, -1).mean(-1)

    return mean


def main_texts(run: Run) -> list[str]:
    """What a run wrote in its first way to write."""
    return next(iter(run["written"].values()))["texts"]


def _differences(name: str, mine: _Judged, theirs: _Judged) -> list[dict[str, Any]]:
    of_text = difference_over_seeds(mine.texts, theirs.texts, mine.references)
    found = {metric: (one.difference, one.per_seed) for metric, one in of_text.items()}
    for metric in mine.sums:
        if metric in theirs.sums:
            sums = mine.sums[metric] - theirs.sums[metric]
            per_seed = [float(row.sum() / mine.tokens.sum()) for row in sums]
            found[metric] = interval(sums, mine.tokens), per_seed
    return [
        {
            "policy": name,
            "reference": NONE,
            "metric": metric,
            "per_seed": per_seed,
            **vars(difference),
            "confidence": CONFIDENCE,
            "verdict": verdict(
                difference, per_seed, lower_is_better=METRICS[metric], least=_LEAST[metric]
            ),
        }
        for metric, (difference, per_seed) in found.items()
    ]


def _variant(name: str, variant: Any, runs: list[Run], judged: _Judged) -> dict[str, Any]:
    costs = [run["cost"] for run in runs]
    summary = {metric: vars(found) for metric, found in judged.estimates().items()}
    if "loss" in summary:
        summary["perplexity"] = {
            key: None if value is None else float(np.exp(value))
            for key, value in summary["loss"].items()
        }
    ways = {
        way: {
            key: float(np.mean([run["written"][way][key] for run in runs]))
            for key, value in written.items()
            if isinstance(value, int | float)
        }
        for way, written in runs[0]["written"].items()
    }
    return {
        "name": name,
        "description": variant.description,
        "on": "decoder" if variant.cross.free else "cross",
        "masks": variant.model_dump(mode="json"),
        "runs": [
            {
                "seed": run["spec"]["seed"],
                "history": run["history"],
                "training": run["training"],
                "timing": run["timing"],
                "final": run["final"],
                "cost": run["cost"],
            }
            for run in runs
        ],
        "summary": summary,
        "written": ways,
        "cost": {key: float(np.mean([cost[key] for cost in costs])) for key in costs[0]},
    }


def _bootstrap(
    experiment: Translation, runs: Mapping[str, list[Run]], references: References
) -> list[dict[str, Any]]:
    """The usual test of one system against another, on the first seed alone (Koehn 2004)."""
    base = main_texts(runs[NONE][0])
    return [
        {"policy": name, "reference": NONE, "seed": experiment.seeds[0]}
        | as_json(paired_bootstrap(main_texts(runs[name][0]), base, references))
        for name in experiment.variants
        if name != NONE
    ]


def as_json(value: Any) -> Any:
    """A result of the evaluation room as plain JSON."""
    if hasattr(value, "__dataclass_fields__"):
        return {name: as_json(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, Mapping):
        return {str(key): as_json(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(one) for one in value]
    return value.item() if isinstance(value, np.generic) else value


def verdict_sentence(differences: list[dict[str, Any]], seeds: int) -> str:
    """One sentence on BLEU, which may be that there is no difference.

    >>> one = {"policy": "span", "metric": "bleu", "mean": -1.23, "verdict": "worse"}
    >>> verdict_sentence([one], 3)
    'BLEU against no mask: span (−1.2) is worse.'
    """
    by_verdict: dict[str, list[str]] = {"better": [], "worse": [], "no difference": []}
    for found in differences:
        if found["metric"] == "bleu":
            size = f"{found['mean']:+.1f}".replace("-", "−")
            size = "0.0" if size[1:] == "0.0" else size  # no direction, no sign
            by_verdict[found["verdict"]].append(f"{found['policy']} ({size})")
    if not any(by_verdict.values()):
        return "Only the model without masks was trained."
    forms = {
        "better": ("is better", "are better"),
        "worse": ("is worse", "are worse"),
        "no difference": ("shows no difference", "show no difference"),
    }
    clauses = [
        f"{_listed(names)} {forms[word][len(names) > 1]}"
        for word, names in by_verdict.items()
        if names
    ]
    note = " (one seed: no verdict is possible)" if seeds < 2 else ""
    return f"BLEU against no mask: {', '.join(clauses)}{note}."


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
