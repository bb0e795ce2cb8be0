"""Trains one model under one policy on all the training text; `from_pretrained` loads it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from maskwright.errors import ConfigError, unknown
from maskwright.lab.compare import Watcher, is_done
from maskwright.lab.config import Experiment, Regime
from maskwright.lab.files import read_json
from maskwright.lab.guided import SCORES
from maskwright.lab.jobs import plan_jobs
from maskwright.lab.pool import Event
from maskwright.lab.preparation import prepare
from maskwright.lab.run import CHECKPOINTS, RUN_FILE, Job, execute, settings_in
from maskwright.lab.settings import known_policies

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
        policy: one of its policies, or of those that any experiment may name.
        epochs, steps: the budget; one epoch unless given.

    Raises:
        ConfigError: the policy is unknown, or ``out`` holds something else.
        SaveError: something cannot be written.
    """
    watcher = watcher or Watcher()
    policies = {**known_policies(), **experiment.policies}
    if policy not in policies:
        raise ConfigError(unknown("policy", policy, policies))
    _check_budget(epochs, steps)
    check_folder(out)
    prepared = prepare(experiment, say=watcher.note)
    # it has the machine to itself, and evaluate must use as many threads again
    threads = experiment.threads * experiment.workers
    single = experiment.model_copy(
        update={
            "policies": {policy: policies[policy]},
            "warmup": None,
            "seeds": (seed,),
            "threads": threads,
            "workers": 1,
            "regimes": (
                Regime(
                    name="all",
                    tokens=int(prepared.train.lengths.sum()),
                    epochs=None if steps is not None else epochs or 1.0,
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
    if is_done(job):
        watcher.note(f"{out} is trained already; delete it to train again.")
        return read_json(out / RUN_FILE)
    torch.set_num_threads(threads)
    watcher.begin([job], set())

    def tell(step: int, loss: float | None) -> None:
        watcher.event(Event(job, step, loss))

    try:
        return _execute(job, prepared, tell)
    finally:
        watcher.end()


def _execute(job: Job, prepared: Any, tell: Any) -> dict[str, Any]:
    return execute(job, prepared.train, prepared.tokenizer, prepared.evaluation, tell)


def _check_budget(epochs: float | None, steps: int | None) -> None:
    if epochs is not None and steps is not None:
        raise ConfigError(f"The budget is either epochs or steps, got {epochs:g} and {steps}.")
    if not (epochs is None or 0 < epochs < float("inf")) or not (steps is None or steps > 0):
        given = f"epochs={epochs:g}" if steps is None else f"steps={steps}"
        raise ConfigError(f"The budget must be above zero, got {given}.")


def check_folder(out: Path) -> None:
    """Training replaces its folder, so nothing else may be in it."""
    if not out.exists():
        return
    if not out.is_dir():
        raise ConfigError(f"{out} is a file. Choose a new folder with --out.")
    found = {entry.name for entry in out.iterdir()}
    ours = settings_in(out)
    # a finished model may have been given a README; what was only begun holds nothing else
    if found and not ours and not _only_begun(out, found):
        strangers = ", ".join(sorted(found)[:3])
        raise ConfigError(
            f"{out} holds other things ({strangers}). Choose a new folder with --out."
        )
    if found - {CHECKPOINTS} and RUN_FILE not in found:
        strangers = ", ".join(sorted(found - {CHECKPOINTS})[:3])
        raise ConfigError(
            f"{out} holds an unfinished training, and other things ({strangers}), which its end "
            "would delete. Move them away, or choose a new folder with --out."
        )


def _only_begun(out: Path, found: set[str]) -> bool:
    """Interrupted before the first checkpoint was whole."""
    return found == {CHECKPOINTS} and all(
        entry.name.startswith("checkpoint-") or entry.name == SCORES
        for entry in (out / CHECKPOINTS).iterdir()
    )
