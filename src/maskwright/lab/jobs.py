"""Which runs an experiment consists of."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from maskwright.data.subset import Subset, portions
from maskwright.data.tokenizer import tokenizer_fingerprint
from maskwright.lab.config import Experiment, Policy, Regime
from maskwright.lab.preparation import Prepared
from maskwright.lab.run import Job


def plan_jobs(experiment: Experiment, prepared: Prepared, out: Path) -> tuple[list[Job], list[Job]]:
    """The shared warm-ups, one per seed (none without a warm-up), and the runs that are compared.

    Warm-up and regimes train on disjoint parts of the training text.

    Raises:
        ConfigError: there is not enough text.
    """
    warmup, regimes = experiment.warmup, experiment.regimes
    per_step = experiment.training.batch_size * experiment.data.max_length
    budgets = [regime.tokens for regime in regimes]
    if warmup is not None:
        budgets.insert(0, warmup.steps * per_step)
    parts = portions(prepared.train, budgets)
    maker = _Maker(experiment, prepared, out)
    warmups: list[Job] = []
    if warmup is not None:
        text = parts.pop(0)
        warmups = [
            maker.warmup(seed, warmup.policy, warmup.steps, text) for seed in experiment.seeds
        ]
    starts = {job.seed: job for job in warmups}
    runs = [
        maker.run(regime, name, policy, seed, text, starts.get(seed))
        for seed in experiment.seeds
        for regime, text in zip(regimes, parts, strict=True)
        for name, policy in experiment.policies.items()
    ]
    return warmups, runs


class _Maker:
    def __init__(self, experiment: Experiment, prepared: Prepared, out: Path) -> None:
        self.experiment = experiment
        self.prepared = prepared
        self.out = out
        self.common = {
            "data": {
                "tokenizer": tokenizer_fingerprint(prepared.tokenizer),
                "corpus": prepared.corpus.fingerprint,
                "max_length": experiment.data.max_length,
            },
            "model": experiment.model.model_dump(mode="json"),
            "threads": experiment.threads,
            "evaluation": {
                **experiment.evaluation.model_dump(mode="json"),
                "fingerprint": prepared.evaluation.fingerprint,
            },
        }

    def warmup(self, seed: int, policy: Policy, steps: int, text: Subset) -> Job:
        # The warm-up holds its rate: the decay to zero belongs to the end of training.
        training = {
            **self.experiment.training.model_dump(mode="json"),
            "lr_scheduler": "constant_with_warmup",
        }
        return self._job(
            f"warmup/seed-{seed}", seed, policy, training, text, None, steps=steps, epochs=None
        )

    def run(
        self,
        regime: Regime,
        name: str,
        policy: Policy,
        seed: int,
        text: Subset,
        start: Job | None,
    ) -> Job:
        training = self.experiment.training.model_dump(mode="json")
        name = f"runs/{regime.name}/{name}/seed-{seed}"
        budget = {"steps": regime.steps, "epochs": regime.epochs}
        return self._job(name, seed, policy, training, text, start, **budget)

    def _job(
        self,
        name: str,
        seed: int,
        policy: Policy,
        training: dict[str, Any],
        text: Subset,
        start: Job | None,
        *,
        steps: int | None,
        epochs: float | None,
    ) -> Job:
        ids = np.asarray(text.ids)
        spec = {
            **self.common,
            "seed": seed,
            "policy": policy.model_dump(mode="json", exclude={"description"}),
            "training": training,
            "samples": {"number": len(ids), "tokens": text.tokens, "first": ids[:3].tolist()},
            "budget": {"steps": steps, "epochs": epochs},
            "start": None if start is None else start.spec,
        }
        per_epoch = math.ceil(len(ids) / self.experiment.training.batch_size)
        total = steps if steps is not None else math.ceil((epochs or 1) * per_epoch)
        return Job(
            name.removeprefix("runs/"),
            self.out / name,
            spec,
            None if start is None else start.folder,
            _findable(self.experiment.data.model_dump(mode="json")),
            self.prepared.train.path,
            ids,
            total,
            steps,
            epochs,
        )


def _findable(data: dict[str, Any]) -> dict[str, Any]:
    """A file stays where it is when somebody evaluates from another folder."""
    path = Path(data["source"]).expanduser()
    return {**data, "source": str(path.absolute())} if path.exists() else data
