"""One training run: a model, a policy, a seed, a text; its learning curve and its scores."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PrinterCallback, TrainerCallback, TrainingArguments

from maskwright.data.subset import Subset
from maskwright.errors import ModelError
from maskwright.evaluation.heldout import HeldOut, Scores
from maskwright.hf import MaskingCollator, MaskingTrainer
from maskwright.lab.config import Model, Policy, Training
from maskwright.lab.files import read_json, saving, write_folder, write_json
from maskwright.lab.model import build_model, load_model

RUN_FILE = "run.json"
CHECKPOINTS = "checkpoints"
_RECORD_FILE = "record.json"

# Called with the step, and with the held-out loss where it was just measured.
Tell = Callable[[int, float | None], None]


@dataclass(frozen=True)
class Job:
    """A run to be done.

    Args:
        name: for people, ``fresh/dynamic/seed-0``.
        folder: where its model and its `RUN_FILE` go. The file is written last: a run is finished
            when it is there.
        spec: all that the result depends on, as JSON; a finished run with another one is not
            taken for this run.
        start: the folder of the model that it branches from.
        data: the `Data` settings, kept with the result so that it can be evaluated again.
        table: path of the training table.
        ids: of the samples to train on.
        steps, epochs: one of them is the budget.
    """

    name: str
    folder: Path
    spec: dict[str, Any]
    start: Path | None
    data: dict[str, Any]
    table: Path
    ids: np.ndarray
    total_steps: int
    steps: int | None
    epochs: float | None

    @property
    def seed(self) -> int:
        return self.spec["seed"]


def finished(job: Job) -> dict[str, Any] | None:
    """The result of a job that was done before."""
    path = job.folder / RUN_FILE
    if not path.is_file():
        return None
    result = read_json(path)
    return result if isinstance(result, dict) and result.get("spec") == job.spec else None


def settings_in(folder: Path) -> dict[str, Any] | None:
    """The ``spec`` of the run that was finished or begun in a folder; ``None`` without one.

    A run counts as begun from its first checkpoint.
    """
    last = last_checkpoint(folder)
    path = folder / RUN_FILE
    if not path.is_file():
        if last is None:
            return None
        path = last / _RECORD_FILE
    content = read_json(path)
    spec = content.get("spec") if isinstance(content, dict) else None
    return spec if isinstance(spec, dict) else {}


def last_checkpoint(folder: Path) -> Path | None:
    """The last checkpoint of a run that is whole: its record is written after all else."""
    whole = (folder / CHECKPOINTS).glob(f"checkpoint-*/{_RECORD_FILE}")
    return max((path.parent for path in whole), key=_step_of, default=None)


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def execute(job: Job, table: Any, tokenizer: Any, held_out: HeldOut, tell: Tell) -> dict[str, Any]:
    """Trains, evaluates and saves; the result is also in the job's folder."""
    training = Training.model_validate(job.spec["training"])
    policy = Policy.model_validate(job.spec["policy"])
    model = _first_model(job, tokenizer)
    recorder = _Recorder(job.spec, held_out, tell)
    with saving(job.folder):  # it makes the folder
        trainer = MaskingTrainer(
            model,
            TrainingArguments(
                output_dir=str(job.folder / CHECKPOINTS),
                seed=job.seed,
                max_steps=job.steps or -1,
                num_train_epochs=job.epochs or 1,
                per_device_train_batch_size=training.batch_size,
                learning_rate=training.learning_rate,
                lr_scheduler_type=training.lr_scheduler,
                warmup_steps=training.warmup_steps,
                weight_decay=training.weight_decay,
                max_grad_norm=training.max_grad_norm,
                logging_steps=10,
                save_strategy="steps" if training.checkpoint_every else "no",
                save_steps=training.checkpoint_every or 500,
                save_total_limit=1,
                report_to=[],
                disable_tqdm=True,
                dataloader_pin_memory=False,
            ),
            MaskingCollator(tokenizer, policy.masking(), seed=job.seed),
            Subset(table, job.ids),
            callbacks=[recorder],
        )
    trainer.remove_callback(PrinterCallback)
    recorder.trainer = trainer
    last = last_checkpoint(job.folder)
    if last is None:  # then what may lie there was left half-written
        shutil.rmtree(job.folder / CHECKPOINTS, ignore_errors=True)
    else:
        recorder.restore(last)
    with saving(job.folder):
        trainer.train(resume_from_checkpoint=None if last is None else str(last))
    return _save(job, trainer, recorder, tokenizer)


def _first_model(job: Job, tokenizer: Any) -> Any:
    length = job.spec["data"]["max_length"]
    if job.start is None:
        config = Model.model_validate(job.spec["model"])
        return build_model(config, tokenizer, seed=job.seed, max_length=length)
    try:
        return load_model(job.start)
    except ModelError as error:
        raise ModelError(
            f"The run {job.name} cannot start. {error} Delete that folder and give the same "
            "command again: the shared start is then trained anew."
        ) from None


def _save(job: Job, trainer: Any, recorder: _Recorder, tokenizer: Any) -> dict[str, Any]:
    """Model, tokenizer and what was measured, in the job's folder."""
    scores = recorder.scores
    assert scores is not None
    tokens = trainer.tokens_seen
    result = {
        "spec": job.spec,
        "name": job.name,
        "data": job.data,
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
        "steps": trainer.state.global_step,
        "history": recorder.history,
        "training": recorder.training,
        "final": scores.mean,
        "documents": {
            "number": scores.documents.tolist(),
            "loss": scores.loss.tolist(),
            "correct": scores.correct.tolist(),
            "count": scores.count.tolist(),
        },
        "cost": {
            "seconds": recorder.seconds,
            "tokens": tokens,
            "predicted_tokens": trainer.predicted_tokens,
            "tokens_per_second": tokens / recorder.seconds,
        },
    }

    def fill(folder: Path) -> None:
        trainer.model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        write_json(folder / RUN_FILE, result)

    write_folder(job.folder, fill)
    return result


class _Recorder(TrainerCallback):
    """Keeps the learning curve, and the time that training took without the evaluations."""

    def __init__(self, spec: dict[str, Any], held_out: HeldOut, tell: Tell) -> None:
        self.spec = spec
        self.held_out = held_out
        self.tell = tell
        self.trainer: Any = None
        self.history: list[dict[str, Any]] = []
        self.training: list[dict[str, Any]] = []
        self.scores: Scores | None = None
        self.seconds = 0.0
        self._since = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 0:
            self._evaluate(state)
        self._since = time.perf_counter()

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        now = time.perf_counter()
        self.seconds, self._since = self.seconds + now - self._since, now
        write_json(
            folder / _RECORD_FILE,
            {
                "spec": self.spec,
                "history": self.history,
                "training": self.training,
                "seconds": self.seconds,
                "tokens": self.trainer.tokens_seen,
                "predicted": self.trainer.predicted_tokens,
            },
        )

    def restore(self, checkpoint: Path) -> None:
        """What was recorded up to a checkpoint."""
        record = read_json(checkpoint / _RECORD_FILE)
        self.history, self.training = record["history"], record["training"]
        self.seconds = record["seconds"]
        self.trainer.tokens_seen = record["tokens"]
        self.trainer.predicted_tokens = record["predicted"]

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        last = state.global_step >= state.max_steps
        if last:
            control.should_save = False  # the result itself follows
        if last or state.global_step % self.spec["evaluation"]["every"] == 0:
            self.seconds += time.perf_counter() - self._since
            self._evaluate(state)
        elif state.global_step % 5 == 0:
            self.tell(state.global_step, None)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if logs and "loss" in logs:
            self.training.append(
                {
                    "step": state.global_step,
                    "loss": float(logs["loss"]),
                    "learning_rate": float(logs["learning_rate"]),
                    "predicted": self.trainer.predicted_tokens,
                }
            )

    def _evaluate(self, state: Any) -> None:
        self.scores = self.held_out.score(self.trainer.model)
        mean = self.scores.mean
        self.history.append(
            {
                "step": state.global_step,
                "epoch": round(float(state.epoch or 0), 4),
                "loss": mean["loss"],
                "accuracy": mean["accuracy"],
            }
        )
        self.tell(state.global_step, mean["loss"])
        self._since = time.perf_counter()
