"""Trains one model under one policy on all the training text; `from_pretrained` loads it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from maskwright.errors import ConfigError, unknown
from maskwright.lab.compare import Watcher
from maskwright.lab.config import Experiment, Regime
from maskwright.lab.jobs import plan_jobs
from maskwright.lab.pool import Event
from maskwright.lab.preparation import prepare
from maskwright.lab.run import RUN_FILE, Job, execute, finished

CHECKPOINT_EVERY = 200


def train(
    experiment: Experiment,
    out: Path,
    *,
    policy: str,
    seed: int = 0,
    epochs: float | None = None,
    steps: int | None = None,
    watcher: Watcher | None = None,
) -> dict[str, Any]:
    """Trains from the start (no warm-up stage) and writes the model to ``out``.

    An interrupted training goes on from its last checkpoint; a finished one is not repeated.

    Args:
        experiment: model, data, training settings and policies.
        policy: one of its policies.
        epochs, steps: the budget; one epoch unless given.

    Raises:
        ConfigError: the policy is unknown, or ``out`` holds something else.
    """
    watcher = watcher or Watcher()
    if policy not in experiment.policies:
        raise ConfigError(unknown("policy", policy, experiment.policies))
    if epochs is None and steps is None:
        epochs = 1.0
    _check_folder(out)
    prepared = prepare(experiment, say=watcher.note)
    single = experiment.model_copy(
        update={
            "policies": {policy: experiment.policies[policy]},
            "warmup": None,
            "seeds": (seed,),
            "regimes": (
                Regime(
                    name="all",
                    tokens=int(prepared.train.lengths.sum()),
                    epochs=epochs if steps is None else None,
                    steps=steps,
                ),
            ),
            "training": experiment.training.model_copy(
                update={
                    "checkpoint_every": experiment.training.checkpoint_every or CHECKPOINT_EVERY
                }
            ),
        }
    )
    _, [planned] = plan_jobs(single, prepared, out)
    job = replace(planned, folder=out, name=policy)
    result = finished(job)
    if result is not None:
        watcher.note(f"{out} is trained already; delete it to train again.")
        return result
    if (out / RUN_FILE).is_file():
        raise ConfigError(
            f"{out} holds a model trained with other settings. Choose another folder with --out."
        )
    torch.set_num_threads(experiment.threads * experiment.workers)
    watcher.begin([job], set())

    def tell(step: int, loss: float | None) -> None:
        watcher.event(Event(job, step, loss))

    try:
        return _execute(job, prepared, tell)
    finally:
        watcher.end()


def _execute(job: Job, prepared: Any, tell: Any) -> dict[str, Any]:
    return execute(job, prepared.train, prepared.tokenizer, prepared.evaluation, tell)


def _check_folder(out: Path) -> None:
    """Training replaces its folder, so nothing else may be in it."""
    if not out.exists():
        return
    strangers = [
        entry.name for entry in out.iterdir() if entry.name not in ("checkpoints", RUN_FILE)
    ]
    if strangers and not (out / RUN_FILE).is_file():
        raise ConfigError(
            f"{out} holds other things ({', '.join(sorted(strangers)[:3])}). Choose a new folder "
            "with --out."
        )
