"""The encoder computes visible tokens only; loss and gradients are those of dense masks."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch.nn import functional
from transformers import AutoModelForMaskedLM, BertForTokenClassification, TrainerCallback

from maskwright import Mask, Masking
from maskwright.errors import BatchError, ConfigError, ModelError
from maskwright.evaluation.heldout import HeldOut
from maskwright.hf import MaskAware, MaskingCollator, MaskingTrainer, VisibleOnly, accelerate_model
from tests.core import tokenizers
from tests.hf import tiny
from tests.hf.compute import models

KINDS = ("bert", "roberta", "modernbert")
MASK = 4
ROWS = [row | {"sample_id": 100 + i} for i, row in enumerate(tiny.samples(12))]
POLICY = Masking(rate=0.4, act=Mask())


class Broken(Exception):
    """The run was killed."""


class Kill(TrainerCallback):
    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 5:
            raise Broken


def visible(kind: str = "bert", **others: Any) -> VisibleOnly:
    return VisibleOnly(models.model(kind), mask_token_id=MASK, **others).train()


def loud(made: VisibleOnly) -> VisibleOnly:
    """In double precision, with weights of which every one is felt."""
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim > 1:
                parameter *= 5
    return made.double()


def masked_batch(model: Any, side: str = "right", lengths: Any = (20, 3, 1, 12, 7)) -> Any:
    """Most of what is predicted is masked, some of it is kept, and no sample is masked whole."""
    batch = models.batch(model, side, lengths)
    chosen = batch["labels"] != -100
    kept = torch.rand(chosen.shape, generator=torch.Generator().manual_seed(5)) < 0.2
    first = batch["attention_mask"].cumsum(1) == 1
    batch["input_ids"] = torch.where(chosen & ~kept & ~first, MASK, batch["input_ids"])
    return batch


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# -- against dense masks ------------------------------------------------------------------------


class Dense:
    """Every token goes through every layer, and dense masks hide what is hidden."""

    def __init__(self, made: VisibleOnly) -> None:
        self.model = copy.deepcopy(made.release())
        self.decoder = copy.deepcopy(made.decoder)
        for part in (self.model, self.decoder):
            part.set_attn_implementation("eager")

    def mask(self, seen: torch.Tensor) -> Any:
        """As the model takes it; of windows in full, as some rows of theirs are empty."""
        config = self.model.config
        if config.model_type != "modernbert":
            return seen.long()
        slots = torch.arange(seen.shape[1])
        near = (slots[:, None] - slots[None, :]).abs() <= config.sliding_window
        allowed = seen[:, None, None, :].expand(-1, 1, seen.shape[1], -1)
        kinds = {"full_attention": allowed, "sliding_attention": allowed & near}
        dtype = self.model.dtype
        return {kind: torch.where(one, 0.0, -1e9).to(dtype) for kind, one in kinds.items()}

    def states(self, batch: dict[str, Any]) -> torch.Tensor:
        real = batch["attention_mask"] == 1
        hidden = real & (batch["input_ids"] == MASK)
        base = self.model.base_model
        encoded = base(batch["input_ids"], attention_mask=self.mask(real & ~hidden))[0]
        row = self.decoder.get_input_embeddings().weight[0]
        given = torch.stack(
            [
                torch.stack([row if h else e for h, e in zip(hs, es, strict=True)])
                for hs, es in zip(hidden, encoded, strict=True)
            ]
        )
        positions = {}
        if self.model.config.model_type == "roberta":  # it does not count padding tokens
            counted = (batch["input_ids"] != 0).cumsum(1) * (batch["input_ids"] != 0)
            positions["position_ids"] = counted
        return self.decoder(inputs_embeds=given, attention_mask=self.mask(real), **positions)[0]

    def loss(self, batch: dict[str, Any]) -> torch.Tensor:
        model, states = self.model, self.states(batch)
        if model.config.model_type == "bert":
            logits = model.cls(states)
        elif model.config.model_type == "roberta":
            logits = model.lm_head(states)
        else:
            logits = model.decoder(model.head(states))
        return functional.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten())


def same_as_dense(made: VisibleOnly, batch: dict[str, Any]) -> None:
    found = made(**batch).loss
    found.backward()
    mine = {
        **models.gradients(made.model),
        **{f"decoder.{name}": value for name, value in models.gradients(made.decoder).items()},
    }
    made.zero_grad()
    dense = Dense(made)
    wanted = dense.loss(batch)
    wanted.backward()
    torch.testing.assert_close(found.double(), wanted.double(), rtol=1e-6, atol=0)
    right = {
        **models.gradients(dense.model),
        **{f"decoder.{name}": value for name, value in models.gradients(dense.decoder).items()},
    }
    assert right.keys() == mine.keys()
    for name, gradient in right.items():
        torch.testing.assert_close(mine[name], gradient, rtol=1e-4, atol=2e-6, msg=name)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradients_are_those_of_dense_masks(kind, side):
    made = loud(visible(kind))
    same_as_dense(made, masked_batch(made.model, side))


@pytest.mark.parametrize("layers", [1, 3])
def test_so_they_are_for_any_number_of_decoder_layers(layers):
    made = loud(visible("modernbert", decoder_layers=layers))
    same_as_dense(made, masked_batch(made.model))


@given(hidden=st.lists(st.booleans(), min_size=30, max_size=30))
@settings(max_examples=4, deadline=None, phases=(Phase.explicit, Phase.generate))
def test_so_they_are_whatever_is_masked(hidden):
    made = loud(visible("modernbert"))
    ids = torch.arange(30).view(2, 15) + 10
    chosen = torch.tensor(hidden).view(2, 15)
    chosen[:, 3] = False
    chosen[0, 4] = True
    batch = {
        "input_ids": torch.where(chosen, MASK, ids),
        "attention_mask": torch.ones(2, 15).long(),
        "labels": ids,
    }
    same_as_dense(made, batch)


def test_checkpointed_layers_and_the_batch_without_padding():
    made = loud(visible("modernbert"))
    made.activation_checkpointing_enable()
    same_as_dense(made, masked_batch(made.model, lengths=(20, 20)))


# -- who sees what ------------------------------------------------------------------------------


def test_masked_tokens_do_not_go_through_the_encoder():
    made, seen = visible(), {"encoder": 0, "decoder": 0}
    for name, part in (("encoder", made.model), ("decoder", made.decoder)):
        for layer in part.base_model.encoder.layer:

            def count(_module: Any, inputs: Any, _output: Any, name: str = name) -> None:
                seen[name] += inputs[0].shape[0] * inputs[0].shape[1]

            layer.register_forward_hook(count)
    batch = masked_batch(made.model)
    made(**batch)
    real = int(batch["attention_mask"].sum())
    masked = int((batch["input_ids"] == MASK).sum())
    assert 0 < masked < real < batch["input_ids"].numel()
    assert seen == {"encoder": 2 * (real - masked), "decoder": 2 * real}
    found = made.layer_tokens
    assert found is not None
    assert (found.encoder, found.decoder, found.plain) == (2 * (real - masked), 2 * real, 2 * real)
    assert found.share == (2 * real - masked) / real


def test_the_encoder_does_not_read_its_mask_embedding():
    made = visible().eval()
    batch, seen = masked_batch(made.model), []
    made.tail.register_forward_hook(lambda *call: seen.append(call[2][0]))
    made(**batch)
    with torch.no_grad():
        made.model.get_input_embeddings().weight[MASK] += 1
    made(**batch)
    with torch.no_grad():
        made.decoder.get_input_embeddings().weight[0] += torch.arange(32)
    made(**batch)
    assert torch.equal(seen[0], seen[1])
    assert not torch.allclose(seen[0], seen[2])


def test_samples_do_not_see_each_other():
    made = visible("modernbert").eval()
    batch = masked_batch(made.model)
    del batch["labels"]
    other = {**batch, "input_ids": batch["input_ids"].clone()}
    other["input_ids"][0, 0] += 1
    one, two = (made(**each).logits for each in (batch, other))
    assert torch.equal(one[1:], two[1:])
    assert not torch.equal(one[0], two[0])


def test_a_plain_call_of_the_model_is_plain():
    made, plain = visible(), models.model("bert")
    batch = masked_batch(plain)
    made(**batch)
    assert torch.equal(made.model(**batch).loss, plain(**batch).loss)
    assert made.model.config._attn_implementation == "sdpa"  # others may share the config
    kept = made.release()
    assert kept.config._attn_implementation == "sdpa"
    with accelerate_model(kept):
        torch.testing.assert_close(kept(**batch).loss, plain(**batch).loss)
    VisibleOnly(kept, mask_token_id=MASK)


def test_the_decoder_comes_of_its_seed_alone():
    kept = models.model("bert")
    torch.manual_seed(3)
    one, after = VisibleOnly(kept, mask_token_id=MASK), torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(torch.rand(1), after)
    assert same(weights(one), weights(visible()))
    assert not same(weights(one), weights(visible(seed=1)))


# -- training -----------------------------------------------------------------------------------


def trainer_of(path: Path, model: Any, others: Any = None, **changes: Any) -> MaskingTrainer:
    return MaskingTrainer(
        model,
        tiny.arguments(path, **changes),
        MaskingCollator(tokenizers.words(), POLICY, seed=5),
        train_dataset=ROWS,
        **(others or {}),
    )


def trained(path: Path, model: Any, resume: str | None = None, **changes: Any) -> MaskingTrainer:
    trainer = trainer_of(path, model, **changes)
    trainer.train(resume_from_checkpoint=resume)
    return trainer


@pytest.mark.parametrize("kind", ["roberta"])
def test_the_trainer_trains_it(tmp_path, kind):
    made = visible(kind)
    before = weights(made)
    trainer = trained(tmp_path, made, num_train_epochs=5, learning_rate=1e-2)
    after = weights(made)
    for name in ("model", "decoder"):
        parts = [key for key in after if key.startswith(name)]
        assert any(not torch.equal(after[key], before[key]) for key in parts)
    plain = trainer_of(tmp_path / "new", visible(kind))
    assert trainer.evaluate(ROWS)["eval_loss"] < plain.evaluate(ROWS)["eval_loss"] - 0.1


def test_with_the_head_at_predicted_positions_it_is_the_same(tmp_path):
    one, two = visible(), visible()
    # AdamW would move a weight as far by a gradient that is hardly more than rounding
    plainly: Any = {"optim": "sgd", "learning_rate": 0.1}
    trained(tmp_path / "one", one, **plainly)
    aware = {"mask_aware": MaskAware(dtype=None)}
    trainer = trainer_of(tmp_path / "two", two, aware, **plainly)
    trainer.train()
    for name, value in weights(one).items():
        torch.testing.assert_close(value, weights(two)[name], rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["modernbert"])
def test_a_resumed_run_goes_on_bit_for_bit(tmp_path, kind):
    saving = {"save_strategy": "steps", "save_steps": 4}
    whole, again = visible(kind), visible(kind)
    trained(tmp_path / "whole", whole, **saving)
    trained(tmp_path / "again", again)
    assert same(weights(whole), weights(again))
    trainer = trainer_of(tmp_path / "broken", visible(kind), **saving)
    trainer.add_callback(Kill())
    with pytest.raises(Broken):
        trainer.train()
    resumed = visible(kind, seed=7)  # what it begins with comes from the checkpoint
    checkpoint = str(tmp_path / "broken" / "checkpoint-4")
    trainer = trained(tmp_path / "broken", resumed, resume=checkpoint, **saving)
    assert trainer.state.global_step == 6
    assert same(weights(whole), weights(resumed))


def test_held_out_loss_is_that_of_the_decoder():
    made = loud(visible()).eval()
    batch = masked_batch(made.model, lengths=(20, 12, 7))
    batch["labels"] = torch.where(batch["input_ids"] == MASK, batch["labels"], -100)

    class Batch:
        input_ids, attention_mask = batch["input_ids"], batch["attention_mask"]
        labels = batch["labels"]

    count = int((batch["labels"] != -100).sum())
    held_out = HeldOut("random-15", (Batch(),), torch.zeros(count).long().numpy(), "")  # type: ignore[arg-type]
    wanted = Dense(made).loss(batch).item()
    made = loud(visible()).eval()
    assert held_out.score(made).mean["loss"] == pytest.approx(wanted, rel=2e-6)
    plain = held_out.score(made.model).mean["loss"]
    assert abs(plain - wanted) > 4e-4


# -- what is kept -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_transformers_loads_what_is_saved(tmp_path, kind):
    made = visible(kind).eval()
    made.save_pretrained(tmp_path)
    plain, found = AutoModelForMaskedLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(found[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert same(weights(plain), weights(made.model))
    again = VisibleOnly.from_pretrained(tmp_path)
    batch = masked_batch(made.model)
    assert torch.equal(again(**batch).logits, made(**batch).logits)


def test_a_folder_without_a_decoder_is_refused(tmp_path):
    models.model("bert").save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="holds no decoder"):
        VisibleOnly.from_pretrained(tmp_path)
    visible().save_pretrained(tmp_path)
    (tmp_path / "visible_only" / "decoder.safetensors").write_bytes(b"broken")
    with pytest.raises(ModelError, match="cannot be read"):
        VisibleOnly.from_pretrained(tmp_path)


# -- refusals -----------------------------------------------------------------------------------


def test_what_cannot_be_is_said():
    for wrong in (0, True, 1.5):
        with pytest.raises(ConfigError, match="decoder_layers="):
            visible(decoder_layers=wrong)
    with pytest.raises(ConfigError, match="mask_token_id=100"):
        VisibleOnly(models.model("bert"), mask_token_id=100)
    with pytest.raises(ModelError, match="embeds tokens in 16 dimensions and runs 32"):
        visible("electra")
    with pytest.raises(ModelError, match="takes a masked language model"):
        VisibleOnly(BertForTokenClassification(tiny.model().config), mask_token_id=MASK)
    held = visible()
    with pytest.raises(ModelError, match="release"):
        VisibleOnly(held.model, mask_token_id=MASK)
    ids = torch.full((2, 5), MASK)
    with pytest.raises(BatchError, match="All 10 tokens"):
        held(input_ids=ids)
    with pytest.raises(BatchError, match=r"attention_mask has shape \(2, 1, 5, 5\)"):
        held(input_ids=ids, attention_mask=torch.ones(2, 1, 5, 5))
