"""One training run: a model, a policy, a seed, a text; its learning curve and its scores."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PrinterCallback, TrainingArguments

from maskwright.data.subset import Subset
from maskwright.errors import ModelError
from maskwright.evaluation.heldout import HeldOut
from maskwright.hf import MaskAware, MaskingCollator, MaskingTrainer, VisibleOnly
from maskwright.hf.recovery.seal import damage, is_sealed
from maskwright.lab.config import Model, Training
from maskwright.lab.files import read_json, saving, write_folder, write_json
from maskwright.lab.guided import SCORES, GuidedTraining
from maskwright.lab.mask_statistics import statistics_of
from maskwright.lab.model import build_model, load_model
from maskwright.lab.optimizer import arguments_of, trainer_of
from maskwright.lab.phrases import phrases_for
from maskwright.lab.policy import Policy
from maskwright.lab.recorder import RECORD_FILE, Recorder, Tell
from maskwright.lab.trained import dropping_of, trained_model
from maskwright.vocabulary import Vocabulary

RUN_FILE = "run.json"
CHECKPOINTS = "checkpoints"


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

    measure = "loss"

    @property
    def seed(self) -> int:
        return self.spec["seed"]

    @property
    def result(self) -> Path:
        return self.folder / RUN_FILE

    @property
    def needs(self) -> Path | None:
        return None if self.start is None else self.start / RUN_FILE


def settings_in(folder: Path) -> dict[str, Any] | None:
    """The ``spec`` of the run that was finished or begun in a folder; ``None`` without one.

    A run counts as begun from its first checkpoint.
    """
    last = last_checkpoint(folder)
    path = folder / RUN_FILE
    if not path.is_file():
        if last is None:
            return None
        path = last / RECORD_FILE
    content = read_json(path)
    spec = content.get("spec") if isinstance(content, dict) else None
    return spec if isinstance(spec, dict) else {}


def last_checkpoint(folder: Path, *, read: bool = False) -> Path | None:
    """The last checkpoint of a run that is whole: its record is written after all else.

    Args:
        read: read it through, too, and pass over one that was damaged since.
    """
    whole = [path.parent for path in (folder / CHECKPOINTS).glob(f"checkpoint-*/{RECORD_FILE}")]
    if read:
        # of an earlier version there is no seal to go by
        whole = [path for path in whole if not is_sealed(path) or damage(path) is None]
    return max(whole, key=_step_of, default=None)


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def execute(job: Job, table: Any, tokenizer: Any, held_out: HeldOut, tell: Tell) -> dict[str, Any]:
    """Trains, evaluates and saves; the result is also in the job's folder."""
    policy = Policy.model_validate(job.spec["policy"])
    model = _first_model(job, tokenizer)
    last = last_checkpoint(job.folder, read=True)
    checkpoints = job.folder / CHECKPOINTS
    if last is None:  # then what may lie there was left half-written
        shutil.rmtree(checkpoints, ignore_errors=True)
    guided = None
    with saving(job.folder):  # it makes the folder
        if policy.guided is not None:
            guided = GuidedTraining.open(
                policy,
                checkpoints / SCORES,
                table,
                job.ids,
                Vocabulary.from_tokenizer(tokenizer),
                job.seed,
            )
    try:
        return _train(job, policy, model, table, tokenizer, held_out, tell, guided, last)
    finally:
        if guided is not None:
            guided.close()


def _train(
    job: Job,
    policy: Policy,
    model: Any,
    table: Any,
    tokenizer: Any,
    held_out: HeldOut,
    tell: Tell,
    guided: GuidedTraining | None,
    last: Path | None,
) -> dict[str, Any]:
    training = Training.model_validate(job.spec["training"])
    subset = Subset(table, job.ids)
    vocabulary = Vocabulary.from_tokenizer(tokenizer)
    masks = statistics_of(subset, vocabulary, None if guided is None else guided.store)
    masking = policy.masking(phrases_for(policy, table, vocabulary))
    scores = None if guided is None else guided.reader
    trained = trained_model(policy, model, vocabulary, job.seed)
    dropping = dropping_of(policy, model, None if guided is None else guided.store, job.seed)
    recorder = Recorder(job.spec, held_out, masks, tell)
    with saving(job.folder):
        trainer = MaskingTrainer(
            trained,
            TrainingArguments(
                output_dir=str(job.folder / CHECKPOINTS),
                seed=job.seed,
                max_steps=job.steps or -1,
                num_train_epochs=job.epochs or 1,
                per_device_train_batch_size=training.batch_size,
                **arguments_of(training),
                bf16=training.bf16,
                use_cpu=training.bf16 and not torch.cuda.is_available(),
                logging_steps=10,
                save_strategy="steps" if training.checkpoint_every else "no",
                save_steps=training.checkpoint_every or 500,
                save_total_limit=1,
                report_to=[],
                disable_tqdm=True,
                dataloader_pin_memory=False,
            ),
            MaskingCollator(tokenizer, masking, seed=job.seed, scores=scores),
            subset,
            # the recorder last: a checkpoint is whole when its record is there
            callbacks=[*([] if guided is None else guided.callbacks), masks, recorder],
            # the type of number is the experiment's: the same mathematics as the other policies
            mask_aware=MaskAware(dtype=None) if policy.mask_aware else False,
            predicted_only=policy.mask_aware is not False,
            token_dropping=dropping,
            **trainer_of(training),
        )
    trainer.remove_callback(PrinterCallback)
    recorder.trainer = trainer
    if last is not None:
        recorder.restore(last)
    with saving(job.folder):
        trainer.train(resume_from_checkpoint=None if last is None else str(last))
    return _save(job, trainer, model, recorder, tokenizer, guided)


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


def _save(
    job: Job,
    trainer: Any,
    model: Any,
    recorder: Recorder,
    tokenizer: Any,
    guided: GuidedTraining | None,
) -> dict[str, Any]:
    """Model, tokenizer and what was measured, in the job's folder.

    Args:
        model: the language model; where more was trained beside it, that is not kept.
    """
    scores = recorder.scores
    assert scores is not None
    tokens = trainer.tokens_seen
    result = {
        "spec": job.spec,
        "name": job.name,
        "data": job.data,
        "parameters": sum(p.numel() for p in model.parameters()),
        "steps": trainer.state.global_step,
        "device": trainer.args.device.type,
        "history": recorder.history,
        "training": recorder.training,
        "timing": recorder.timing,
        "final": scores.mean,
        "documents": {
            "number": scores.documents.tolist(),
            "loss": scores.loss.tolist(),
            "correct": scores.correct.tolist(),
            "count": scores.count.tolist(),
        },
        "cost": {
            "seconds": recorder.watch.seconds,
            "tokens": tokens,
            "predicted_tokens": trainer.predicted_tokens,
            "tokens_per_second": tokens / recorder.watch.seconds,
        },
    }

    def fill(folder: Path) -> None:
        # an encoder of visible tokens is judged with its decoder, now and when it is loaded again
        kept = trainer.model if isinstance(trainer.model, VisibleOnly) else model
        kept.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        if guided is not None:
            guided.finish(folder)
        write_json(folder / RUN_FILE, result)

    write_folder(job.folder, fill)
    return result
