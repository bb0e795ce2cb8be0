"""One translation run: a model, its masks, a seed; its learning curve, its scores, its texts."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from transformers import PrinterCallback, TrainingArguments

from maskwright.errors import ModelError
from maskwright.hf import MaskAware, MaskingTrainer
from maskwright.lab.files import saving, write_folder, write_json
from maskwright.lab.model import first_line
from maskwright.lab.precision import full_precision
from maskwright.lab.recorder import Tell
from maskwright.lab.run import CHECKPOINTS, RUN_FILE, last_checkpoint
from maskwright.lab.translate.budget import Budget
from maskwright.lab.translate.config import TranslationModel, TranslationTraining, Variant
from maskwright.lab.translate.final import judged
from maskwright.lab.translate.learning_rate import factor
from maskwright.lab.translate.masked import Masked
from maskwright.lab.translate.model import build_translation_model, load_seq2seq
from maskwright.lab.translate.open_masked import open_masked
from maskwright.lab.translate.preparation import TARGET_TOKENIZER, PreparedPairs
from maskwright.lab.translate.recorder import TranslationRecorder
from maskwright.lab.translate.scores import batches_of, score_sentences

BETAS = (0.9, 0.98)  # of Vaswani et al., 1706.03762, section 5.3


@dataclass(frozen=True)
class TranslationJob:
    """A run to be done.

    Args:
        name: for people, ``wait-k/seed-0``.
        folder: where model and `RUN_FILE` go; the file is written last.
        spec: all that the result depends on, as JSON: ``data``, ``model``, ``training``, ``masks``,
            ``evaluation``, ``threads``, ``seed`` and ``start``; ``alignments`` where a mask follows
            them.
        start: the folder of the model that it branches from.
    """

    name: str
    folder: Path
    spec: dict[str, Any]
    start: Path | None = None

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

    @property
    def is_start(self) -> bool:
        """Whether others branch from it, so that its texts are of no use."""
        return self.spec["is_start"]

    @property
    def total_steps(self) -> int:
        """Of a budget of steps; else 0, for it is not known before."""
        return self.spec["training"]["steps"] or 0


class TranslationTrainer(MaskingTrainer):
    """Its learning rate follows the budget, which may be time."""

    def __init__(
        self, *args: Any, budget: Budget, settings: TranslationTraining, **others: Any
    ) -> None:
        self._spending, self._settings = budget, settings
        super().__init__(*args, **others)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        if self.lr_scheduler is None:
            settings, spending = self._settings, self._spending
            spending.last_step = spending.last_step or num_training_steps

            def rate(step: int) -> float:
                progress = spending.progress(step)
                return factor(settings.lr_scheduler, step, settings.warmup_steps, progress)

            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
                cast(Any, optimizer or self.optimizer), rate
            )
        return self.lr_scheduler


# Shown while a run goes on: the budget, and the trainer that counts tokens.
Watching = Callable[[Budget, Any], None]


def execute(
    job: TranslationJob, prepared: PreparedPairs, tell: Tell, watching: Watching | None = None
) -> dict[str, Any]:
    """Trains, translates the test sentences and saves; the result is also in the job's folder.

    Args:
        watching: called before training, with what tells how far it is.

    Raises:
        ModelError: the model cannot be built, or its masks do not go with it.
        SaveError: something cannot be written.
    """
    model = _first_model(job, prepared)
    last = last_checkpoint(job.folder, read=True)
    if last is None:  # then what may lie there was left half-written
        shutil.rmtree(job.folder / CHECKPOINTS, ignore_errors=True)
    variant = Variant.model_validate(job.spec["masks"])
    masked = open_masked(model, variant, prepared, seed=job.seed)
    try:
        return _train(job, masked, prepared, tell, last, watching)
    finally:
        masked.close()


def _first_model(job: TranslationJob, prepared: PreparedPairs) -> Any:
    if job.start is not None:
        try:
            return load_seq2seq(job.start)
        except ModelError as error:
            raise ModelError(
                f"The run {job.name} cannot start: {first_line(error)} Delete {job.start} and give "
                "the same command again: the shared start is then trained anew."
            ) from None
    return build_translation_model(
        TranslationModel.model_validate(job.spec["model"]),
        prepared.tokenizer,
        prepared.target_tokenizer,
        seed=job.seed,
        max_length=job.spec["data"]["max_length"],
        beams=max(job.spec["evaluation"]["beams"]),
    )


def _train(
    job: TranslationJob,
    masked: Masked,
    prepared: PreparedPairs,
    tell: Tell,
    last: Path | None,
    watching: Watching | None,
) -> dict[str, Any]:
    settings = TranslationTraining.model_validate(job.spec["training"])
    evaluation = job.spec["evaluation"]
    budget = Budget(settings, job.spec["threads"])
    masked.follow(budget)
    if TranslationModel.model_validate(job.spec["model"]).new_decoder:
        encoder = masked.model.get_encoder()
        encoder.own_learning_rate = settings.encoder_rate * settings.learning_rate
    held_out = batches_of(masked.evaluation_collator, prepared.validation, evaluation["batch_size"])
    recorder = TranslationRecorder(
        job.spec,
        lambda model: score_sentences(model, held_out).mean,
        evaluation["every"],
        budget,
        tell,
    )
    with saving(job.folder):
        trainer = TranslationTrainer(
            masked.trained,
            _arguments(job, settings, prepared),
            masked.collator,
            masked.pairs,
            # the recorder last: a checkpoint is whole when its record is there
            callbacks=[budget, *masked.callbacks, recorder],
            budget=budget,
            settings=settings,
            mask_aware=settings.mask_aware and MaskAware(dtype="auto" if settings.bf16 else None),
            tokens_per_batch=settings.tokens_per_batch,
            **masked.trainer_options,
        )
    trainer.remove_callback(PrinterCallback)
    recorder.trainer = trainer
    if last is not None:
        recorder.restore(last)
    if watching is not None:
        watching(budget, trainer)
    with saving(job.folder):
        trainer.train(resume_from_checkpoint=None if last is None else str(last))
    return _save(job, masked, trainer, recorder, prepared)


def _arguments(
    job: TranslationJob, settings: TranslationTraining, prepared: PreparedPairs
) -> TrainingArguments:
    half = settings.bf16 and not settings.mask_aware
    return TrainingArguments(
        output_dir=str(job.folder / CHECKPOINTS),
        seed=job.seed,
        max_steps=settings.steps or -1,
        num_train_epochs=settings.epochs or _epochs_of(settings, prepared),
        learning_rate=settings.learning_rate,
        warmup_steps=0,  # the schedule is our own
        adam_beta1=BETAS[0],
        adam_beta2=BETAS[1],
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        label_smoothing_factor=settings.label_smoothing,
        bf16=half,
        use_cpu=half and not torch.cuda.is_available(),
        logging_steps=10,
        save_strategy="steps" if settings.checkpoint_every else "no",
        save_steps=settings.checkpoint_every or 500,
        save_total_limit=1,
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )


def _epochs_of(settings: TranslationTraining, prepared: PreparedPairs) -> int:
    """Of a budget of steps or minutes: as many as it will hardly reach.

    A Trainer wants a number, and the sampler packs each epoch once to count its steps.
    """
    if settings.minutes is None:
        return 1  # max_steps decides
    device = 1_000_000 if torch.cuda.is_available() else 10_000 * torch.get_num_threads()
    tokens = max(1, int(np.sum(prepared.train.lengths)))
    return max(2, round(60 * settings.minutes * device / tokens))


def _save(
    job: TranslationJob,
    masked: Masked,
    trainer: Any,
    recorder: TranslationRecorder,
    prepared: PreparedPairs,
) -> dict[str, Any]:
    """Model, tokenizers and what was measured, in the job's folder."""
    began = time.perf_counter()
    masked.finish()
    model = masked.model
    watch = recorder.watch
    result: dict[str, Any] = {
        "spec": job.spec,
        "name": job.name,
        "parameters": sum(p.numel() for p in model.parameters()),
        "steps": trainer.state.global_step,
        "device": trainer.args.device.type,
        "masks": masked.kept(),
        "history": recorder.history,
        "training": recorder.training,
        "timing": recorder.timing,
    }
    with full_precision(model):
        if job.is_start:
            result["final"] = {key: recorder.history[-1][key] for key in ("loss", "accuracy")}
        else:
            result |= judged(masked, prepared, job.spec["evaluation"])
    result["cost"] = {
        "seconds": watch.seconds,
        "cpu_seconds": watch.cpu_seconds,
        "evaluation_seconds": time.perf_counter() - began,
        "tokens": trainer.tokens_seen,
        "predicted_tokens": trainer.predicted_tokens,
        "tokens_per_second": trainer.predicted_tokens / max(watch.seconds, 1e-9),
    }

    def fill(folder: Path) -> None:
        model.save_pretrained(folder)
        prepared.tokenizer.save_pretrained(folder)
        if prepared.target_tokenizer is not prepared.tokenizer:
            prepared.target_tokenizer.save_pretrained(folder / TARGET_TOKENIZER)
        masked.save(folder)
        write_json(folder / RUN_FILE, result)

    write_folder(job.folder, fill)
    return result
