"""The head at predicted positions only gives the loss and the gradients of the head everywhere."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, BertModel

from maskwright import Masking
from maskwright.errors import ConfigError, ModelError
from maskwright.hf import MaskingCollator, MaskingTrainer, predicted_only
from tests.core import tokenizers
from tests.hf import tiny

ROWS = [row | {"sample_id": i} for i, row in enumerate(tiny.samples(8))]


def trainer(path, model: Any, *, narrow: bool = True, rate: float = 0.3) -> MaskingTrainer:
    collator = MaskingCollator(tokenizers.words(), Masking(rate=rate, refresh="static"), seed=3)
    return MaskingTrainer(
        model, tiny.arguments(path), collator, train_dataset=ROWS, predicted_only=narrow
    )


def loss_and_gradients(made: MaskingTrainer, rows=ROWS) -> tuple[torch.Tensor, dict]:
    model = made.model.train()
    loss = made.compute_loss(model, made.data_collator(rows))
    loss.backward()
    return loss.detach(), {
        name: parameter.grad for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }  # fmt: skip


@pytest.mark.parametrize("kind", tiny.MODELS)
def test_loss_and_gradients_of_each_family(kind, tmp_path):
    narrow, everywhere = (
        loss_and_gradients(trainer(tmp_path, tiny.model(kind), narrow=narrow))
        for narrow in (True, False)
    )
    torch.testing.assert_close(narrow[0], everywhere[0], rtol=1e-5, atol=0)
    assert narrow[1].keys() == everywhere[1].keys()
    assert len(narrow[1]) > 10
    for name, gradient in narrow[1].items():
        torch.testing.assert_close(gradient, everywhere[1][name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", tiny.MODELS)
def test_it_is_the_loss_of_the_model_itself(kind, tmp_path):
    model = tiny.model(kind)
    made = trainer(tmp_path, model)
    batch = made.data_collator(ROWS)
    ours = made.compute_loss(model, batch)
    plain = {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}
    torch.testing.assert_close(ours, model(**plain).loss, rtol=1e-5, atol=0)


@pytest.mark.parametrize("kind", tiny.MODELS)
@pytest.mark.parametrize("narrow", [True, False])
def test_no_predicted_token_is_the_loss_0(kind, narrow, tmp_path):
    made = trainer(tmp_path, tiny.model(kind), narrow=narrow, rate=0.0)
    loss, gradients = loss_and_gradients(made)
    assert loss == 0
    assert gradients
    assert all((gradient == 0).all() for gradient in gradients.values())
    divided = made.compute_loss(made.model, made.data_collator(ROWS), num_items_in_batch=0)
    assert divided == 0


def test_only_predicted_positions_reach_the_head(tmp_path):
    model = tiny.model()
    made, seen = trainer(tmp_path, model), []
    handle = model.cls.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    batch = made.data_collator(ROWS)
    made.compute_loss(model, batch)
    predicted = int(batch["labels"].ne(-100).sum())
    assert seen == [(1, predicted, 32)]
    _, outputs = made.compute_loss(model, batch, return_outputs=True)
    assert outputs.logits.shape == (*batch["labels"].shape, tiny.VOCABULARY)
    handle.remove()


def test_the_hook_is_gone_afterwards_also_after_an_error():
    model = tiny.model()
    ids, chosen = torch.full((2, 5), 7), torch.tensor([1, 8])
    before = model(input_ids=ids).logits
    with predicted_only(model, chosen, (2, 5)):
        inside = model(input_ids=ids).logits
    torch.testing.assert_close(inside[0], before.flatten(0, 1)[chosen])
    with pytest.raises(KeyError), predicted_only(model, chosen, (2, 5)):
        raise KeyError
    torch.testing.assert_close(model(input_ids=ids).logits, before)


def test_outputs_as_tuples_and_with_all_hidden_states():
    model = tiny.model()
    ids = torch.full((2, 5), 7)
    with predicted_only(model, torch.tensor([3]), (2, 5)):
        assert model(input_ids=ids, return_dict=False)[0].shape == (1, 1, tiny.VOCABULARY)
        states = model(input_ids=ids, output_hidden_states=True).hidden_states
    assert states[-1].shape == (2, 5, 32)


def enter(model, shape: tuple[int, int]) -> None:
    with predicted_only(model, torch.tensor([0]), shape):
        model(input_ids=torch.full((2, 5), 7))


def test_a_model_without_a_backbone_of_its_own_is_refused():
    with pytest.raises(ModelError, match="no backbone apart from its head"):
        enter(tiny.model().bert, (2, 5))


def test_hidden_states_of_another_shape_are_refused():
    with pytest.raises(ModelError, match=r"shape \(2, 5, 32\) for inputs of shape \(1, 10\)"):
        enter(tiny.model(), (1, 10))


def test_a_model_of_something_else_is_refused(tmp_path):
    config = BertConfig(
        vocab_size=100, hidden_size=32, intermediate_size=48, num_hidden_layers=1,
        num_attention_heads=2, pad_token_id=0,
    )  # fmt: skip
    with pytest.raises(ModelError, match=r"BertForSequenceClassification is no language model"):
        trainer(tmp_path, BertForSequenceClassification(config))
    with pytest.raises(ModelError, match="BertModel is no language model"):
        trainer(tmp_path, BertModel(config))


def test_another_collator_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"MaskingCollator\(tokenizer, masking\), got function"):
        MaskingTrainer(tiny.model(), tiny.arguments(tmp_path), lambda rows: rows)
