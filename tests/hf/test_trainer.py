"""MaskingTrainer: the same masks for any loader, and after a resume."""

from __future__ import annotations

import numpy as np
import pytest
from datasets import Dataset

from maskwright import recipe
from maskwright.hf import ClockedSampler, MaskingCollator
from maskwright.schedule import Linear
from tests.core import tokenizers
from tests.hf import tiny
from tests.hf.seen import RecordingTrainer, expected

ROWS = tiny.samples(22)


def collator(**changes) -> MaskingCollator:
    return MaskingCollator(tokenizers.words(), recipe("roberta", **changes), seed=5)


def run(path, *, kind="bert", rows=ROWS, dropout=False, policy=None, resume=None, **changes):
    made = RecordingTrainer(
        tiny.model(kind, dropout=dropout),
        tiny.arguments(path, **changes),
        collator(**(policy or {})),
        train_dataset=rows,
    )
    made.train(resume_from_checkpoint=resume)
    return made


def wanted(epochs: int) -> dict[tuple[int, int], tuple]:
    ours = collator()
    return {
        (i, epoch): expected(ours, row["input_ids"], i, epoch)
        for i, row in enumerate(ROWS)
        for epoch in range(epochs)
    }


@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_it_trains_and_the_loss_falls(kind, tmp_path):
    rows = [{"input_ids": [2, *[7, 8] * 5, 3]} for _ in range(16)]
    made = run(tmp_path, kind=kind, rows=rows, num_train_epochs=6, learning_rate=1e-2)
    losses = [loss for *_, loss in made.batches]
    assert np.mean(losses[-4:]) < 0.7 * np.mean(losses[:4])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"dataloader_num_workers": 2},
        {"dataloader_num_workers": 2, "dataloader_persistent_workers": True},
        {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 2},
        {"train_sampling_strategy": "sequential"},
    ],
    ids=["plain", "workers", "persistent workers", "other batches", "in order"],
)
def test_masks_by_sample_and_epoch(changes, tmp_path):
    made = run(tmp_path, **changes)
    assert made.masks() == wanted(2)


def test_a_data_set_of_datasets(tmp_path):
    assert run(tmp_path, rows=Dataset.from_list(ROWS)).masks() == wanted(2)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"gradient_accumulation_steps": 2},
        {"gradient_accumulation_steps": 4, "dataloader_drop_last": True},
        {"dataloader_drop_last": True},
    ],
    ids=["plain", "accumulation", "accumulation, last dropped", "last dropped"],
)
def test_the_clock_counts_steps_as_the_trainer_does(changes, tmp_path):
    class Counting(RecordingTrainer):
        def compute_loss(self, model, inputs, *args, **kwargs):
            assert set(inputs["clock"][:, 1].tolist()) == {self.state.global_step}
            assert int(inputs["clock"][0, 0]) == int(self.state.epoch or 0)
            return super().compute_loss(model, inputs, *args, **kwargs)

    made = Counting(
        tiny.model(), tiny.arguments(tmp_path, **changes), collator(), train_dataset=ROWS
    )
    made.train()
    assert made._sampler.total_steps == made.state.max_steps == made.state.global_step
    assert made.batches[-1][1][1] == made.state.global_step - 1


def test_max_steps_are_the_total_of_a_schedule(tmp_path):
    made = run(tmp_path, max_steps=4, policy={"rate": Linear(1.0, 0.0)})
    assert made._sampler.total_steps == 4
    shares = [
        np.mean([np.mean(np.array(labels[1:-1]) != -100) for _, labels in seen])
        for _, _, seen, _ in made.batches
    ]
    assert shares[0] == 1.0
    assert shares == sorted(shares, reverse=True)
    assert 0.1 < shares[3] < 0.45


@pytest.mark.parametrize("checkpoint", [2, 6, 9])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_is_the_uninterrupted_one(checkpoint, workers, tmp_path):
    """Six steps an epoch: the checkpoints are in mid-epoch, between epochs, in a later epoch."""
    settings = {
        "dropout": True,
        "save_strategy": "steps",
        "save_steps": checkpoint,
        "policy": {"rate": Linear(0.5, 0.2)},
    }
    whole = run(tmp_path / "whole", **settings)
    resumed = run(
        tmp_path / "resumed",
        resume=str(tmp_path / "whole" / f"checkpoint-{checkpoint}"),
        dataloader_num_workers=workers,
        **settings,
    )
    assert len(whole.batches) == 12
    assert len(resumed.batches) == 12 - checkpoint
    assert resumed.batches == whole.batches[checkpoint:]


def test_a_resume_with_accumulation(tmp_path):
    settings = {
        "save_strategy": "steps", "save_steps": 2, "gradient_accumulation_steps": 2,
    }  # fmt: skip
    whole = run(tmp_path / "whole", **settings)
    again = run(tmp_path / "again", resume=str(tmp_path / "whole" / "checkpoint-2"), **settings)
    assert again.batches == whole.batches[4:]


def test_the_order_has_a_seed_of_its_own(tmp_path):
    orders = {}
    for name, seeds in {
        "a": {"data_seed": 1}, "again": {"data_seed": 1, "seed": 7}, "b": {"data_seed": 2}
    }.items():  # fmt: skip
        made = run(tmp_path, num_train_epochs=1, **seeds)
        orders[name] = [i for ids, *_ in made.batches for i in ids]
        assert made.masks() == wanted(1)
    assert orders["a"] == orders["again"] != orders["b"]
    assert orders["a"] == [int(i) for i in ClockedSampler(len(ROWS), 4, seed=1)]


def test_evaluation_masks_never_change(tmp_path):
    made = RecordingTrainer(
        tiny.model(),
        tiny.arguments(tmp_path, num_train_epochs=1),
        collator(rate=Linear(0.4, 0.1)),
        train_dataset=ROWS,
        eval_dataset={"one": ROWS[:5], "two": ROWS[5:9]},
    )
    before = made.evaluate()
    assert made.evaluate()["eval_one_loss"] == before["eval_one_loss"]
    made.train()
    after = made.evaluate()
    assert after["eval_one_loss"] != before["eval_one_loss"]
    again = made.evaluate()
    assert again["eval_two_loss"] == after["eval_two_loss"]


def test_predictions_have_the_shape_of_the_batch(tmp_path):
    made = RecordingTrainer(
        tiny.model(), tiny.arguments(tmp_path, per_device_eval_batch_size=8), collator()
    )
    rows = [{"input_ids": [2, *range(5, 15), 3]} for _ in range(4)]
    result = made.predict(rows)
    assert result.predictions.shape == (4, 12, tiny.VOCABULARY)
    assert result.label_ids.shape == (4, 12)


def test_a_data_set_given_to_evaluate_is_that_given_at_the_start(tmp_path):
    made = RecordingTrainer(
        tiny.model(), tiny.arguments(tmp_path), collator(), eval_dataset=ROWS[:9]
    )
    assert made.evaluate()["eval_loss"] == made.evaluate(ROWS[:9])["eval_loss"]
    assert made.evaluate({"x": ROWS[:9]})["eval_x_loss"] == made.evaluate()["eval_loss"]
