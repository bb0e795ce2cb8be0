"""A model whose middle layers run on some tokens: loss, gradients, runs, refusals."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertForTokenClassification, TrainerCallback

from maskwright import Masking
from maskwright.errors import BatchError, ConfigError, ModelError, SampleIdError
from maskwright.hf import (
    MaskAware,
    MaskingCollator,
    MaskingTrainer,
    TiedReplacedTokenDetection,
    TokenDropping,
    accelerate_model,
)
from maskwright.ragged import Ragged, offsets_of
from tests.core import tokenizers
from tests.hf import tiny
from tests.hf.compute import models
from tests.hf.token_dropping import slow

KINDS = ("bert", "roberta", "modernbert")
LENGTHS = (20, 3, 1, 12, 7)
SPECIAL = (7, 30)
ROWS = [row | {"sample_id": 100 + i} for i, row in enumerate(tiny.samples(12))]
POLICY = Masking(rate=0.3)


class Broken(Exception):
    """The run was killed."""


class Kill(TrainerCallback):
    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 5:
            raise Broken


def model_of(kind: str = "bert") -> Any:
    return slow.model_of(models.model, 4, kind)


def loud(model: Any) -> Any:
    """In double precision, with weights of which every one is felt."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter *= 5
    return model.double()


def clocked(batch: dict[str, Any]) -> dict[str, Any]:
    count = len(batch["input_ids"])
    clock = torch.tensor([[1, 6]]).expand(count, 2)
    return batch | {"sample_ids": torch.arange(count) + 50, "clock": clock}


def chosen_slowly(dropping: TokenDropping, batch: dict[str, Any]) -> torch.Tensor:
    """``(B, S)``: the tokens that the middle layers should run on."""
    marks = torch.zeros_like(batch["input_ids"], dtype=torch.bool)
    for number, (ids, real, labels) in enumerate(
        zip(batch["input_ids"], batch["attention_mask"], batch["labels"], strict=True)
    ):
        slots = [slot for slot, one in enumerate(real.tolist()) if one]
        if not slots:
            continue
        assert dropping.special_ids is not None
        always = [
            int(ids[slot]) in dropping.special_ids or int(labels[slot]) != -100 for slot in slots
        ]
        scores = [0.0] * len(slots)
        if dropping.running is not None:
            scores = [float(dropping.running.mean[ids[slot]]) for slot in slots]
        elif dropping.store is not None:
            scores = dropping.store.read(np.arange(50, 50 + len(marks))).to_lists()[number]
        draws = [slow.draw(dropping.seed, [1, 6], 50 + number, at) for at in range(len(slots))]
        for slot, one in zip(slots, slow.kept(scores, always, draws, dropping.share), strict=True):
            marks[number, slot] = one
    return marks


class Store:
    """Scores that anybody may read."""

    def read(self, sample_ids: np.ndarray) -> Ragged:
        lengths = np.array([LENGTHS[sample - 50] for sample in sample_ids.tolist()])
        values = np.sin(np.arange(lengths.sum())).astype(np.float32)
        values[::5] = np.nan
        return Ragged(values, offsets_of(lengths))


def dropping_of(model: Any, importance: Any, **others: Any) -> TokenDropping:
    store = Store() if importance == "store" else None
    settings = {"share": 0.4, "special_ids": SPECIAL, "seed": 3, "store": store} | others
    made = TokenDropping(model, importance=importance, **settings)
    if made.running is not None:
        made.running.mean = torch.cos(torch.arange(100.0) // 3)  # with ties
    return made


# -- against every token in every layer ---------------------------------------------------------


def same_as_slow(model: Any, dropping: TokenDropping, batch: dict[str, Any]) -> torch.Tensor:
    plain = copy.deepcopy(model)
    plain.set_attn_implementation("eager")
    chosen = chosen_slowly(dropping, batch)
    wanted = slow.loss(plain, batch, chosen, dropping.first, dropping.last)
    wanted.backward()
    with dropping:
        found = model(**clocked(batch)).loss
        found.backward()
    torch.testing.assert_close(found.double(), wanted.double(), rtol=1e-6, atol=0)
    right, mine = models.gradients(plain), models.gradients(model)
    assert right.keys() == mine.keys()
    for name, gradient in right.items():
        torch.testing.assert_close(mine[name], gradient, rtol=1e-4, atol=2e-6, msg=name)
    return chosen


@pytest.mark.parametrize("importance", ["loss", "store", "random"])
@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradients_are_those_of_dense_masks(kind, importance):
    model = loud(model_of(kind))
    batch = models.batch(model, lengths=LENGTHS)
    chosen = same_as_slow(model, dropping_of(model, importance), batch)
    assert 0.3 < int(chosen.sum()) / int(batch["attention_mask"].sum()) < 0.75


@pytest.mark.parametrize(("first", "last"), [(0, 1), (2, 1), (1, 0), (0, 0), (1, 2)])
def test_whatever_layers_are_full(first, last):
    model = loud(model_of("modernbert"))
    batch = models.batch(model, lengths=LENGTHS)
    same_as_slow(model, dropping_of(model, "random", first=first, last=last), batch)


def test_without_padding_and_with_it_on_the_left():
    for side, lengths in (("right", (20, 20)), ("left", (20, 3, 12))):
        model = loud(model_of("bert"))
        batch = models.batch(model, side, lengths)
        same_as_slow(model, dropping_of(model, "loss"), batch)


@pytest.mark.parametrize("kind", KINDS)
def test_with_share_1_it_is_the_plain_model(kind):
    model = loud(model_of(kind))
    plain = copy.deepcopy(model)
    batch = models.batch(model, lengths=LENGTHS)
    plain(**batch).loss.backward()
    with dropping_of(model, "loss", share=1.0):
        found = model(**clocked(batch)).loss
        found.backward()
    torch.testing.assert_close(found, plain(**batch).loss, rtol=1e-6, atol=0)
    for name, gradient in models.gradients(plain).items():
        torch.testing.assert_close(
            models.gradients(model)[name], gradient, rtol=1e-4, atol=2e-6, msg=name
        )


@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_layers_that_are_checkpointed(kind):
    model = loud(model_of(kind))
    model.activation_checkpointing_enable({"use_reentrant": False})
    same_as_slow(model, dropping_of(model, "loss"), models.batch(model, lengths=LENGTHS))


def test_the_middle_layers_compute_kept_tokens_only():
    model, seen = model_of(), []
    batch = models.batch(model, lengths=LENGTHS)
    for layer in model.bert.encoder.layer:
        layer.attention.self.query.register_forward_hook(
            lambda _module, inputs, _output: seen.append(inputs[0].shape[0] * inputs[0].shape[1])
        )
    dropping = dropping_of(model, "random")
    kept, real = int(chosen_slowly(dropping, batch).sum()), int(batch["attention_mask"].sum())
    with dropping:
        model(**clocked(batch))
    assert seen == [real, kept, kept, real]
    found = dropping.measures()
    assert found["token_dropping/kept"] == pytest.approx(kept / real)
    assert found["token_dropping/work"] == pytest.approx(sum(seen) / (4 * real))


# -- while it is on, and after ------------------------------------------------------------------


def test_in_evaluation_and_afterwards_the_model_is_plain():
    model, plain = model_of(), model_of()
    batch = models.batch(model, lengths=LENGTHS)
    dropping = dropping_of(model, "loss")
    with dropping:
        model(**clocked(batch))
        model.eval()
        assert torch.equal(model(**batch).loss, plain.eval()(**batch).loss)
    model.train()
    assert torch.equal(model(**batch).loss, plain.train()(**batch).loss)
    assert model.config._attn_implementation == "sdpa"
    for part in model.modules():
        assert not part._forward_hooks
        assert not part._forward_pre_hooks
        assert not [key for key in vars(part) if "maskwright" in key]
    dropping.remove()


def test_another_model_of_the_same_config_is_left_alone():
    model = model_of()
    other = type(model)(model.config)
    with dropping_of(model, "loss"):
        assert other.config._attn_implementation == "sdpa"
        assert model.base_model.config is not other.config
    assert model.config is model.base_model.config is other.config


def test_a_call_with_labels_teaches_what_is_hard():
    model = model_of()
    batch = models.batch(model, lengths=LENGTHS)
    dropping = TokenDropping(model, special_ids=SPECIAL, beta=0.5)
    assert dropping.running is not None
    with dropping:
        logits = model(**clocked(batch)).logits.detach()
    places = batch["labels"] != -100
    losses = torch.nn.functional.cross_entropy(
        logits[places], batch["labels"][places], reduction="none"
    )
    for token in batch["labels"][places].unique():
        mean = losses[batch["labels"][places] == token].mean()
        assert dropping.running.mean[token].item() == pytest.approx(5 + 0.5 * mean.item(), rel=1e-5)
    others = torch.ones(100, dtype=torch.bool)
    others[batch["labels"][places]] = False
    assert (dropping.running.mean[others] == 10).all()


def test_after_a_pass_that_broke_off_the_next_one_works():
    model = model_of()
    batch = clocked(models.batch(model, lengths=LENGTHS))
    with dropping_of(model, "random"):
        wanted = model(**batch).loss
        with pytest.raises(IndexError):
            model(**(batch | {"input_ids": batch["input_ids"] + 1000}))
        assert torch.equal(model(**batch).loss, wanted)


# -- runs ---------------------------------------------------------------------------------------


def trainer_of(path: Path, model: Any, dropping: Any, aware: Any = False, **changes: Any) -> Any:
    return MaskingTrainer(
        model,
        tiny.arguments(path, **changes),
        MaskingCollator(tokenizers.words(), POLICY, seed=5),
        train_dataset=ROWS,
        token_dropping=dropping,
        mask_aware=aware,
    )


def trained(
    path: Path, *, importance: Any = "loss", share: float = 0.5, resume: Any = None,
    aware: Any = False, kill: bool = False, **changes: Any,
) -> tuple[Any, TokenDropping, Any]:  # fmt: skip
    model = model_of("modernbert")
    dropping = TokenDropping(model, share, importance=importance, beta=0.9)
    trainer = trainer_of(path, model, dropping, aware, **changes)
    if kill:
        trainer.add_callback(Kill())
    trainer.train(resume_from_checkpoint=resume)
    return model, dropping, trainer


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one: Any, other: Any) -> bool:
    first, second = weights(one), weights(other)
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("importance", ["loss", "random"])
def test_a_resumed_run_goes_on_bit_for_bit(tmp_path, importance):
    saving = {"save_strategy": "steps", "save_steps": 4, "importance": importance}
    whole, kept, _ = trained(tmp_path / "whole", **saving)
    again, _, _ = trained(tmp_path / "again", importance=importance)
    assert same(whole, again)
    with pytest.raises(Broken):
        trained(tmp_path / "broken", kill=True, **saving)
    checkpoint = str(tmp_path / "broken" / "checkpoint-4")
    resumed, other, trainer = trained(tmp_path / "broken", resume=checkpoint, **saving)
    assert trainer.state.global_step == 6
    assert same(whole, resumed)
    if kept.running is not None and other.running is not None:
        assert torch.equal(kept.running.mean, other.running.mean)
        assert (kept.running.mean < 10).any()


def test_a_step_trains_as_its_micro_batches_do_and_half_of_the_tokens_are_left_out(tmp_path):
    log = {"logging_strategy": "steps", "logging_steps": 1}
    one, whole, trainer = trained(tmp_path / "one", **log)
    split = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
    two, parts, _ = trained(tmp_path / "two", **split)
    for name, value in weights(one).items():
        torch.testing.assert_close(value, weights(two)[name], rtol=0, atol=1e-5)
    assert whole.running is not None
    assert parts.running is not None
    torch.testing.assert_close(whole.running.mean, parts.running.mean, rtol=1e-5, atol=1e-5)
    lines = [line for line in trainer.state.log_history if "loss" in line]
    assert len(lines) == 6
    assert all(0.4 < line["token_dropping/kept"] < 0.7 for line in lines)
    assert not same(one, trained(tmp_path / "all", share=1.0)[0])


def test_with_mask_aware_it_is_the_same(tmp_path):
    one, _, _ = trained(tmp_path / "one")
    two, dropping, trainer = trained(tmp_path / "two", aware=MaskAware(dtype=None))
    for name, value in weights(one).items():
        torch.testing.assert_close(value, weights(two)[name], rtol=0, atol=1e-5)
    assert trainer._mask_aware.acceleration.stacks == []
    assert dropping.running is not None
    assert (dropping.running.mean < 10).any()
    assert not dropping.installed


def test_with_share_1_the_trainer_trains_the_plain_model(tmp_path):
    one, _, _ = trained(tmp_path / "one", share=1.0)
    two = model_of("modernbert")
    trainer_of(tmp_path / "two", two, None).train()
    for name, value in weights(one).items():
        torch.testing.assert_close(value, weights(two)[name], rtol=0, atol=1e-5)


def test_what_special_tokens_are_comes_from_the_collator(tmp_path):
    _, dropping, _ = trained(tmp_path)
    assert dropping.special_ids == (0, 1, 2, 3, 4)


# -- refusals -----------------------------------------------------------------------------------


def test_what_cannot_be_is_said(tmp_path):
    model = model_of()
    for wrong in (0, 1.1, float("nan")):
        with pytest.raises(ConfigError, match="share="):
            TokenDropping(model, wrong)
    with pytest.raises(ConfigError, match="Did you mean"):
        TokenDropping(model, importance="losses")  # type: ignore[arg-type]
    for others in ({"importance": "store"}, {"store": Store()}):
        with pytest.raises(ConfigError, match='"store" needs one'):
            TokenDropping(model, **others)
    for first, last in ((3, 1), (2, 2), (-1, 1), (True, 1)):
        with pytest.raises(ConfigError, match="leave no middle layer of the 4"):
            TokenDropping(model, first=first, last=last)
    with pytest.raises(ModelError, match="ALBERT"):
        TokenDropping(models.model("albert"), first=0, last=0)
    with pytest.raises(ModelError, match="takes a masked language model"):
        TokenDropping(BertForTokenClassification(model.config))
    with pytest.raises(ModelError, match="runs its encoder twice"):
        TokenDropping(TiedReplacedTokenDetection(tiny.model()))
    with pytest.raises(ConfigError, match="of another model"):
        trainer_of(tmp_path, model, TokenDropping(model_of()))


def test_what_a_pass_lacks_is_said():
    model = model_of()
    batch = models.batch(model, lengths=LENGTHS)
    with TokenDropping(model, special_ids=SPECIAL), pytest.raises(SampleIdError, match="carry"):
        model(**batch)
    with TokenDropping(model), pytest.raises(ConfigError, match="special_ids="):
        model(**clocked(batch))
    dropping = dropping_of(model, "store")
    with dropping, pytest.raises(BatchError, match="of other samples"):
        model(**clocked(models.batch(model, lengths=(19, 3, 1, 12, 7))))
    with dropping, pytest.raises(ModelError, match="output_hidden_states"):
        model(**clocked(batch), output_hidden_states=True)
    ids = batch.pop("input_ids")
    embedded = clocked(batch | {"input_ids": ids}) | {"input_ids": None}
    embedded["inputs_embeds"] = model.get_input_embeddings()(ids)
    with dropping, pytest.raises(ModelError, match="inputs_embeds"):
        model(**embedded)


def test_it_does_not_go_on_top_of_another():
    model = model_of()
    dropping = TokenDropping(model)
    with accelerate_model(model):
        with pytest.raises(ModelError, match="unpad=False"):
            dropping.install()
        with pytest.raises(ModelError, match="maskwright-row-sdpa"):
            TokenDropping(model)
    another = TokenDropping(model)
    batch = clocked(models.batch(model, lengths=LENGTHS))
    with (
        accelerate_model(model, unpad=False),
        TokenDropping(model, special_ids=SPECIAL, importance="random") as dropping,
    ):
        model(**batch).loss.backward()
        with pytest.raises(ModelError, match="drops tokens already"):
            another.install()
    assert not dropping.installed
    with (
        TokenDropping(model, special_ids=SPECIAL),
        accelerate_model(model, unpad=False),
        pytest.raises(ModelError, match="gives no logits"),
    ):
        model(**batch)
