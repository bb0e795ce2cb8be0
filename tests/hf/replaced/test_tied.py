"""One body that predicts masked tokens and judges what it put there: loss, gradients, runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForMaskedLM, BertForTokenClassification, TrainerCallback

from maskwright import Masking
from maskwright.errors import ConfigError, ModelError
from maskwright.hf import MaskingCollator, MaskingTrainer, TiedReplacedTokenDetection
from tests.core import tokenizers
from tests.hf import tiny
from tests.hf.forked import free_port
from tests.hf.replaced import tied_rank

ROWS = [row | {"sample_id": 100 + i} for i, row in enumerate(tiny.samples(12))]
POLICY = Masking(rate=0.3)
KINDS = ("bert", "modernbert")
ROOT = Path(__file__).parents[3]


class Broken(Exception):
    """The run was killed."""


class Kill(TrainerCallback):
    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 5:
            raise Broken


def tied(kind: str = "bert", **others: Any) -> TiedReplacedTokenDetection:
    return TiedReplacedTokenDetection(tiny.model(kind), **others)


def trainer_of(path: Path, model: Any, rows: Any = None, **changes: Any) -> MaskingTrainer:
    return MaskingTrainer(
        model,
        tiny.arguments(path, **changes),
        MaskingCollator(tokenizers.words(), POLICY, seed=5),
        train_dataset=ROWS if rows is None else rows,
    )


def trained(path: Path, model: Any, resume: str | None = None, **changes: Any) -> MaskingTrainer:
    trainer = trainer_of(path, model, **changes)
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def batch_of(rows: Any = None, pad: int | None = None) -> dict[str, torch.Tensor]:
    collator = MaskingCollator(
        tokenizers.words(), POLICY, seed=5, carry=True, pad_to_multiple_of=pad
    )
    collator.set_clock(0, 7)
    return dict(collator(ROWS if rows is None else rows))


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# -- the loss -----------------------------------------------------------------------------------


class Watching(TiedReplacedTokenDetection):
    """Keeps the text that it judged."""

    judged: Any = None

    def forward(self, input_ids: Any, *inputs: Any, **others: Any) -> Any:
        if others.get("judged"):
            self.judged = input_ids
        return super().forward(input_ids, *inputs, **others)


def explicit_loss(made: Any, batch: dict[str, torch.Tensor], filled: torch.Tensor) -> torch.Tensor:
    """Two passes of the body, and a sum over single tokens."""
    mask = batch["attention_mask"]
    logits = made.model(input_ids=batch["input_ids"], attention_mask=mask).logits
    hidden = made.model.base_model(input_ids=filled, attention_mask=mask).last_hidden_state
    first, second, predicted, tokens = 0.0, 0.0, 0, 0
    for row, column in mask.nonzero().tolist():
        tokens += 1
        label = int(batch["labels"][row, column])
        chance = torch.sigmoid(made.judge(hidden[row, column])[0])
        original = label if label != -100 else int(batch["input_ids"][row, column])
        wrong = int(filled[row, column]) != original
        second = second - torch.log(chance if wrong else 1 - chance)
        if label != -100:
            predicted += 1
            first = first - logits[row, column].log_softmax(0)[label]
        else:
            assert not wrong
    return first / predicted + made.weight * second / tokens


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("predicted_only", [True, False])
def test_loss_and_gradients_are_those_of_two_explicit_passes(tmp_path, kind, predicted_only):
    made = Watching(tiny.model(kind), weight=7.0).double().train()
    trainer = trainer_of(tmp_path, made)
    trainer.predicted_only = predicted_only
    batch = batch_of()
    loss = trainer.compute_loss(made, dict(batch))
    loss.backward()
    ours = {name: p.grad.clone() for name, p in made.named_parameters() if p.grad is not None}
    filled = made.judged
    made.zero_grad()
    expected = explicit_loss(made, batch, filled)
    expected.backward()
    assert float(loss.detach()) == pytest.approx(
        float(expected.detach()), rel=1e-7
    )  # the trainer: in float32
    assert {"judge.0.weight", "judge.2.bias"} < ours.keys()
    for name, parameter in made.named_parameters():
        if name in ours:
            torch.testing.assert_close(ours[name], parameter.grad, rtol=1e-5, atol=1e-8)
        else:
            assert parameter.grad is None, name
    changed = filled != batch["input_ids"]
    assert changed.any()
    assert not changed[batch["labels"] == -100].any()


def test_measures_are_of_the_last_batch(tmp_path):
    made = Watching(tiny.model()).train()
    trainer = trainer_of(tmp_path, made)
    assert made.measures() == {}
    batch = batch_of()
    trainer.compute_loss(made, dict(batch))
    truth = torch.where(batch["labels"] != -100, batch["labels"], batch["input_ids"])
    real = batch["attention_mask"] == 1
    wrong = (made.judged != truth)[real]
    found = made.measures()
    assert found["replaced/share"] == pytest.approx(float(wrong.float().mean()))
    logits = made(made.judged, attention_mask=batch["attention_mask"], judged=True)[real]
    assert found["replaced/accuracy"] == pytest.approx(
        float(((logits > 0) == wrong).float().mean())
    )
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, wrong.float())
    assert found["replaced/loss"] == pytest.approx(float(expected.detach()), rel=1e-5)


@given(cut=st.integers(1, 11))
def test_micro_batches_add_up_to_the_whole(tmp_path_factory, cut):
    """However long their samples are, and however many tokens each predicts."""
    made = tied().double().train()
    trainer = trainer_of(tmp_path_factory.getbasetemp() / "micro", made)
    parts = [batch_of(ROWS[:cut], pad=32), batch_of(ROWS[cut:], pad=32)]
    items = trainer._get_num_items_in_batch(parts, torch.device("cpu"))
    found = sum(trainer.compute_loss(made, dict(one), num_items_in_batch=items) for one in parts)
    whole = trainer.compute_loss(made, batch_of(pad=32))
    assert float(found.detach()) == pytest.approx(float(whole.detach()), rel=1e-6)


def test_accumulation_trains_as_one_batch_does(tmp_path):
    one, two = tied().double(), tied().double()
    trained(tmp_path / "one", one, per_device_train_batch_size=4)
    settings = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
    trained(tmp_path / "two", two, **settings)
    for name, value in weights(one).items():
        torch.testing.assert_close(value, weights(two)[name], rtol=0, atol=1e-7)


# -- beside an ordinary masked language model -----------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_with_weight_0_the_model_trains_as_without(tmp_path, kind):
    plain = tiny.model(kind)
    trained(tmp_path / "plain", plain)
    made = tied(kind, weight=0.0)
    trained(tmp_path / "tied", made)
    assert same(weights(plain), weights(made.model))
    heavy = tied(kind)
    trained(tmp_path / "heavy", heavy)
    assert not same(weights(plain), weights(heavy.model))


def test_tokens_are_counted_once(tmp_path):
    plain, both = trained(tmp_path / "a", tiny.model()), trained(tmp_path / "b", tied())
    assert (plain.tokens_seen, plain.predicted_tokens) == (both.tokens_seen, both.predicted_tokens)


def test_it_is_evaluated_as_a_masked_language_model(tmp_path):
    made = tied()
    trainer = trained(tmp_path, made, max_steps=2)
    trainer.eval_dataset = ROWS
    plain = trainer_of(tmp_path / "plain", made.model)
    for one in (trainer, plain):
        found = one.evaluate(tiny.samples(9))["eval_loss"]
        assert found == plain.evaluate(tiny.samples(9))["eval_loss"] > 0


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_is_an_ordinary_masked_language_model(tmp_path, kind):
    made = tied(kind)
    trained(tmp_path / "run", made, max_steps=3)
    made.save_pretrained(tmp_path / "kept")
    again, found = AutoModelForMaskedLM.from_pretrained(tmp_path / "kept", output_loading_info=True)
    assert not any(found[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert same(weights(again), weights(made.model))


# -- the same again -------------------------------------------------------------------------------


def test_a_second_run_is_the_same_to_the_last_bit(tmp_path):
    runs = []
    for name in "ab":
        torch.rand(7)  # the first weights of the second head come from the seed alone
        made = tied()
        trainer = trained(tmp_path / name, made, logging_strategy="steps", logging_steps=1)
        runs.append((weights(made), [line.get("loss") for line in trainer.state.log_history]))
    assert same(runs[0][0], runs[1][0])
    assert runs[0][1] == runs[1][1]
    other = tied(seed=1)
    trained(tmp_path / "c", other)
    assert not same(runs[0][0], weights(other))


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_goes_on_bit_for_bit(tmp_path, kind):
    saving = {"save_strategy": "steps", "save_steps": 4}
    whole = tied(kind)
    trained(tmp_path / "whole", whole, **saving)
    trainer = trainer_of(tmp_path / "broken", tied(kind), **saving)
    trainer.add_callback(Kill())
    with pytest.raises(Broken):
        trainer.train()
    resumed = tied(kind)
    checkpoint = str(tmp_path / "broken" / "checkpoint-4")
    trainer = trained(tmp_path / "broken", resumed, resume=checkpoint, **saving)
    assert trainer.state.global_step == 6
    assert same(weights(whole), weights(resumed))
    assert not same(weights(whole), weights(tied(kind)))


def test_gradient_checkpointing_changes_nothing(tmp_path):
    plain, saving = tied(), tied()
    trained(tmp_path / "a", plain)
    trained(tmp_path / "b", saving, activation_checkpointing=True)
    for name, value in weights(plain).items():
        torch.testing.assert_close(value, weights(saving)[name], rtol=0, atol=1e-6)


@pytest.mark.slow  # each process imports transformers anew
def test_two_ranks_train_as_one(tmp_path):
    port, started = str(free_port()), []
    for number in range(2):
        environment = os.environ | {
            "RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": "2",
            "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
        }  # fmt: skip
        command = [sys.executable, "-m", "tests.hf.replaced.tied_rank", str(tmp_path), "3"]
        started.append(subprocess.Popen(command, cwd=ROOT, env=environment))
    assert [process.wait(timeout=240) for process in started] == [0, 0]
    one = tied_rank.train(tmp_path / "one", 6)
    ranks = [torch.load(tmp_path / f"{number}.pt") for number in range(2)]
    assert same(*ranks)
    for name, value in one.items():  # sums over ranks round otherwise
        torch.testing.assert_close(ranks[0][name], value, rtol=0, atol=1e-5)


def test_measures_are_logged(tmp_path):
    trainer = trained(tmp_path, tied(), logging_strategy="steps", logging_steps=2)
    lines = [line for line in trainer.state.log_history if "loss" in line]
    assert len(lines) == 3
    for line in lines:
        assert 0 < line["replaced/share"] < 0.5
        assert line["loss"] > 50 * line["replaced/loss"] * 0.5


# -- refusals -----------------------------------------------------------------------------------


def test_what_cannot_be_is_said():
    with pytest.raises(ConfigError, match="weight=-1"):
        tied(weight=-1.0)
    with pytest.raises(ConfigError, match="weight=nan"):
        tied(weight=float("nan"))
    made, batch = tied(), batch_of()

    class Wrapped:
        find_unused_parameters = True

    with pytest.raises(ConfigError, match="ddp_find_unused_parameters=False"):
        made.further_loss(Wrapped(), batch, batch, batch["labels"], batch["labels"], None)  # type: ignore[arg-type]
    judge = BertForTokenClassification(tiny.model().config)
    with pytest.raises(ModelError, match="got BertForTokenClassification"):
        TiedReplacedTokenDetection(judge)
