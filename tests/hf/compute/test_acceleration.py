"""An accelerated model has the loss and the gradients of the plain one."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from maskwright.attention import window
from maskwright.errors import ConfigError, ModelError
from maskwright.hf import accelerate_model, attach
from tests.hf.compute import models
from tests.hf.pairs import models as pair_models

SIDES = pytest.mark.parametrize("side", ["right", "left"])
EVERY = pytest.mark.parametrize("kind", models.MODELS)
PARTS = [(True, True), (True, False), (False, True)]


def same_loss_and_gradients(model: Any, batch: dict[str, Any], *parts: Any) -> None:
    plain = copy.deepcopy(model)
    wanted = plain(**batch).loss
    wanted.backward()
    with accelerate_model(model, *parts):
        found = model(**batch).loss
        found.backward()
    models.require_the_same(found, model, wanted, plain)


@SIDES
@EVERY
def test_loss_and_gradients_are_those_of_the_plain_model(kind, side):
    model = models.model(kind)
    same_loss_and_gradients(model, models.batch(model, side), True, True)


@pytest.mark.parametrize(("head", "unpad"), PARTS[1:])
@pytest.mark.parametrize("kind", ["bert", "gpt2", "bart", "t5"])
def test_each_part_alone(kind, head, unpad):
    model = models.model(kind)
    same_loss_and_gradients(model, models.batch(model, lengths=(20, 3, 1, 12, 7)), head, unpad)


@pytest.mark.parametrize("lengths", [(20, 20), (13,), (20,)])
@pytest.mark.parametrize("kind", ["roberta", "modernbert", "bart"])
def test_without_padding_and_of_one_sample(kind, lengths):
    model = models.model(kind)
    same_loss_and_gradients(model, models.batch(model, lengths=lengths), True, True)


@pytest.mark.parametrize("kind", ["bert", "modernbert", "bart"])
def test_padding_between_tokens_keeps_their_distances(kind):
    model = models.model(kind)
    batch = models.batch(model)
    batch["attention_mask"][0, 4:7] = 0
    if kind != "bart":
        batch["labels"][0, 4:7] = -100
    same_loss_and_gradients(model, batch, True, True)


def test_a_causal_window():
    sizes = {"vocab_size": 100, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "sliding_window": 5}
    torch.manual_seed(0)
    model = MistralForCausalLM(MistralConfig(**sizes, **heads, pad_token_id=0)).train()
    same_loss_and_gradients(model, models.batch(model, "left"), True, True)


@pytest.mark.parametrize("kind", ["bert", "llama", "bart", "t5"])
def test_layers_that_are_checkpointed(kind):
    model = models.model(kind)
    model.activation_checkpointing_enable({"use_reentrant": False})
    same_loss_and_gradients(model, models.batch(model), True, True)


@EVERY
def test_logits_at_tokens_are_those_of_the_plain_model(kind):
    model = models.model(kind).eval()
    batch = models.batch(model)
    real = batch["attention_mask"].bool()
    labels = batch.pop("labels")
    if kind in ("bart", "t5"):
        batch |= {
            "decoder_input_ids": labels.clamp(min=0),
            "decoder_attention_mask": labels != -100,
        }
        real = labels != -100
    wanted = model(**batch).logits
    with accelerate_model(model):
        found = model(**batch).logits
    torch.testing.assert_close(found[real], wanted[real], rtol=1e-5, atol=1e-5)
    assert found.shape == wanted.shape


def test_padding_does_not_go_through_and_the_output_embedding_runs_nowhere():
    model = models.model("bert")
    batch, seen = models.batch(model), []
    for part in (model.bert.encoder.layer[0].intermediate, model.cls.predictions.decoder):
        part.register_forward_hook(lambda _, inputs, output: seen.append(inputs[0].shape[1]))
    with accelerate_model(model):
        output = model(**batch)
    # with its logits for no position
    assert seen == [sum(models.LENGTHS), 0]
    assert output.logits is None


def test_samples_of_a_row_do_not_see_each_other():
    model = models.model("gpt2").eval()
    batch = models.batch(model)
    del batch["labels"]
    other = {**batch, "input_ids": batch["input_ids"].clone()}
    other["input_ids"][0] += 1
    with accelerate_model(model):
        one, two = (model(**each).logits for each in (batch, other))
    assert torch.equal(one[1:], two[1:])
    assert not torch.equal(one[0], two[0])


def test_attention_dropout_draws_from_the_same_distribution():
    """Of one sample the mean over many draws is the output without dropout, for both."""
    model = models.model("bert")
    for layer in model.bert.encoder.layer[1:]:
        layer.forward = lambda hidden, *_, **__: hidden
    model.bert.encoder.layer[0].attention.self.dropout.p = 0.5
    seen = []
    output = model.bert.encoder.layer[0].attention.self
    output.register_forward_hook(lambda *call: seen.append(call[2][0].detach()))
    ids = torch.randint(5, 100, (1, 6), generator=torch.Generator().manual_seed(3))
    batch = {"input_ids": ids.repeat(400, 1), "attention_mask": torch.ones(400, 6).long()}
    batch["input_ids"] = torch.nn.functional.pad(batch["input_ids"], (0, 2))
    batch["attention_mask"] = torch.nn.functional.pad(batch["attention_mask"], (0, 2))
    torch.manual_seed(0)
    with torch.no_grad():
        model(**batch)
        with accelerate_model(model, head=False):
            model(**batch)
        model.eval()
        model(**batch)
    plain, row, exact = seen[0][:, :6], seen[1].unflatten(1, (400, 6))[0], seen[2][0, :6]
    torch.testing.assert_close(row.mean(0), exact, rtol=0, atol=4 * plain.std() / 20)
    torch.testing.assert_close(row.std(0), plain.std(0), rtol=0.25, atol=0)


def test_removed_the_model_is_what_it_was():
    for kind in ("bart", "t5", "roberta"):
        model = models.model(kind)
        batch, before = models.batch(model), models.model(kind)
        acceleration = accelerate_model(model)
        name = model.config._attn_implementation
        model(**batch)
        acceleration.remove()
        acceleration.remove()
        assert torch.equal(model(**batch).loss, before(**batch).loss)
        assert model.config._attn_implementation == "sdpa" != name
        for part in model.modules():
            assert not part._forward_hooks
            assert not part._forward_pre_hooks
            assert not [key for key in vars(part) if "maskwright" in key or key == "compute_bias"]
        accelerate_model(model).remove()


def two_of_one_config(kind: str) -> tuple[Any, Any]:
    """A model, and one with the same weights that was made from the very same config object."""
    first = models.model(kind)
    second = type(first)(first.config).train()
    second.load_state_dict(first.state_dict())
    assert second.config is first.config
    return first, second


@pytest.mark.parametrize("kind", ["bert", "bart"])
def test_another_model_of_the_same_config_is_untouched(kind):
    first, second = two_of_one_config(kind)
    config, before = first.config, copy.deepcopy(vars(first.config))
    batch = models.batch(first)
    wanted = second(**batch).loss
    with accelerate_model(first):
        assert vars(config) == before
        assert second.config is config
        assert torch.equal(second(**batch).loss, wanted)
        attach(second, encoder=window(2)).detach()  # refused where a model's name is ours
    assert all(part.config is config for part in first.modules() if hasattr(part, "config"))
    assert vars(config) == before


def test_of_two_models_of_one_config_either_may_be_given_back_first():
    first, second = two_of_one_config("bert")
    batch = models.batch(first)
    wanted = second(**batch).loss
    one, two = accelerate_model(first, unpad=True), accelerate_model(second, unpad=True)
    one.remove()
    torch.testing.assert_close(second(**batch).loss, wanted, rtol=1e-5, atol=0)
    two.remove()
    assert torch.equal(first(**batch).loss, wanted)
    assert torch.equal(second(**batch).loss, wanted)


def test_what_is_set_in_the_config_meanwhile_stays():
    model = models.model("bart")
    config = model.config
    with accelerate_model(model):
        model.config.forced_eos_token_id = 7
        model.set_attn_implementation("eager")
    assert model.config is config
    assert config.forced_eos_token_id == 7
    assert config._attn_implementation == "eager"


def test_a_config_of_two_sides_holds_those_of_the_sides():
    model = pair_models.model("bert2bert")
    config, sides = model.config, (model.config.encoder, model.config.decoder)
    with accelerate_model(model, unpad=True):
        assert model.config.encoder is model.encoder.config is not sides[0]
        assert model.config.decoder is model.decoder.config is not sides[1]
    assert model.config is config
    assert model.encoder.config is config.encoder is sides[0]
    assert model.decoder.config is config.decoder is sides[1]


def test_after_a_pass_that_broke_off_the_next_one_works():
    model = models.model("bert")
    batch = models.batch(model)
    wanted = model(**batch).loss
    with accelerate_model(model):
        with pytest.raises(IndexError):
            model(**(batch | {"input_ids": batch["input_ids"] + 1000}))
        torch.testing.assert_close(model(**batch).loss, wanted)


def test_no_predicted_token_is_the_loss_0():
    model = models.model("gpt2")
    batch = models.batch(model)
    batch["labels"].fill_(-100)
    with accelerate_model(model):
        loss = model(**batch).loss
        loss.backward()
    assert loss == 0
    assert all((one == 0).all() for one in models.gradients(model).values())


def test_generate_and_hidden_states_go_through_as_ever():
    model = models.model("llama").eval()
    batch = models.batch(model, "left", (20, 3, 12))
    del batch["labels"]
    options = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0, "eos_token_id": 99}
    wanted = model.generate(**batch, **options)
    states = model(**batch, output_hidden_states=True).hidden_states
    with accelerate_model(model):
        assert torch.equal(model.generate(**batch, **options), wanted)
        found = model(**batch, output_hidden_states=True).hidden_states
    assert all(map(torch.equal, found, states))


def test_the_first_token_behind_left_padding_is_not_predicted():
    model = models.model("gpt2")
    batch = models.batch(model, "left")
    first = {**batch, "labels": batch["labels"].clone()}
    first["labels"][1, 17] = 7
    with accelerate_model(model):
        assert model(**first).loss == model(**batch).loss
    assert model(**first).loss != model(**batch).loss


# -- what is refused -----------------------------------------------------------------------------


def gemma() -> Any:
    torch.manual_seed(0)
    sizes = {"vocab_size": 100, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16}
    config = Gemma2Config(**sizes, **heads, attn_implementation="eager", pad_token_id=0)
    return Gemma2ForCausalLM(config).train()


def test_logits_that_are_capped_are_refused():
    model = gemma()
    with (
        accelerate_model(model, unpad=False),
        pytest.raises(ModelError, match=r"scales or caps its logits .* Use head=False"),
    ):
        model(**models.batch(model))


def test_scores_that_are_capped_are_refused():
    model = gemma()
    with (
        accelerate_model(model, head=False),
        pytest.raises(ModelError, match=r"hands softcap= to its attention function"),
    ):
        model(**models.batch(model))


def test_a_second_acceleration_and_patterns_on_an_accelerated_model_are_refused():
    model = models.model("bert")
    with accelerate_model(model):
        with pytest.raises(ModelError, match="maskwright-row-sdpa"):
            attach(model, encoder=window(2))
        with pytest.raises(ModelError, match="BertForMaskedLM is accelerated already"):
            accelerate_model(model)


def test_other_models_and_nothing_to_do_are_refused():
    with pytest.raises(ModelError, match="BertModel is no language model"):
        accelerate_model(models.model("bert").bert)
    with pytest.raises(ConfigError, match="has nothing to do"):
        accelerate_model(models.model("bert"), head=False, unpad=False)
    with pytest.raises(ConfigError, match="unpad='always'"):
        accelerate_model(models.model("bert"), unpad="always")  # type: ignore[arg-type]


def test_a_tensor_that_may_belong_to_the_tokens_is_refused():
    model = models.model("llama")
    batch = models.batch(model)
    with (
        accelerate_model(model),
        pytest.raises(ModelError, match=r"given colours= of shape \(6, 20\)"),
    ):
        model(**batch, colours=torch.zeros(6, 20))
