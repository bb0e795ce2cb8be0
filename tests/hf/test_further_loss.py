"""Losses beside that of the labels, given to MaskingTrainer."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from maskwright.errors import ConfigError
from maskwright.hf import MaskAware
from tests.hf.pairs.test_training import first_batch, loss_and_gradients, trainer_of


class Size:
    """Half the square of one weight of the model, of which a batch has the share of its tokens."""

    needs_logits = False

    def __init__(self, weight: torch.Tensor) -> None:
        self.weight = weight
        self.seen: list[Any] = []

    def further_loss(self, run, inputs, batch, places, logits, tokens):
        self.seen.append(logits)
        real = batch["attention_mask"].sum()
        share = 1.0 if tokens is None else real / tokens
        assert len(places) == int((batch["labels"] != -100).sum())
        return share * 0.5 * self.weight.square().sum()

    def measures(self):
        return {"size": float(self.weight.detach().square().sum())}


@pytest.mark.parametrize("aware, logits", [(False, True), (MaskAware(dtype=None), False)])
def test_it_is_added_and_its_gradient_too(aware, logits, tmp_path):
    plain = trainer_of("bart", tmp_path)
    trainer = trainer_of("bart", tmp_path, mask_aware=aware)
    size = Size(trainer.model.get_input_embeddings().weight)
    trainer._further = [size]
    batch = first_batch(plain)
    loss, found = loss_and_gradients(trainer, batch)
    without, wanted = loss_and_gradients(plain, batch)
    weight = size.weight.detach()
    torch.testing.assert_close(loss, without + 0.5 * weight.square().sum(), rtol=1e-5, atol=0)
    name = next(n for n, p in trainer.model.named_parameters() if p is size.weight)
    torch.testing.assert_close(found[name], wanted[name] + weight, rtol=1e-4, atol=1e-5)
    # where it needs none, a mask-aware step computes its loss a few rows at a time
    assert (size.seen[-1] is not None) == logits


def test_several_are_given_to_the_trainer_and_logged(tmp_path):
    made: list[Size] = []

    class Late(Size):
        def __init__(self) -> None:
            super().__init__(torch.zeros(1))

    made = [Late(), Late()]
    trainer = trainer_of(
        "bart", tmp_path, further=made, max_steps=2, per_device_train_batch_size=3,
        gradient_accumulation_steps=2, logging_strategy="steps", logging_steps=1,
    )  # fmt: skip
    trainer.train()
    assert [len(one.seen) for one in made] == [4, 4]
    assert any("size" in entry for entry in trainer.state.log_history)


def test_what_is_no_loss_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="got a str, which has no further_loss"):
        trainer_of("bart", tmp_path, further=["l2"])
