"""A batch that does not fit is taken in parts; loss and gradient are those of the whole."""

from __future__ import annotations

import logging
from unittest import mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maskwright import recipe
from maskwright.hf import MaskingCollator, MaskingTrainer
from maskwright.hf.guided.observer import BatchObserver
from maskwright.hf.recovery.halves import Halves
from tests.core import tokenizers
from tests.hf import tiny

ROWS = tiny.samples(24)


# -- alone -----------------------------------------------------------------------------------


@given(
    batches=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    fits=st.integers(1, 9),
    late=st.booleans(),
)
def test_parts_add_up(batches, fits, late):
    """Whole numbers, so that the order of sums is nothing; memory runs out before or in the
    backward pass."""
    total, done, shown = torch.zeros(()), [], []
    halves = Halves()

    def step(part):
        ids = part["input_ids"]
        if halves.once("show"):
            shown.extend(ids.tolist())
        if len(ids) > fits:
            if late:
                total.add_(ids[0] * 1000)  # a part of the gradient
            raise torch.OutOfMemoryError
        assert part["other"] == "same for all"
        assert torch.equal(part["labels"], -ids)
        total.add_(ids.sum())
        done.append(len(ids))
        return ids.sum()

    start, losses = 0, []
    halves.begin()
    # it walks through all objects of the process, which is slow here and frees nothing
    with mock.patch("maskwright.hf.recovery.halves.clear_device_cache"):
        for size in batches:
            ids = torch.arange(start, start + size) + 1
            start += size
            inputs = {"input_ids": ids, "labels": -ids, "other": "same for all"}
            losses.append(int(halves.run(inputs, step, total.zero_)))
            assert losses[-1] == int(ids.sum())
    assert int(total) == sum(losses) == start * (start + 1) // 2
    assert max(done) <= fits
    assert sorted(shown) == list(range(1, start + 1))  # each row once
    assert halves.once("show")  # outside of a step it is always the first time
    assert halves.once("show")


def test_a_batch_as_large_is_halved_at_once():
    tried, halves = [], Halves()

    def step(part):
        tried.append(len(part["input_ids"]))
        if tried[-1] > 3:
            raise torch.OutOfMemoryError
        return part["input_ids"].sum()

    for _ in range(2):
        halves.begin()
        halves.run({"input_ids": torch.arange(8)}, step, lambda: None)
    assert tried == [8, 4, 2, 2, 2, 2, 2, 2, 2, 2]
    assert halves.largest == 4


def test_one_sample_that_does_not_fit():
    def step(part):
        raise torch.OutOfMemoryError("of the device")

    with pytest.raises(torch.OutOfMemoryError, match="of the device") as caught:
        Halves().run({"input_ids": torch.arange(4)}, step, lambda: None)
    assert "One sample alone does not fit" in caught.value.__notes__[0]


# -- in a run ----------------------------------------------------------------------------------


class Seen(BatchObserver):
    wants_losses = True

    def __init__(self):
        self.rows = []

    def observe(self, seen):
        self.rows.extend(seen.sample_ids.tolist())


class Small(MaskingTrainer):
    """Memory runs out with more than ``fits`` samples, before or in the backward pass."""

    fits = 100
    late = False
    failures = 0

    def compute_loss(self, model, inputs, *args, **kwargs):
        rows = len(inputs["input_ids"])
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        if rows > self.fits:
            if not self.late:
                self._fail()
            # the last gradient that a backward pass comes to
            words = model.bert.embeddings.word_embeddings.weight
            self._handle = words.register_hook(self._fail)
        return loss

    def _fail(self, gradient=None):
        self.failures += 1
        if gradient is not None:
            self._handle.remove()
        raise torch.OutOfMemoryError("CUDA out of memory")


def run(path, *, fits=100, late=False, policy="roberta", **changes):
    seen = Seen()
    trainer = Small(
        tiny.model(),
        tiny.arguments(path, **({"num_train_epochs": 1, "optim": "sgd", "learning_rate": 0.1,
                                 "logging_strategy": "steps", "logging_steps": 1} | changes)),
        MaskingCollator(tokenizers.words(), recipe(policy), seed=5),
        ROWS,
        callbacks=[seen],
    )  # fmt: skip
    trainer.fits, trainer.late = fits, late
    trainer.train()
    losses = [one["loss"] for one in trainer.state.log_history if "loss" in one]
    weights = [one.detach().clone() for one in trainer.model.parameters()]
    return trainer, losses, weights, seen.rows


@pytest.mark.parametrize("late", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize(
    "changes",
    [{"per_device_train_batch_size": 8}, {"gradient_accumulation_steps": 3}, {"policy": "mdlm"}],
    ids=["large", "accumulated", "weighed"],
)
def test_a_run_in_parts_is_the_run(tmp_path, caplog, late, changes):
    whole, losses, weights, rows = run(tmp_path, **changes)
    with caplog.at_level(logging.WARNING):
        parts, same_losses, same_weights, same_rows = run(tmp_path, fits=2, late=late, **changes)
    assert whole.failures == 0
    assert parts.failures > 0
    assert any("It is halved" in one.getMessage() for one in caplog.records)
    assert same_losses == pytest.approx(losses, rel=1e-5)
    torch.testing.assert_close(same_weights, weights, rtol=1e-5, atol=1e-6)
    assert not all(map(torch.equal, weights, tiny.model().parameters()))
    assert sorted(same_rows) == sorted(rows) == list(range(len(ROWS)))
    assert parts.tokens_seen == whole.tokens_seen
    assert parts.predicted_tokens == whole.predicted_tokens
