"""MaskingTrainer with a PairCollator: the loss, mask-aware steps, budgets, evaluation, resuming."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import Trainer

from maskwright import Mask, Masking
from maskwright.corruption import decoder_masking
from maskwright.errors import ConfigError, DataError
from maskwright.hf import (
    ClockCallback,
    MaskAware,
    MaskingTrainer,
    PairCollator,
    with_sample_ids,
)
from maskwright.hf.pairs.lengths import pair_lengths
from tests.core import tokenizers
from tests.hf import tiny
from tests.hf.pairs import models

WORDS = tokenizers.words()
PAIRS = models.pairs()
HALF = Masking(rate=0.5, act=Mask())
EXACT = MaskAware(dtype=None)
KINDS = (*models.TEXT, "whisper")
every_kind = pytest.mark.parametrize("kind", KINDS)


def trainer_of(
    kind: str, path: Path, *, masks: dict[str, Any] | None = None, made: type = MaskingTrainer,
    rows: Any = None, **options: Any,
) -> Any:  # fmt: skip
    model = models.model(kind)
    rows = (models.sounds(8) if kind == "whisper" else PAIRS) if rows is None else rows
    if masks is None:
        masks = {"target": HALF} if kind == "whisper" else {"source": HALF, "target": HALF}
    own = ("mask_aware", "tokens_per_batch", "scheduled_sampling", "further")
    given = {name: options.pop(name) for name in own if name in options}
    collator = PairCollator(WORDS, model=model, seed=3, **masks)
    return made(model, tiny.arguments(path, **options), collator, rows, **given)


def first_batch(trainer: MaskingTrainer) -> Any:
    return next(iter(trainer.get_train_dataloader()))


def loss_and_gradients(trainer: MaskingTrainer, batch: Any) -> tuple[torch.Tensor, dict]:
    model: Any = trainer.model
    model.train().zero_grad()
    trainer.current_gradient_accumulation_steps = 1
    loss = trainer.training_step(model, copy.copy(batch))
    return loss, {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def assert_alike(found: tuple[torch.Tensor, dict], wanted: tuple[torch.Tensor, dict]) -> None:
    torch.testing.assert_close(found[0], wanted[0], rtol=1e-5, atol=0)
    assert found[1].keys() == wanted[1].keys()
    for name, gradient in wanted[1].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-4, atol=1e-6, msg=name)


@every_kind
def test_the_loss_is_that_of_the_labels_given_what_the_decoder_reads(kind, tmp_path):
    trainer = trainer_of(kind, tmp_path, label_smoothing_factor=0.1)
    batch = first_batch(trainer)
    read = ("input_ids", "input_features", "attention_mask", "decoder_input_ids")
    logits = trainer.model.train()(**{k: batch[k] for k in read if k in batch}).logits
    wanted = functional.cross_entropy(
        logits.flatten(0, 1), batch["labels"].flatten(), label_smoothing=0.1
    )
    found, _ = loss_and_gradients(trainer, batch)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=0)
    many = int((batch["labels"] != -100).sum())
    assert trainer.predicted_tokens == many
    divided = trainer.compute_loss(trainer.model, batch, num_items_in_batch=50)
    torch.testing.assert_close(divided, wanted * many / 50, rtol=1e-5, atol=0)


@every_kind
def test_mask_aware_steps_have_the_same_loss_and_gradients(kind, tmp_path):
    plain, aware = trainer_of(kind, tmp_path), trainer_of(kind, tmp_path, mask_aware=EXACT)
    batch = first_batch(plain)
    assert_alike(loss_and_gradients(aware, batch), loss_and_gradients(plain, batch))
    acceleration = aware._mask_aware.acceleration
    assert acceleration.head is not None
    assert bool(acceleration.stacks) == (kind != "whisper")  # whose encoder reads no padding


def test_a_conditional_masked_language_model_trains(tmp_path):
    masks = {"target": decoder_masking("cmlm", start_id=0)}
    plain = trainer_of("marian", tmp_path, masks=masks)
    aware = trainer_of("marian", tmp_path, masks=masks, mask_aware=EXACT)
    batch = first_batch(plain)
    assert 0 < (batch["labels"] != -100).sum() < batch["decoder_attention_mask"].sum()
    assert_alike(loss_and_gradients(aware, batch), loss_and_gradients(plain, batch))


def test_it_is_evaluated_without_masks(tmp_path):
    noisy = trainer_of("bart", tmp_path, masks={"source": HALF, "target": HALF})
    plain = trainer_of("bart", tmp_path, masks={})
    found = noisy.evaluate(PAIRS)["eval_loss"]
    assert found == plain.evaluate(PAIRS)["eval_loss"]
    batch = next(iter(noisy.get_train_dataloader()))
    assert (batch["input_ids"] == WORDS.mask_token_id).any()


# -- batches by their tokens ----------------------------------------------------------------------


def test_a_budget_counts_both_sides(tmp_path):
    trainer = trainer_of("bart", tmp_path, tokens_per_batch=40, max_steps=1)
    wanted = [len(row["input_ids"]) + len(row["labels"]) for row in PAIRS]
    assert trainer._budget.lengths.tolist() == wanted
    for batch in trainer.get_train_dataloader():
        real = batch["attention_mask"].sum() + batch["decoder_attention_mask"].sum()
        assert real <= 40
    trainer.train()


def test_lengths_of_pairs_from_whatever_keeps_them():
    datasets = pytest.importorskip("datasets")
    padded = {"input_ids": [0, 5, 3], "attention_mask": [0, 1, 1], "labels": [7, 3, -100]}
    assert pair_lengths([padded]).tolist() == [4]
    assert pair_lengths(models.sounds(2)).tolist() == [3, 6]
    rows = [{name: row[name] for name in ("input_ids", "labels")} for row in PAIRS]
    table = datasets.Dataset.from_list(rows)
    assert np.array_equal(pair_lengths(table), pair_lengths(rows))

    class Known(list):
        lengths = np.array([9])

    assert pair_lengths(Known([padded])).tolist() == [9]
    with pytest.raises(DataError, match='Pair 0 is no mapping with "labels"'):
        pair_lengths([{"input_ids": [1]}])
    with pytest.raises(DataError, match="has no labels, only"):
        pair_lengths(table.remove_columns(["labels"]))


# -- one run, however it is cut -------------------------------------------------------------------


class Gradients(MaskingTrainer):
    """Keeps the gradient of the one step that it takes."""

    def _clip_grad_norm(self, model):
        named = model.named_parameters()
        self.gradients = {n: p.grad.clone() for n, p in named if p.grad is not None}
        return super()._clip_grad_norm(model)


def test_one_gradient_however_it_is_cut(tmp_path):
    found = []
    for batch, accumulation in ((12, 1), (3, 4)):
        trainer = trainer_of(
            "marian", tmp_path, made=Gradients, max_steps=1, per_device_train_batch_size=batch,
            gradient_accumulation_steps=accumulation,
        )  # fmt: skip
        trainer.train()
        found.append(trainer.gradients)
    for name, whole in found[0].items():
        torch.testing.assert_close(found[1][name], whole, rtol=1e-4, atol=1e-6)


def test_a_run_that_resumes_is_the_run_that_did_not_stop(tmp_path):
    def run(path: Path, **changes: Any) -> Any:
        trainer = trainer_of("bart", path, max_steps=4, save_strategy="steps", save_steps=2)
        trainer.train(**changes)
        return trainer

    whole = run(tmp_path)
    again = run(tmp_path, resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    for one, other in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_plain_trainer_takes_it_too(tmp_path):
    """With the ids of the data set, and the epoch from a callback."""
    model = models.model("bart")
    collator = PairCollator(WORDS, model=model, source=HALF, target=HALF, seed=3)
    arguments = tiny.arguments(
        tmp_path, num_train_epochs=2, remove_unused_columns=False, logging_strategy="epoch"
    )
    trainer = Trainer(
        model, arguments, collator, with_sample_ids(PAIRS), callbacks=[ClockCallback(collator)]
    )
    assert trainer.train().global_step == 6
    assert all(0 < entry["loss"] < 10 for entry in trainer.state.log_history if "loss" in entry)


def test_other_collators_are_refused(tmp_path):
    from transformers import DataCollatorForSeq2Seq

    with pytest.raises(ConfigError, match=r"take PairCollator\(tokenizer, model=model\)"):
        MaskingTrainer(
            models.model("bart"), tiny.arguments(tmp_path), DataCollatorForSeq2Seq(WORDS), PAIRS
        )
