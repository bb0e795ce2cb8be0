"""Whether one system translates better than another: bootstrap over sentences, and over seeds.

Both systems are judged on the same resampled sentences, so that what makes a sentence hard for
both cancels: the paired bootstrap of Koehn 2004 ("Statistical significance tests for machine
translation evaluation").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from maskwright.errors import ConfigError, DataError
from maskwright.evaluation.statistics import CONFIDENCE, Interval, Statistic, crossed
from maskwright.evaluation.translation.counts import METRICS, References, sentence_counts

RESAMPLES = 1000
SEED = 12_345  # sacrebleu's own


@dataclass(frozen=True)
class Paired:
    """Two systems by one metric.

    Args:
        system, baseline: their scores.
        difference: system minus baseline, with the percentile interval of the resamples.
        p_value: two-sided: how often resamples differ from their mean difference by at least as
            much as the systems do (Riezler and Maxwell 2005), counted as sacrebleu does; 1 for
            systems that translate alike.
        wins: share of the resamples in which the system has the higher score.
    """

    system: float
    baseline: float
    difference: Interval
    p_value: float
    wins: float


def paired_bootstrap(
    system: Sequence[str],
    baseline: Sequence[str],
    references: References,
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> dict[str, Paired]:
    """Compare two systems on the same sentences; ``{"bleu": Paired, "chrf": Paired}``.

    Args:
        system, baseline: ``D`` translations each; differences are system minus baseline.
        references: ``D`` lists of one or more texts.

    Raises:
        DataError: the three are not of the same sentences, or there are fewer than two.
    """
    if resamples < 1:
        raise ConfigError(f"resamples must be at least 1, got {resamples}; 1,000 is usual.")
    counts = [sentence_counts(texts, references)[0] for texts in (system, baseline)]
    sentences = len(references)
    _check_enough(sentences)
    draws = np.random.default_rng(seed).choice(sentences, (resamples, sentences))
    weights = _weights(draws, sentences)
    found = {}
    for name, metric in METRICS.items():
        ours, theirs = (metric(weights @ side[name]) for side in counts)
        score, reference = (float(metric(side[name].sum(axis=0))) for side in counts)
        differences = ours - theirs
        edge = (1 - CONFIDENCE) / 2
        low, high = np.quantile(differences, [edge, 1 - edge])
        spread = np.abs(differences)
        more = int((spread - spread.mean() >= abs(score - reference)).sum())
        found[name] = Paired(
            system=score,
            baseline=reference,
            difference=Interval(score - reference, float(low), float(high)),
            p_value=(more + 1) / (resamples + 1),
            wins=float((differences > 0).mean()),
        )
    return found


@dataclass(frozen=True)
class OverSeeds:
    """Two ways of training by one metric, over several seeds.

    Args:
        difference: mean of system minus baseline, with an interval over seeds and sentences at
            once; `maskwright.evaluation.statistics.verdict` reads it.
        per_seed: the difference of each seed.
    """

    difference: Interval
    per_seed: list[float]


def difference_over_seeds(
    systems: Sequence[Sequence[str]], baselines: Sequence[Sequence[str]], references: References
) -> dict[str, OverSeeds]:
    """Compare two ways of training that were each run with the same ``S`` seeds.

    Args:
        systems, baselines: ``S`` runs of ``D`` translations; run *s* of both had the same seed.
        references: ``D`` lists of one or more texts.

    Raises:
        DataError: the numbers of runs differ, or the translations are not of the same sentences.
    """
    if len(systems) != len(baselines) or not systems:
        raise DataError(
            f"{len(systems)} runs and {len(baselines)} runs of the baseline: give one of each for "
            "every seed, in the same order."
        )
    _check_enough(len(references))
    counts = [
        [sentence_counts(texts, references)[0] for texts in runs] for runs in (systems, baselines)
    ]
    found = {}
    for name, metric in METRICS.items():
        ours, theirs = (np.stack([run[name] for run in runs]) for runs in counts)
        per_seed = metric(ours.sum(axis=1)) - metric(theirs.sum(axis=1))
        difference = crossed(_mean_difference(metric, ours, theirs), *ours.shape[:2])
        found[name] = OverSeeds(difference, per_seed.tolist())
    return found


def _mean_difference(
    metric: Callable[[np.ndarray], np.ndarray], ours: np.ndarray, theirs: np.ndarray
) -> Statistic:
    """Of counts ``(S, D, K)`` of both: the mean over seeds of the difference of their scores."""

    def mean(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        weights = _weights(columns, ours.shape[1])
        scores = metric(_sums(weights, ours)) - metric(_sums(weights, theirs))
        return np.take_along_axis(scores, rows, axis=-1).mean(axis=-1)

    return mean


def _weights(draws: np.ndarray, sentences: int) -> np.ndarray:
    """How often each sentence was drawn: ``(…, D)`` of draws ``(…, D)``.

    Floats, for a fast product; sums of counts are integers below 2⁵³, so they stay exact.
    """
    flat = draws.reshape(-1, draws.shape[-1])
    weights = np.zeros((len(flat), sentences))
    for row, drawn in zip(weights, flat, strict=True):
        row += np.bincount(drawn, minlength=sentences)
    return weights.reshape(*draws.shape[:-1], sentences)


def _sums(weights: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """``(…, S, K)``: of weights ``(…, D)``, the counts ``(S, D, K)`` of each run summed."""
    runs, sentences, width = counts.shape
    flat = counts.transpose(1, 0, 2).reshape(sentences, runs * width)
    return (weights @ flat).reshape(*weights.shape[:-1], runs, width)


def _check_enough(sentences: int) -> None:
    if sentences < 2:
        raise DataError(
            f"{sentences} sentence cannot be resampled. Compare systems on at least two; a few "
            "hundred are needed to see a difference."
        )
