"""Fine-tunes the encoder of a finished run on a task, and judges it on the task's test data."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import (
    DataCollatorWithPadding,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from maskwright.data.labelled import Examples
from maskwright.errors import ConfigError, ModelError
from maskwright.evaluation.classification import WRONG
from maskwright.lab.files import read_json, saving, write_json
from maskwright.lab.model import UNREADABLE, first_line
from maskwright.lab.recorder import Tell
from maskwright.lab.run import RUN_FILE
from maskwright.lab.work import finished

WARMUP_SHARE = 0.1
WEIGHT_DECAY = 0.01


@dataclass(frozen=True)
class TaskJob:
    """A fine-tuning to be done.

    Args:
        name: for people, ``fresh/dynamic/seed-0 on sentiment``.
        task: its name in the settings.
        folder: of the run whose encoder is taken; the result goes beside it.
        spec: all that the result depends on, as JSON: the ``run``, the ``settings`` and the
            fingerprint of the ``examples``.
        examples: what to train and judge on.
    """

    name: str
    task: str
    folder: Path
    spec: dict[str, Any]
    examples: Examples

    measure = "accuracy"

    @property
    def seed(self) -> int:
        return self.spec["run"]["seed"]

    @property
    def result(self) -> Path:
        return self.folder / f"task-{self.task}.json"

    @property
    def needs(self) -> Path:
        return self.folder / RUN_FILE

    @property
    def total_steps(self) -> int:
        settings = self.spec["settings"]
        per_epoch = math.ceil(len(self.examples.train) / settings["batch_size"])
        return settings["epochs"] * per_epoch


def is_judged(job: TaskJob) -> bool:
    """Whether the fine-tuning was done before.

    Raises:
        ConfigError: it was done with other settings or examples.
    """
    if finished(job) is not None:
        return True
    if not job.result.is_file():
        return False
    found = read_json(job.result)
    old = found.get("spec") if isinstance(found, dict) else None
    if isinstance(old, dict) and old.get("run") != job.spec["run"]:
        return False  # of an encoder that was trained again since
    raise ConfigError(
        f"{job.result} was made with other settings or other examples. Give the task another name, "
        "so that both results are kept, or delete its files."
    )


def fine_tune(job: TaskJob, tokenizer: Any, tell: Tell) -> dict[str, Any]:
    """Trains a classifier, judges it, and writes `TaskJob.result`; the classifier is not kept.

    Raises:
        ModelError: the encoder cannot be loaded, or its kind has no classifier.
        SaveError: the result cannot be written.
    """
    settings, examples = job.spec["settings"], job.examples
    began = time.perf_counter()
    train, test = (
        _tokenised(part, tokenizer, settings["max_length"])
        for part in (examples.train, examples.test)
    )
    model = load_classifier(job.folder, examples.labels, job.seed)
    trainer = Trainer(
        model,
        TrainingArguments(
            output_dir=str(job.folder),  # nothing is written to it
            seed=job.seed,  # of the order and of dropout, which policies of a seed share
            num_train_epochs=settings["epochs"],
            per_device_train_batch_size=settings["batch_size"],
            per_device_eval_batch_size=32,
            learning_rate=settings["learning_rate"],
            lr_scheduler_type="linear",
            warmup_steps=round(WARMUP_SHARE * job.total_steps),
            weight_decay=WEIGHT_DECAY,
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
            dataloader_pin_memory=False,
        ),
        DataCollatorWithPadding(tokenizer),
        train,
        callbacks=[_Progress(tell)],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    answers = answers_of(np.asarray(trainer.predict(test).predictions))
    final = scores([label for _, label in examples.test], answers)
    result = {
        "spec": job.spec,
        "name": job.name,
        "task": job.task,
        "labels": list(examples.labels),
        "truth": [label for _, label in examples.test],
        "answers": answers,
        "final": final,
        "cost": {"seconds": time.perf_counter() - began, "steps": trainer.state.global_step},
    }
    with saving(job.result):
        write_json(job.result, result)
    tell(job.total_steps, final["accuracy"])
    return result


def load_classifier(folder: Path, labels: Sequence[str], seed: int) -> Any:
    """The encoder in ``folder`` with a fresh output layer, whose weights depend on ``seed`` alone.

    Raises:
        ModelError: it cannot be loaded, or its kind has no classifier in transformers.
    """
    from transformers import AutoModelForSequenceClassification

    set_seed(seed)
    try:
        return AutoModelForSequenceClassification.from_pretrained(
            folder,
            num_labels=len(labels),
            id2label=dict(enumerate(labels)),
            label2id={label: number for number, label in enumerate(labels)},
        )
    except UNREADABLE as error:
        raise ModelError(
            f"The encoder in {folder} cannot be fine-tuned: {first_line(error)} If the folder is "
            "damaged, delete it and give the same command again."
        ) from None


def answers_of(logits: np.ndarray) -> list[int]:
    """The class of each example; `WRONG` where the output is not finite."""
    finite = np.isfinite(logits).all(axis=-1)
    return np.where(finite, logits.argmax(axis=-1), WRONG).tolist()


def scores(truth: Sequence[int], answers: Sequence[int]) -> dict[str, float]:
    """Accuracy, and F1 averaged over the classes that the test examples have."""
    from sklearn.metrics import accuracy_score, f1_score

    labels = sorted(set(truth))
    f1 = f1_score(truth, answers, labels=labels, average="macro", zero_division=0.0)  # type: ignore
    return {"accuracy": float(accuracy_score(truth, answers)), "macro_f1": float(f1)}


def _tokenised(examples: Any, tokenizer: Any, max_length: int) -> Any:
    texts = [text for text, _ in examples]
    ids = tokenizer(texts, truncation=True, max_length=max_length)["input_ids"]
    return [
        {"input_ids": row, "attention_mask": [1] * len(row), "labels": label}
        for row, (_, label) in zip(ids, examples, strict=True)
    ]


class _Progress(TrainerCallback):
    def __init__(self, tell: Tell) -> None:
        self.tell = tell

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step % 5 == 0:
            self.tell(state.global_step, None)
