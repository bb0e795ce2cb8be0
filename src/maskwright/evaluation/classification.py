"""Accuracy and macro-F1 of classifiers that several seeds trained, with crossed intervals.

Examples take the place of documents. The mean over seeds is judged: of a resample, F1 is computed
for each of its seeds on its examples, and then averaged.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from maskwright.evaluation.statistics import Interval, Statistic, crossed

WRONG = -1  # an answer that is no class: the classifier's output was not finite

Metric = Callable[[np.ndarray, np.ndarray], Statistic]


def accuracy(truth: np.ndarray, answers: np.ndarray) -> Statistic:
    """Share of right answers.

    Args:
        truth: ``(D,)``: the class of each example.
        answers: ``(S, D)``: what the classifier of each seed said.
    """
    right = (answers == truth).astype(np.float64)

    def statistic(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        return right[rows[..., :, None], columns[..., None, :]].mean(axis=(-1, -2))

    return statistic


def macro_f1(truth: np.ndarray, answers: np.ndarray) -> Statistic:
    """The mean over classes of F1, over the classes that the examples have.

    A class that a resample lacks and that nobody answered there does not count in it. Arguments as
    for `accuracy`. For one seed it is scikit-learn's ``f1_score(average="macro")``, with ``labels``
    the classes in ``truth``.
    """
    classes = np.unique(truth)
    true = (truth[:, None] == classes).astype(np.float64)  # (D, C)
    said = (answers[:, :, None] == classes).astype(np.float64)  # (S, D, C)
    right = said * true
    seeds, examples = answers.shape

    def per_example(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """``(S, D, C)`` summed with weights ``(R, D)`` to ``(R, S, C)``."""
        flat = values.transpose(1, 0, 2).reshape(examples, -1)
        return (weights @ flat).reshape(len(weights), seeds, len(classes))

    def statistic(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        shape = rows.shape[:-1]
        rows, columns = rows.reshape(-1, rows.shape[-1]), columns.reshape(-1, columns.shape[-1])
        weights = np.zeros((len(columns), examples))  # how often a resample has an example
        np.add.at(weights, (np.arange(len(columns))[:, None], columns), 1)
        both = (weights @ true)[:, None] + per_example(said, weights)  # F1 = 2 right / both
        with np.errstate(invalid="ignore"):
            f1 = np.where(both > 0, 2 * per_example(right, weights) / both, np.nan)
        found = np.take_along_axis(np.nanmean(f1, axis=-1), rows, axis=1).mean(axis=-1)
        return found.reshape(shape)

    return statistic


METRICS: dict[str, Metric] = {"accuracy": accuracy, "macro_f1": macro_f1}


def estimate(metric: str, truth: np.ndarray, answers: np.ndarray) -> Interval:
    """The mean over seeds, with its interval."""
    return crossed(METRICS[metric](truth, answers), *answers.shape)


def difference(
    metric: str, truth: np.ndarray, mine: np.ndarray, reference: np.ndarray
) -> tuple[Interval, list[float]]:
    """The paired difference from a reference, with its interval, and that of each seed alone.

    Args:
        mine, reference: ``(S, D)``: the answers, seed by seed.
    """
    of_mine, of_reference = METRICS[metric](truth, mine), METRICS[metric](truth, reference)

    def statistic(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        return of_mine(rows, columns) - of_reference(rows, columns)

    seeds, examples = mine.shape
    every = np.arange(examples)
    per_seed = [float(statistic(np.array([seed]), every)) for seed in range(seeds)]
    return crossed(statistic, seeds, examples), per_seed


def per_seed(metric: str, truth: np.ndarray, answers: np.ndarray) -> list[float]:
    """The metric of each seed alone."""
    statistic, every = METRICS[metric](truth, answers), np.arange(answers.shape[1])
    return [float(statistic(np.array([seed]), every)) for seed in range(len(answers))]
