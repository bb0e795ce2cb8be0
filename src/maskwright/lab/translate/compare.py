"""Trains the same translation model under several masks, and says which of them helped."""

from __future__ import annotations

import datetime
import os
import sys
from pathlib import Path
from typing import Any

from maskwright.lab.compare import (
    EXPERIMENT_FILE,
    RESULTS_FILE,
    Watcher,
    is_done,
    make_folder,
    to_yaml,
)
from maskwright.lab.files import read_json, write_json, write_text
from maskwright.lab.machine import machine, versions
from maskwright.lab.pool import run_all
from maskwright.lab.run import RUN_FILE
from maskwright.lab.translate.config import Translation, parse_translation
from maskwright.lab.translate.examples import example_translations
from maskwright.lab.translate.jobs import plan_translation
from maskwright.lab.translate.maps import attention_maps
from maskwright.lab.translate.preparation import PreparedPairs, prepare_pairs
from maskwright.lab.translate.results import translation_results
from maskwright.lab.translate.run import TranslationJob, execute

FORMAT = "maskwright.translation/1"


def compare_translation(
    experiment: Translation, out: Path, *, command: str = "", watcher: Watcher | None = None
) -> dict[str, Any]:
    """Runs what is not yet there under ``out``, and writes ``results.json``.

    An interrupted comparison goes on where it stopped, as `maskwright.lab.compare` does.

    Raises:
        ConfigError: ``out`` holds runs made with other settings, or files of somebody else.
        SaveError: something cannot be written.
    """
    watcher = watcher or Watcher()
    make_folder(out)
    prepared = prepare_pairs(experiment, say=watcher.note)
    starts, runs = plan_translation(experiment, prepared, out)
    jobs = [*starts, *runs]
    done = {job.name for job in jobs if is_done(job)}
    write_text(out / EXPERIMENT_FILE, to_yaml(experiment))
    watcher.begin(list(jobs), done)
    try:
        run_all(
            jobs,
            done,
            experiment.model_dump(mode="json"),
            workers=experiment.workers,
            tell=watcher.event,
            begin=open_worker,
            work=work,
        )
    finally:
        watcher.end()
    results = _results(experiment, prepared, starts, runs, command)
    write_json(out / RESULTS_FILE, results)
    return results


def _results(
    experiment: Translation,
    prepared: PreparedPairs,
    starts: list[TranslationJob],
    runs: list[TranslationJob],
    command: str,
) -> dict[str, Any]:
    found = {job.name: read_json(job.folder / RUN_FILE) for job in runs}
    by_variant = {
        name: [found[f"{name}/seed-{seed}"] for seed in experiment.seeds]
        for name in experiment.variants
    }
    first = {name: job for job in runs for name in experiment.variants
             if job.name == f"{name}/seed-{experiment.seeds[0]}"}  # fmt: skip
    one = next(iter(found.values()))
    warm = [read_json(job.folder / RUN_FILE) for job in starts]
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
        "model": {"name": experiment.model.name, "parameters": one["parameters"]},
        **prepared.facts,
        "warmup": None if not starts else {"steps": experiment.warmup},
        "steps": one["steps"],
        "epochs": one["history"][-1]["epoch"],
        "signature": next(iter(one["written"].values()))["signatures"]["bleu"],
        **translation_results(experiment, by_variant, prepared.test.references),
        "examples": example_translations(prepared, by_variant),
        "maps": attention_maps(prepared, first),
        "seconds": sum(run["cost"]["seconds"] for run in [*warm, *found.values()]),
    }


# -- in the worker process ---------------------------------------------------------------

_worker: dict[str, Any] = {}


def open_worker(settings: dict[str, Any], news: Any) -> None:
    """What a worker process opens once."""
    import torch
    import transformers

    from maskwright.worker_process import end_with_parent

    end_with_parent()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    experiment = parse_translation(settings)
    torch.set_num_threads(experiment.threads)
    _worker.update(prepared=prepare_pairs(experiment, progress=False), news=news)


def work(job: TranslationJob) -> None:
    """Does one job in a worker process."""

    def tell(step: int, value: float | None) -> None:
        _worker["news"].put((job.name, step, value))

    execute(job, _worker["prepared"], tell)
