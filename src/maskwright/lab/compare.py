"""Trains the same model on the same text under several policies, and says which one won."""

from __future__ import annotations

import datetime
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from maskwright.errors import ConfigError, SaveError
from maskwright.lab.config import Experiment
from maskwright.lab.examples import Example, example_of, report_examples
from maskwright.lab.files import read_json, write_folder, write_json, write_text
from maskwright.lab.fine_tune import TaskJob, is_judged
from maskwright.lab.jobs import plan_jobs
from maskwright.lab.machine import machine, versions
from maskwright.lab.phrases import phrases_for
from maskwright.lab.pool import Event, Shared, run_all
from maskwright.lab.preparation import Prepared, prepare
from maskwright.lab.results import overall_verdict, regime_results
from maskwright.lab.run import RUN_FILE, Job, settings_in
from maskwright.lab.section import Section
from maskwright.lab.tasks import (
    PreparedTask,
    plan_tasks,
    prepare_tasks,
    regime_tasks,
    task_facts,
)
from maskwright.lab.work import Work, finished
from maskwright.vocabulary import Vocabulary

RESULTS_FILE = "results.json"
FORMAT = "maskwright.results/1"
EXPERIMENT_FILE = "experiment.yaml"


class Watcher:
    """What `compare` tells while it works; the command line shows it, a script may ignore it."""

    def note(self, text: str) -> None: ...
    def begin(self, jobs: list[Work], done: set[str]) -> None: ...
    def event(self, event: Event) -> None: ...
    def end(self) -> None: ...


def compare(
    experiment: Experiment, out: Path, *, command: str = "", watcher: Watcher | None = None
) -> dict[str, Any]:
    """Runs what is not yet there under ``out``, and writes ``results.json``.

    An interrupted comparison goes on where it stopped: a run whose ``run.json`` is there, made with
    the same settings, is not repeated.

    Returns:
        the results, as in the file.

    Raises:
        ConfigError: ``out`` holds runs made with other settings, or files of somebody else.
        SaveError: something cannot be written.
    """
    watcher = watcher or Watcher()
    make_folder(out)
    tasks = prepare_tasks(experiment, say=watcher.note)
    prepared = prepare(experiment, say=watcher.note)
    warmups, runs = plan_jobs(experiment, prepared, out)
    judged = plan_tasks(experiment, tasks, [*warmups, *runs])
    jobs: list[Work] = [*warmups, *runs, *judged]
    done = _done([*warmups, *runs], judged)
    write_text(out / EXPERIMENT_FILE, to_yaml(experiment))
    write_folder(out / "tokenizer", prepared.tokenizer.save_pretrained)
    watcher.begin(jobs, done)
    try:
        run_all(
            jobs,
            done,
            Shared(
                out / "tokenizer",
                prepared.train.path,
                prepared.held_out.path,
                experiment.model_dump(mode="json"),
            ),
            workers=experiment.workers,
            tell=watcher.event,
        )
    finally:
        watcher.end()
    results = _results(experiment, prepared, warmups, runs, tasks, judged, command)
    write_json(out / RESULTS_FILE, results)
    return results


def _done(runs: list[Job], judged: list[TaskJob]) -> set[str]:
    """The names of what was finished before; what judges a run counts only with the run."""
    done = {job.name: job.result for job in runs if is_done(job)}
    results = set(done.values())
    return {*done, *(job.name for job in judged if job.needs in results and is_judged(job))}


def is_done(job: Work) -> bool:
    """Whether the job was finished before.

    Raises:
        ConfigError: its folder holds a run, finished or only begun, with other settings.
    """
    if finished(job) is not None:
        return True
    folder = job.result.parent
    old = settings_in(folder)
    if old is not None and old != job.spec:
        changed = ", ".join(_changed(old, job.spec)) if old else "what is not recorded"
        raise ConfigError(
            f"{folder} holds a run made with other settings ({changed}). Choose another folder "
            "with --out, or delete this one to train again."
        )
    return False


def _changed(old: Any, new: Any, path: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted({*old, *new})
        return [
            name
            for key in keys
            for name in _changed(old.get(key), new.get(key), f"{path}.{key}" if path else key)
        ]
    return [] if old == new else [path]


def _results(
    experiment: Experiment,
    prepared: Prepared,
    warmups: list[Job],
    runs: list[Job],
    tasks: list[PreparedTask],
    judged: list[TaskJob],
    command: str,
) -> dict[str, Any]:
    by_name: dict[str, Any] = {job.name: read_json(job.folder / RUN_FILE) for job in runs}
    regimes = [
        regime_results(
            experiment,
            regime,
            {
                policy: [by_name[f"{regime.name}/{policy}/seed-{s}"] for s in experiment.seeds]
                for policy in experiment.policies
            },
        )
        | {"tasks": regime_tasks(experiment, regime, judged)}
        for regime in experiment.regimes
    ]
    warm = [read_json(job.folder / RUN_FILE) for job in warmups]
    seconds = sum(run["cost"]["seconds"] for run in [*warm, *by_name.values()])
    vocabulary = Vocabulary.from_tokenizer(prepared.tokenizer)
    now = datetime.datetime.now(datetime.UTC)
    return {
        "format": FORMAT,
        "created": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "command": command or " ".join(sys.argv),
        "versions": versions(),
        "machine": {
            **machine(),
            "threads_per_run": experiment.threads,
            "workers": experiment.workers,
        },
        "experiment": experiment.model_dump(mode="json"),
        "model": {
            "name": experiment.model.name,
            "parameters": next(iter(by_name.values()))["parameters"],
        },
        **prepared.facts,
        "warmup": warmup_facts(experiment, warm),
        "tasks": task_facts(tasks, judged),
        "regimes": regimes,
        "examples": report_examples(
            {
                name: policy.masking(phrases_for(policy, prepared.train, vocabulary))
                for name, policy in experiment.policies.items()
            },
            _example(experiment, prepared, runs),
            prepared.tokenizer,
            seed=experiment.seeds[0],
        ),
        "verdict": overall_verdict(regimes),
        "seconds": seconds,
    }


def _example(experiment: Experiment, prepared: Prepared, runs: list[Job]) -> Example:
    """Scores are those of the first seed in the last regime, which sees its text most often."""
    regime, seed = experiment.regimes[-1].name, experiment.seeds[0]
    by_name = {job.name: job for job in runs}
    jobs = {
        name: by_name[f"{regime}/{name}/seed-{seed}"]
        for name, policy in experiment.policies.items()
        if policy.guided is not None
    }
    ids = next(iter(jobs.values())).ids if jobs else np.empty(0, np.int64)
    guided = {name: (job.folder, experiment.policies[name]) for name, job in jobs.items()}
    return example_of(prepared, guided, ids)


def warmup_facts(experiment: Experiment, runs: list[dict[str, Any]]) -> dict[str, Any] | None:
    """What the results say of the stage that all policies share."""
    if experiment.warmup is None:
        return None
    policy = experiment.warmup.policy.masking()
    return {
        "steps": experiment.warmup.steps,
        "policy": f"{policy.refresh}, rate {policy.rate}",
        "runs": [{"seed": run["spec"]["seed"], "final": run["final"]} for run in runs],
    }


def to_yaml(experiment: Section) -> str:
    """The experiment as a file that `maskwright compare FILE.yaml` reads."""
    return yaml.safe_dump(experiment.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def make_folder(out: Path) -> None:
    """Makes the folder of a comparison.

    Raises:
        ConfigError: it holds files of somebody else.
        SaveError: it cannot be made.
    """
    ours = ("tokenizer", "warmup", "runs", RESULTS_FILE, "report.html")
    strangers = [name for name in ours if (out / name).exists()]
    if strangers and not (out / EXPERIMENT_FILE).is_file():
        raise ConfigError(
            f"{out} is not the folder of a comparison (it has no {EXPERIMENT_FILE}), and its "
            f"{' and '.join(strangers)} would be overwritten. Choose another folder with --out."
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SaveError(
            f"The folder {out} cannot be made: {error.strerror}. Choose another with --out."
        ) from None
