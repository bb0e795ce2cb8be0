"""MaskingTrainer(mask_aware=True): the same loss and gradients, for every kind of model."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from maskwright import Masking
from maskwright.errors import ConfigError
from maskwright.guidance import ScoreStore
from maskwright.hf import (
    Guidance,
    MaskAware,
    MaskingCollator,
    MaskingTrainer,
    TiedReplacedTokenDetection,
)
from maskwright.hf.compute.mask_aware import has_bfloat16
from tests.core import tokenizers
from tests.hf import tiny
from tests.hf.compute import models
from tests.hf.test_other_models import CASES, batch_of, trainer_of

EXACT = MaskAware(dtype=None)
ROWS = [row | {"sample_id": i} for i, row in enumerate(tiny.samples(8))]


def masked(path: Any, model: Any, **options: Any) -> MaskingTrainer:
    collator = MaskingCollator(tokenizers.words(), Masking(rate=0.3, refresh="static"), seed=3)
    settings = {key: options.pop(key) for key in list(options) if key in ("max_steps", "bf16")}
    arguments = tiny.arguments(path, **settings)
    return MaskingTrainer(model, arguments, collator, train_dataset=ROWS, **options)


def aware_of(name: str, path: Any, settings: MaskAware = EXACT, **changes: Any) -> MaskingTrainer:
    class Aware(MaskingTrainer):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, mask_aware=settings)

    return trainer_of(name, path, Aware, **changes)


def loss_and_gradients(trainer: MaskingTrainer, batch: Any) -> tuple[torch.Tensor, dict]:
    model = trainer.model.train()
    model.zero_grad()
    trainer.current_gradient_accumulation_steps = 1
    loss = trainer.training_step(model, copy.copy(batch))
    return loss, models.gradients(model)


def assert_alike(found: tuple[torch.Tensor, dict], wanted: tuple[torch.Tensor, dict]) -> None:
    torch.testing.assert_close(found[0], wanted[0], rtol=1e-5, atol=0)
    assert found[1].keys() == wanted[1].keys()
    for name, gradient in wanted[1].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("kind", tiny.MODELS)
def test_masked_models(kind, tmp_path):
    plain, aware = (masked(tmp_path, tiny.model(kind), mask_aware=one) for one in (False, EXACT))
    batch = plain.data_collator(ROWS)
    assert not batch["attention_mask"].all()
    assert_alike(loss_and_gradients(aware, batch), loss_and_gradients(plain, batch))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_causal_models_and_encoder_decoders(name, weighed, smoothing, tmp_path):
    changes = {"label_smoothing_factor": smoothing}
    plain, aware = trainer_of(name, tmp_path, **changes), aware_of(name, tmp_path, **changes)
    batch = batch_of(name, plain)
    if weighed:
        batch["loss_weights"] = torch.rand(batch["labels"].shape)
    if smoothing:
        # the parent's own smoother is never asked
        assert plain.label_smoother is None or plain.label_smoother.epsilon == smoothing
    assert_alike(loss_and_gradients(aware, batch), loss_and_gradients(plain, batch))


@pytest.mark.parametrize(
    "part", [MaskAware(unpad=False, dtype=None), MaskAware(head=False, dtype=None)]
)
@pytest.mark.parametrize("name", ["gpt2, prefix", "bart"])
def test_each_part_alone(name, part, tmp_path):
    plain, aware = trainer_of(name, tmp_path), aware_of(name, tmp_path, part)
    batch = batch_of(name, plain)
    assert_alike(loss_and_gradients(aware, batch), loss_and_gradients(plain, batch))


@pytest.mark.parametrize("name", ["gpt2, fim", "bart"])
def test_left_padding_is_counted_as_it_is_compared(name, tmp_path, monkeypatch):
    """A first token behind padding has nothing to be predicted from, on either side."""
    losses = []
    for side in ("right", "left"):
        monkeypatch.setattr(CASES[name].tokenizer(), "padding_side", side)
        trainer = aware_of(name, tmp_path)
        batch = batch_of(name, trainer)
        count = trainer._get_num_items_in_batch([batch], torch.device("cpu"))
        trainer.model.train()
        losses.append((int(count), trainer.compute_loss(trainer.model, batch).item()))
    if name == "bart":
        # learned positions: left padding moves the tokens
        assert losses[0][0] == losses[1][0]
    else:
        assert losses[0][0] == losses[1][0]
        assert losses[0][1] == pytest.approx(losses[1][1], rel=0.05)


def test_a_run_takes_the_same_steps(tmp_path):
    def weights(mask_aware: Any) -> tuple[dict, float]:
        trainer = masked(tmp_path, tiny.model(), mask_aware=mask_aware, max_steps=4)
        trainer.train()
        return trainer.model.state_dict(), trainer.evaluate(ROWS)["eval_loss"]

    (plain, before), (aware, after) = weights(False), weights(EXACT)
    assert after == pytest.approx(before, rel=1e-4)
    for name, tensor in plain.items():
        torch.testing.assert_close(aware[name], tensor, rtol=1e-3, atol=1e-4)


def test_between_steps_the_model_is_a_plain_one(tmp_path):
    trainer = masked(tmp_path, tiny.model(), mask_aware=True, max_steps=1)
    trainer.train()
    assert trainer.model.config._attn_implementation == "sdpa"
    assert not any(part._forward_hooks for part in trainer.model.modules())
    batch = trainer.data_collator(ROWS)
    _, outputs = trainer.compute_loss(trainer.model.train(), batch, return_outputs=True)
    assert outputs.logits.shape == (*batch["labels"].shape, tiny.VOCABULARY)


def types_seen(trainer: MaskingTrainer) -> torch.dtype:
    seen: list[torch.dtype] = []
    layer = trainer.model.bert.encoder.layer[0].intermediate
    layer.register_forward_hook(lambda *call: seen.append(call[2].dtype))
    loss_and_gradients(trainer, trainer.data_collator(ROWS))
    return seen[0]


def test_bfloat16_where_the_processor_has_it(tmp_path, monkeypatch):
    import maskwright.hf.compute.mask_aware as room

    for there in (True, False):
        monkeypatch.setattr(room, "has_bfloat16", lambda device, there=there: there)
        found = types_seen(masked(tmp_path, tiny.model(), mask_aware=True))
        assert found == (torch.bfloat16 if there else torch.float32)
    assert types_seen(masked(tmp_path, tiny.model(), mask_aware=EXACT)) == torch.float32
    asked = MaskAware(dtype=torch.bfloat16)
    assert types_seen(masked(tmp_path, tiny.model(), mask_aware=asked)) == torch.bfloat16
    assert types_seen(masked(tmp_path, tiny.model())) == torch.float32
    assert isinstance(has_bfloat16(torch.device("cpu")), bool)
    assert not has_bfloat16(torch.device("meta"))


def test_in_bfloat16_the_loss_is_near(tmp_path):
    half = MaskAware(dtype=torch.bfloat16)
    plain, aware = (masked(tmp_path, tiny.model(), mask_aware=one) for one in (False, half))
    batch = plain.data_collator(ROWS)
    found, wanted = (loss_and_gradients(one, batch)[0] for one in (aware, plain))
    assert float(found) == pytest.approx(float(wanted), rel=1e-2)


@pytest.mark.parametrize("layers", [False, True])
def test_with_checkpointed_layers(layers, tmp_path):
    model = tiny.model()
    plain = masked(tmp_path, copy.deepcopy(model))
    if layers:
        model.activation_checkpointing_enable({"use_reentrant": False})
    aware = masked(tmp_path, model, mask_aware=EXACT)
    batch = plain.data_collator(ROWS)
    assert_alike(loss_and_gradients(aware, batch), loss_and_gradients(plain, batch))


def test_a_further_loss_is_the_same(tmp_path):
    plain, aware = (
        masked(tmp_path, TiedReplacedTokenDetection(tiny.model()), mask_aware=one)
        for one in (False, EXACT)
    )
    batch = plain.data_collator(ROWS)
    assert_alike(loss_and_gradients(aware, batch), loss_and_gradients(plain, batch))


@pytest.mark.parametrize(
    ("kind", "source"), [("bert", "attention"), ("modernbert", "attention"), ("bert", "loss")]
)
def test_guidance_reads_the_same_scores(kind, source, tmp_path):
    def scores(mask_aware: Any, path: Any) -> Any:
        path.mkdir()
        lengths = np.array([len(row["input_ids"]) for row in ROWS])
        store = ScoreStore.create(path / "scores.store", lengths)
        trainer = masked(
            path, tiny.model(kind), mask_aware=mask_aware, callbacks=[Guidance(store, source)],
            max_steps=2,
        )  # fmt: skip
        trainer.train()
        return store.read(np.arange(len(ROWS))).values

    plain, aware = scores(False, tmp_path / "plain"), scores(EXACT, tmp_path / "aware")
    assert np.isfinite(plain).any()
    np.testing.assert_allclose(aware, plain, rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["gpt2, prefix", "bart"])
def test_data_parallel_finds_every_parameter_used(name, tmp_path):
    """It looks from the model's outputs, where the loss is not yet."""
    plain, aware = trainer_of(name, tmp_path), aware_of(name, tmp_path)
    batch = batch_of(name, plain)
    wanted = loss_and_gradients(plain, batch)
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        wrapped = DistributedDataParallel(aware.model.train(), find_unused_parameters=True)
        for _ in range(2):
            aware.model.zero_grad()
            loss = aware.compute_loss(wrapped, batch)
            loss.backward()
    finally:
        distributed.destroy_process_group()
    assert_alike((loss.detach(), models.gradients(aware.model)), wanted)


def test_settings_that_leave_nothing_or_are_none(tmp_path):
    with pytest.raises(ConfigError, match="leaves nothing: mask_aware=False"):
        MaskAware(head=False, unpad=False, dtype=None)
    with pytest.raises(ConfigError, match=r"dtype=torch\.int64 of MaskAware"):
        MaskAware(dtype=torch.int64)
