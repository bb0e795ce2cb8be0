"""A plain `transformers.Trainer` with our collator: ids from the data set, epochs by callback."""

from __future__ import annotations

import pytest
from datasets import Dataset
from transformers import Trainer

from maskwright import recipe
from maskwright.errors import PolicyError, SampleIdError
from maskwright.hf import ClockCallback, MaskingCollator, with_sample_ids
from tests.core import tokenizers
from tests.hf import tiny
from tests.hf.seen import expected, original, views

ROWS = tiny.samples(12)


def run(path, *, policy="roberta", rows=None, callback=True, refresh=None, **changes):
    """Trains, and returns the collator and all rows that the model saw, epoch by epoch."""
    masking = recipe(policy, rate=0.3, **({"refresh": refresh} if refresh else {}))
    collator = MaskingCollator(tokenizers.words(), masking, seed=5)
    model, seen = tiny.model(), []
    model.register_forward_pre_hook(
        lambda _, args, inputs: seen.extend(views(inputs)), with_kwargs=True
    )
    trainer = Trainer(
        model,
        tiny.arguments(path, **changes),
        collator,
        train_dataset=with_sample_ids(ROWS) if rows is None else rows,
        callbacks=[ClockCallback(collator)] if callback else [],
    )
    trainer.train()
    assert len(seen) == 2 * len(ROWS)
    number = {tuple(row["input_ids"]): i for i, row in enumerate(ROWS)}
    epochs = (seen[: len(ROWS)], seen[len(ROWS) :])
    return collator, [{number[original(view)]: view for view in epoch} for epoch in epochs]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"dataloader_num_workers": 2},
        {"dataloader_num_workers": 2, "dataloader_persistent_workers": True},
        {"dataloader_num_workers": 1, "per_device_train_batch_size": 5},
    ],
    ids=["plain", "workers", "persistent workers", "other batches"],
)
def test_epochs_differ_and_are_those_of_masking_trainer(changes, tmp_path):
    collator, epochs = run(tmp_path, **changes)
    for epoch, seen in enumerate(epochs):
        for i, row in enumerate(ROWS):
            assert seen[i] == expected(collator, row["input_ids"], i, epoch)
    assert epochs[0] != epochs[1]


def test_static_masks_need_no_clock(tmp_path):
    _, epochs = run(tmp_path, refresh="static", callback=False)
    assert epochs[0] == epochs[1]


def test_dynamic_masks_without_a_clock_name_the_callback(tmp_path):
    with pytest.raises(PolicyError, match=r"callbacks=\[ClockCallback\(collator\)\]"):
        run(tmp_path, callback=False)


def test_rows_without_ids_name_the_remedy(tmp_path):
    with pytest.raises(SampleIdError, match=r"with_sample_ids\(dataset\)"):
        run(tmp_path, rows=Dataset.from_list(ROWS))


def test_a_column_of_ids_that_is_not_removed_does_as_well(tmp_path):
    rows = Dataset.from_list([row | {"sample_id": i} for i, row in enumerate(ROWS)])
    collator, epochs = run(tmp_path, rows=rows, remove_unused_columns=False)
    assert epochs[1][3] == expected(collator, ROWS[3]["input_ids"], 3, 1)
