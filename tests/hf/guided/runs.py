"""Short guided runs of tiny models, plain and ours, and what the models saw in them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from transformers import Trainer, TrainerCallback

from maskwright import recipe
from maskwright.guidance import ScoreStore
from maskwright.hf import Guidance, MaskingCollator, MaskingTrainer, with_sample_ids
from tests.core import tokenizers
from tests.hf import tiny
from tests.hf.seen import View, views

ROWS = tiny.samples(24)
LENGTHS = np.array([len(row["input_ids"]) for row in ROWS])
TRAINERS = ("plain", "ours")


@dataclass
class Run:
    """What came of a run: the rows that the model saw, step by step, and the logged losses."""

    trainer: Any
    store: ScoreStore
    guidance: Guidance
    seen: list[View] = field(default_factory=list)

    @property
    def losses(self) -> list[float]:
        return [entry["loss"] for entry in self.trainer.state.log_history if "loss" in entry]

    @property
    def scores(self) -> np.ndarray:
        return self.store.read(np.arange(len(self.store))).values

    def selected(self) -> list[tuple[tuple[int, ...], tuple[bool, ...]]]:
        """Original tokens and which were selected, of each row that was seen."""
        return [
            (
                tuple(t if label == -100 else label for t, label in zip(*view, strict=True)),
                tuple(label != -100 for label in view[1]),
            )
            for view in self.seen
        ]


class Broken(Exception):
    """The run was killed."""


class Kill(TrainerCallback):
    """Raises after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.step:
            raise Broken


def prepare(
    path: Path,
    kind: str = "plain",
    *,
    rows: Any = None,
    policy: Any = "attention-guided",
    epochs: int = 3,
    model: Any = None,
    store: ScoreStore | None = None,
    kill: int | None = None,
    guided: bool = True,
    guidance: dict[str, Any] | None = None,
    collator: dict[str, Any] | None = None,
    evaluated: Any = None,
    **changes: Any,
) -> Run:
    """A run that has not begun; ``path`` is its folder, with a new store unless there is one."""
    rows = ROWS if rows is None else rows
    lengths = np.array([len(row["input_ids"]) for row in rows])
    file = path / "scores.store"
    if store is None:
        store = ScoreStore.open(file) if file.exists() else ScoreStore.create(file, lengths)
    tokenizer = tokenizers.words()
    masking = recipe(policy) if isinstance(policy, str) else policy
    make = MaskingCollator(
        tokenizer, masking, seed=5, scores=store if guided else None,
        **({"carry": True} | (collator or {})),
    )  # fmt: skip
    callback = Guidance(store, **(guidance or {}))
    model = tiny.model() if model is None else model
    arguments = tiny.arguments(
        path / "run", logging_strategy="steps", logging_steps=1, num_train_epochs=epochs, **changes
    )
    kinds = {"plain": Trainer, "ours": MaskingTrainer}
    trainer = kinds[kind](
        model,
        arguments,
        make,
        train_dataset=with_sample_ids(rows),
        eval_dataset=evaluated,
        callbacks=[callback, *([] if kill is None else [Kill(kill)])],
    )
    run = Run(trainer, store, callback)
    inner = trainer.training_step

    def step(model: Any, inputs: Any, *others: Any, **more: Any) -> Any:
        run.seen.extend(views(inputs))
        return inner(model, inputs, *others, **more)

    trainer.training_step = step
    return run


def train(path: Path, kind: str = "plain", *, resume: str | None = None, **others: Any) -> Run:
    """A run from its beginning, or from a checkpoint, to its end."""
    run = prepare(path, kind, **others)
    run.trainer.train(resume_from_checkpoint=resume)
    return run
