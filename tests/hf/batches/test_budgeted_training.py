"""MaskingTrainer with batches by their number of tokens: epochs, steps, and a resume."""

from __future__ import annotations

import math

import numpy as np
import pytest
from datasets import Dataset
from transformers import TrainerCallback

from maskwright import recipe
from maskwright.errors import ConfigError, DataError
from maskwright.hf import MaskingCollator, TokenBudget, TokenBudgetSampler
from maskwright.hf.batches import lengths as lengths_module
from maskwright.hf.guided.run import _has_clock
from maskwright.schedule import Linear
from tests.core import tokenizers
from tests.hf import tiny
from tests.hf.seen import RecordingTrainer, expected

ROWS = tiny.samples(22)
LENGTHS = np.array([len(row["input_ids"]) for row in ROWS])
# with few batches open, and this seed, epochs have different numbers of batches
BUDGET = TokenBudget(40, open_batches=2)
SEED = 1


def collator(**changes) -> MaskingCollator:
    return MaskingCollator(tokenizers.words(), recipe("roberta", **changes), seed=5)


class Counting(RecordingTrainer):
    """Each batch has the step and the epoch that the trainer is in, and keeps its budget."""

    def compute_loss(self, model, inputs, *args, **kwargs):
        assert set(inputs["clock"][:, 1].tolist()) == {self.state.global_step}
        assert int(inputs["clock"][0, 0]) == int((self.state.epoch or 0) + 1e-6)
        assert int(inputs["attention_mask"].sum()) <= self._budget.tokens
        return super().compute_loss(model, inputs, *args, **kwargs)


def trainer(path, *, rows=ROWS, dropout=False, policy=None, budget=BUDGET, **changes):
    return Counting(
        tiny.model(dropout=dropout),
        tiny.arguments(path, **({"num_train_epochs": 3, "seed": SEED} | changes)),
        collator(**(policy or {})),
        train_dataset=rows,
        tokens_per_batch=budget,
    )


def run(path, *, resume=None, **settings):
    made = trainer(path, **settings)
    made.train(resume_from_checkpoint=resume)
    return made


def wanted(epochs: int) -> dict[tuple[int, int], tuple]:
    ours = collator()
    return {
        (i, epoch): expected(ours, row["input_ids"], i, epoch)
        for i, row in enumerate(ROWS)
        for epoch in range(epochs)
    }


def sampler(accumulation: int = 1) -> TokenBudgetSampler:
    return TokenBudgetSampler(
        LENGTHS, BUDGET.tokens, seed=SEED, accumulation=accumulation, open_batches=2
    )


@pytest.mark.parametrize(
    "changes",
    [{}, {"gradient_accumulation_steps": 2}, {"dataloader_num_workers": 2}],
    ids=["plain", "accumulation", "workers"],
)
def test_epochs_of_unequal_length(changes, tmp_path):
    made = run(tmp_path, **changes)
    ours = sampler(changes.get("gradient_accumulation_steps", 1))
    batches = [ours.batches_in(epoch) for epoch in range(3)]
    assert len(set(batches)) > 1
    assert [
        sum(clock[0] == epoch for _, clock, *_ in made.batches) for epoch in range(3)
    ] == batches
    # every sample once an epoch, under the mask that it has in any batch
    assert len(made.batches) == sum(batches)
    assert sum(len(ids) for ids, *_ in made.batches) == 3 * len(ROWS)
    assert made.masks() == wanted(3)
    state = made.state
    assert state.global_step == state.max_steps == ours.steps_before(3)
    assert made._sampler.total_steps == state.max_steps
    assert (state.epoch, state.num_train_epochs) == (3, 3)


@pytest.mark.parametrize("epochs", [0.4, 1.5])
def test_part_of_an_epoch(epochs, tmp_path):
    made, ours = run(tmp_path, num_train_epochs=epochs), sampler()
    whole = int(epochs)
    steps = ours.steps_before(whole) + math.ceil((epochs - whole) * ours.steps_in(whole))
    assert made.state.global_step == made._sampler.total_steps == steps
    assert made.state.num_train_epochs == whole + 1


def test_a_number_of_steps(tmp_path):
    ours = sampler()
    steps = ours.steps_in(0) + ours.steps_in(1) + 2
    made = run(tmp_path, max_steps=steps)
    assert made.state.global_step == made._sampler.total_steps == len(made.batches) == steps
    assert made.state.epoch == pytest.approx(2 + 2 / ours.steps_in(2))
    assert made.state.num_train_epochs == 3


class SaveAt(TrainerCallback):
    """Saves a checkpoint after each of some steps."""

    def __init__(self, steps: set[int]) -> None:
        self.steps = steps

    def on_step_end(self, args, state, control, **_):
        control.should_save = state.global_step in self.steps


RESUMED = {"dropout": True, "gradient_accumulation_steps": 2, "policy": {"rate": Linear(0.5, 0.2)}}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing interrupts, saved in its first epoch, between two, and in its last."""
    folder, ours = tmp_path_factory.mktemp("whole"), sampler(2)
    made = trainer(folder, **RESUMED)
    made.add_callback(SaveAt({2, ours.steps_before(2), ours.steps_before(2) + 2}))
    made.train()
    return made, folder


@pytest.mark.parametrize("place", ["first epoch", "between", "later epoch"])
def test_a_resumed_run_is_the_uninterrupted_one(place, whole, tmp_path):
    made, folder = whole
    before = sampler(2).steps_before(2)
    saved = {"first epoch": 2, "between": before, "later epoch": before + 2}[place]
    resumed = run(tmp_path, resume=str(folder / f"checkpoint-{saved}"), **RESUMED)
    done = sum(clock[1] < saved for _, clock, *_ in made.batches)
    assert resumed.batches == made.batches[done:] != []
    assert resumed.state.global_step == made.state.global_step
    for one, other in zip(resumed.model.parameters(), made.model.parameters(), strict=True):
        assert one.equal(other)


def test_the_loss_is_a_mean_over_the_tokens_of_the_step(tmp_path):
    """One batch, or three: a step that sees all samples takes the same direction."""
    weights = []
    for budget, accumulation in [(TokenBudget(400), 1), (TokenBudget(150), 4)]:
        made = run(
            tmp_path, budget=budget, gradient_accumulation_steps=accumulation, max_steps=1,
            optim="sgd", learning_rate=0.1,
        )  # fmt: skip
        assert sum(len(ids) for ids, *_ in made.batches) == len(ROWS)
        weights.append([weight.detach().clone() for weight in made.model.parameters()])
        assert len(made.batches) == (1 if accumulation == 1 else 3)
    for one, other in zip(*weights, strict=True):
        assert one.allclose(other, atol=1e-6)


def test_lengths_are_read_once(tmp_path, monkeypatch):
    read = []
    slow = lengths_module._arrow_lengths
    monkeypatch.setattr(
        lengths_module, "_arrow_lengths", lambda table: read.append(1) or slow(table)
    )
    made = trainer(tmp_path, rows=Dataset.from_list(ROWS))
    for _ in range(2):
        loader = made.get_train_dataloader()
    assert read == [1]
    assert made._sampler.lengths.tolist() == LENGTHS.tolist()
    assert len(loader) == sampler().batches_in(0)


def test_a_column_of_lengths(tmp_path, monkeypatch):
    monkeypatch.setattr(lengths_module, "_arrow_lengths", None)
    rows = [row | {"length": len(row["input_ids"])} for row in ROWS]
    made = run(tmp_path, rows=Dataset.from_list(rows), max_steps=2)
    assert [ids for ids, *_ in made.batches] == [
        [int(index) for index in batch] for batch, _ in zip(sampler(), range(2), strict=False)
    ]


def test_a_plain_number_is_the_budget(tmp_path):
    made = trainer(tmp_path, budget=60, train_sampling_strategy="sequential")
    loader = made.get_train_dataloader()
    assert _has_clock(loader)  # Guidance asks
    ours = TokenBudgetSampler(LENGTHS, 60, shuffle=False)
    assert [batch["sample_ids"].tolist() for batch in loader] == [
        [int(index) for index in batch] for batch in ours
    ]


def test_what_cannot_be(tmp_path):
    with pytest.raises(ConfigError, match="22 tokens, more than tokens_per_batch=20"):
        trainer(tmp_path, budget=20).train()
    with pytest.raises(ConfigError, match="auto_find_batch_size lowers"):
        trainer(tmp_path, auto_find_batch_size=True)
    with pytest.raises(DataError, match="lengths of 22 samples"):
        trainer(tmp_path, budget=TokenBudget(48, lengths=LENGTHS[:5])).train()
    with pytest.raises(ConfigError, match="tokens_per_batch must be at least 1"):
        trainer(tmp_path, budget=0).train()
