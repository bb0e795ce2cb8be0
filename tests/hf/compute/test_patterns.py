"""An unpadded model with patterns attached has the loss and the gradients of the padded one."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch

from maskwright import Masking
from maskwright.attention import documents, nothing, per_head, wait_k, window
from maskwright.hf import (
    InteractionMask,
    MaskAware,
    MaskingCollator,
    MaskingTrainer,
    TopScores,
    accelerate_model,
    attach,
)
from maskwright.hf.compute.acceleration import Acceleration
from tests.core import tokenizers
from tests.hf import tiny
from tests.hf.compute import models, test_conditional

# one sample of the batches is empty, and some sources are shorter than a window needs
pytestmark = pytest.mark.filterwarnings("ignore::maskwright.errors.EmptyRowsWarning")
TWO = per_head([window(2), nothing])


def same_loss_and_gradients(
    made: Any, batch: dict[str, Any], inside: str = "", **patterns: Any
) -> None:
    """Of two models that ``made`` makes, one of them unpadded; patterns on what is ``inside``."""
    plain, model = made(), made()
    model.load_state_dict(plain.state_dict())
    for one in (plain, model):
        attach(one.get_submodule(inside), **patterns)
    wanted = plain(**batch).loss
    wanted.backward()
    with accelerate_model(model, unpad=True):
        found = model(**batch).loss
        found.backward()
    models.require_the_same(found, model, wanted, plain)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize(
    ("kind", "patterns"),
    [
        ("bert", {"encoder": window(2)}),
        ("bert", {"encoder": {1: TWO}}),
        ("roberta", {"encoder": window(3), "combine": "replace"}),
        ("modernbert", {"encoder": window(4)}),
        ("gpt2", {"decoder": window(3)}),
        ("llama", {"decoder": window(2, 1), "combine": "replace"}),
        ("bart", {"cross": wait_k(1)}),
        ("bart", {"encoder": window(2), "decoder": window(2), "cross": {0: TWO}}),
        ("bart", {"scores": {"cross": TopScores(2)}}),
        ("t5", {"cross": wait_k(2)}),
        ("t5", {"encoder": window(2), "decoder": {0: window(1)}}),
        ("t5", {"encoder": TWO, "cross": TWO}),
    ],
)
def test_loss_and_gradients_are_those_with_padding(kind, patterns, side):
    batch = models.batch(models.model(kind), side)
    same_loss_and_gradients(lambda: models.model(kind), batch, **patterns)


def test_padding_between_tokens_keeps_their_distances():
    batch = models.batch(models.model("bert"))
    batch["attention_mask"][0, 4:7] = 0
    batch["labels"][0, 4:7] = -100
    same_loss_and_gradients(lambda: models.model("bert"), batch, encoder=window(2))


@pytest.mark.parametrize("kind", ["bart", "t5"])
def test_of_a_conditional_masked_model(kind):
    batch = test_conditional.batch()
    same_loss_and_gradients(
        lambda: test_conditional.model(kind), batch, inside="model", cross=window(1)
    )


def test_learned_gates_on_pairs():
    made = []
    for aware in (True, False):
        model = models.model("bart")
        InteractionMask(model, "cross", per="pair", seed=3).at(1, 10)
        with accelerate_model(model) if aware else nullcontext():
            loss = model(**models.batch(model)).loss
            loss.backward()
        made += [loss, model]
    models.require_the_same(*made)


def test_columns_of_a_batch_reach_their_tokens():
    batch = models.batch(models.model("bert"))
    segments = torch.arange(20).expand(len(models.LENGTHS), -1) // 3
    batch["columns"] = {"encoder": {"segments": segments}}
    same_loss_and_gradients(lambda: models.model("bert"), batch, encoder=documents)


def test_layers_that_are_checkpointed():
    def made() -> Any:
        model = models.model("bert")
        model.activation_checkpointing_enable({"use_reentrant": False})
        return model

    same_loss_and_gradients(made, models.batch(made()), encoder=window(2))


def test_padding_goes_through_attention_alone():
    model, seen = models.model("bart"), []
    layer = model.model.decoder.layers[0]
    for part in (layer.fc1, layer.encoder_attn.q_proj, layer.encoder_attn.k_proj):
        part.register_forward_hook(lambda _, inputs, output: seen.append(tuple(output.shape[:2])))
    batch = models.batch(model)
    with attach(model, cross=wait_k(1)), accelerate_model(model):
        model(**batch)
    targets = int((batch["labels"] != -100).sum())
    sources = sum(models.LENGTHS)
    assert sorted(seen) == sorted([(1, targets), (1, targets), (1, sources)])


def test_patterns_may_be_attached_once_the_acceleration_is_made():
    model, plain = models.model("bart"), models.model("bart")
    batch = models.batch(model)
    acceleration = Acceleration(model)
    attach(plain, cross=wait_k(1))
    with attach(model, cross=wait_k(1)):
        acceleration.install()
        found = model(**batch).loss
        acceleration.remove()
    torch.testing.assert_close(found, plain(**batch).loss, rtol=1e-5, atol=0)
    acceleration.install()  # without patterns again
    found = model(**batch).loss
    acceleration.remove()
    torch.testing.assert_close(found, models.model("bart")(**batch).loss, rtol=1e-5, atol=0)


def test_a_trainer_unpads_a_model_with_patterns(tmp_path):
    losses = []
    for aware in (False, True):
        model = models.model("bert")
        attach(model, encoder=window(2))
        seen: list[int] = []
        model.bert.encoder.layer[0].intermediate.register_forward_hook(
            lambda _, inputs, output, seen=seen: seen.append(output.shape[0])
        )
        arguments = tiny.arguments(
            tmp_path / str(aware),
            max_steps=3,
            logging_strategy="steps",
            logging_steps=1,
            optim="sgd",
        )
        trainer = MaskingTrainer(
            model, arguments, MaskingCollator(tokenizers.words(), Masking(rate=0.3)),
            train_dataset=tiny.samples(), mask_aware=MaskAware(dtype=None) if aware else False,
        )  # fmt: skip
        trainer.train()
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
        assert set(seen) == {1 if aware else 4}
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
