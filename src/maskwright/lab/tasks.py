"""Which fine-tunings an experiment consists of, and what its results say of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from maskwright.data.labelled import Examples, Labelled
from maskwright.data.tasks import load_labelled
from maskwright.errors import DataError
from maskwright.evaluation.classification import METRICS, difference, estimate, per_seed
from maskwright.evaluation.statistics import CONFIDENCE, verdict
from maskwright.lab.config import Experiment, Regime
from maskwright.lab.files import read_json
from maskwright.lab.fine_tune import TaskJob
from maskwright.lab.run import Job
from maskwright.lab.task import NEW_RATE, PRETRAINED_RATE, Task

START = "warm-up only"  # the row of the shared start; no policy can have this name


class PreparedTask:
    """The data of a task: where they are from, and the examples that are used."""

    def __init__(self, settings: Task, source: Labelled) -> None:
        self.settings = settings
        self.source = source
        self.examples: Examples = source.draw(settings.train, settings.test)


def prepare_tasks(
    experiment: Experiment, *, say: Callable[[str], None] = lambda _: None
) -> list[PreparedTask]:
    """Loads the data of every task, before anything is trained.

    Raises:
        DataError: they cannot be had, or are too few; the message names the task.
    """
    prepared = []
    for task in experiment.tasks:
        try:
            source = load_labelled(
                task.source,
                only=task.only,
                text_column=task.text_column,
                label_column=task.label_column,
            )
            prepared.append(PreparedTask(task, source))
        except DataError as error:
            raise DataError(f"Task {task.name}: {error}") from None
        for note in source.notes:
            say(f"Task {task.name}: {note}")
    return prepared


def plan_tasks(
    experiment: Experiment, tasks: Iterable[PreparedTask], runs: Iterable[Job]
) -> list[TaskJob]:
    """A fine-tuning of every run, warm-ups included, on every task."""
    jobs = [(run, task) for run in runs for task in tasks]
    return [_job(experiment, run, task) for run, task in jobs]


def _job(experiment: Experiment, run: Job, task: PreparedTask) -> TaskJob:
    usual = NEW_RATE if experiment.model.pretrained is None else PRETRAINED_RATE
    settings = task.settings
    spec = {
        "run": run.spec,
        "settings": {
            "epochs": settings.epochs,
            "batch_size": settings.batch_size,
            "learning_rate": settings.learning_rate or usual,
            "max_length": settings.max_length or experiment.data.max_length,
        },
        "examples": task.examples.fingerprint,
    }
    name = f"{run.name} on {settings.name}"
    return TaskJob(name, settings.name, run.folder, spec, task.examples)


def task_facts(tasks: Iterable[PreparedTask], jobs: Iterable[TaskJob]) -> list[dict[str, Any]]:
    """What the results say of the tasks themselves."""
    settings = {job.task: job.spec["settings"] for job in jobs}
    return [
        {
            "name": task.settings.name,
            "source": task.source.name,
            "licence": task.source.licence,
            "labels": list(task.examples.labels),
            "train": len(task.examples.train),
            "test": len(task.examples.test),
            "majority": task.examples.majority,
            "fingerprint": task.examples.fingerprint,
            "notes": list(task.source.notes),
            **settings[task.settings.name],
        }
        for task in tasks
    ]


def regime_tasks(
    experiment: Experiment, regime: Regime, jobs: Iterable[TaskJob]
) -> list[dict[str, Any]]:
    """The results of one regime: for each task every policy, and the warm-up without any."""
    results = {job.name: read_json(job.result) for job in jobs}
    runs = {name: f"{regime.name}/{name}" for name in experiment.policies}
    if experiment.warmup is not None:
        runs[START] = "warmup"
    return [
        _task_results(
            experiment.reference,
            task.name,
            {
                name: [results[f"{run}/seed-{seed} on {task.name}"] for seed in experiment.seeds]
                for name, run in runs.items()
            },
        )
        for task in experiment.tasks
    ]


def _task_results(
    reference: str, task: str, results: dict[str, list[dict[str, Any]]]
) -> dict[str, Any]:
    truth = np.array(results[reference][0]["truth"])
    answers = {name: np.array([one["answers"] for one in of]) for name, of in results.items()}
    return {
        "name": task,
        "reference": reference,
        "policies": [
            {
                "name": name,
                "summary": {metric: vars(estimate(metric, truth, said)) for metric in METRICS},
                "per_seed": {metric: per_seed(metric, truth, said) for metric in METRICS},
                "cost": {
                    "seconds": float(np.mean([one["cost"]["seconds"] for one in results[name]]))
                },
            }
            for name, said in answers.items()
        ],
        "differences": [
            _difference(metric, name, reference, truth, answers)
            for name in answers
            if name != reference
            for metric in METRICS
        ],
    }


def _difference(
    metric: str, name: str, reference: str, truth: np.ndarray, answers: dict[str, np.ndarray]
) -> dict[str, Any]:
    found, seeds = difference(metric, truth, answers[name], answers[reference])
    return {
        "policy": name,
        "reference": reference,
        "metric": metric,
        "per_seed": seeds,
        **vars(found),
        "confidence": CONFIDENCE,
        "verdict": verdict(found, seeds, lower_is_better=False),
    }
