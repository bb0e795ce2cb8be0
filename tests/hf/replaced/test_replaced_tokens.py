"""Replaced token detection: what is replaced, what it costs, and who learns from it."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers import (
    BertForMaskedLM,
    BertForTokenClassification,
    ElectraConfig,
    ElectraForMaskedLM,
    ElectraForPreTraining,
    ElectraForSequenceClassification,
    Trainer,
    TrainingArguments,
)

from maskwright import recipe
from maskwright.errors import BatchError, ConfigError, ModelError, SampleIdError
from maskwright.hf import ClockCallback, MaskingCollator, MaskingTrainer, with_sample_ids
from maskwright.hf.replaced.detection import ReplacedTokenDetection
from tests.core import tokenizers
from tests.hf import tiny

ROWS = [row | {"sample_id": 100 + i} for i, row in enumerate(tiny.samples(12))]
SHARED = {
    "discriminator.electra.embeddings.word_embeddings.weight",
    "discriminator.electra.embeddings.position_embeddings.weight",
}


def config(**changes: Any) -> ElectraConfig:
    sizes = {
        "vocab_size": 100, "embedding_size": 16, "hidden_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 4, "intermediate_size": 64, "max_position_embeddings": 64,
        "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
    }  # fmt: skip
    return ElectraConfig(**(sizes | changes))


def detection(made: ElectraConfig | None = None, **others: Any) -> ReplacedTokenDetection:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ReplacedTokenDetection.from_configs(made or config(), **others)


def masking(side: str = "right", **others: Any) -> MaskingCollator:
    tokenizer = tokenizers.words()
    tokenizer.padding_side = side
    collator = MaskingCollator(tokenizer, recipe("electra"), seed=5, carry=True, **others)
    collator.set_clock(0, 7)
    return collator


def of_samples(batch: Any, values: torch.Tensor) -> dict[int, list[int]]:
    """The values at the real tokens of each sample."""
    return {
        int(number): row[real == 1].tolist()
        for number, row, real in zip(
            batch["sample_ids"], values, batch["attention_mask"], strict=True
        )
    }


# -- what is replaced ---------------------------------------------------------------------------


def test_a_token_is_labelled_exactly_where_it_is_not_the_original():
    batch = masking()(ROWS)
    found = detection()(**batch)
    originals = torch.where(batch["labels"] != -100, batch["labels"], batch["input_ids"])
    assert torch.equal(found.replaced, (found.corrupted != originals).long())
    assert found.replaced.sum() > 5
    assert not found.replaced[batch["labels"] == -100].any()
    assert not found.replaced[batch["attention_mask"] == 0].any()
    special = (originals <= 4) & (batch["labels"] == -100)
    assert special.any()
    assert not found.replaced[special].any()


def test_a_draw_that_hits_the_original_counts_as_original():
    made, batch = detection(), masking()(ROWS)
    truth = batch["labels"].clone()
    with torch.no_grad():  # the head gives every position token 9, whatever it reads
        made.generator.generator_lm_head.bias[9] = 1e4
    first = int((batch["labels"] != -100).flatten().nonzero()[0])
    batch["labels"].view(-1)[first] = 9
    found = made(**batch)
    predicted = truth != -100
    assert (found.corrupted[predicted] == 9).all()
    assert found.replaced.view(-1)[first] == 0
    assert torch.equal(found.replaced[predicted], (batch["labels"][predicted] != 9).long())


@pytest.mark.parametrize("side", ["left", "right"])
def test_draws_are_the_same_in_any_batch_and_on_any_side_of_the_padding(side):
    made = detection().eval()
    with torch.no_grad():  # ELECTRA counts positions from the slot, so it would guess other words
        made.generator.electra.embeddings.position_embeddings.weight.zero_()
    batch = masking()(ROWS)
    whole = of_samples(batch, made(**batch).corrupted)
    for rows in (ROWS[::-1], ROWS[3:8], [ROWS[4]]):
        batch = masking(side, pad_to_multiple_of=8)(rows)
        for number, tokens in of_samples(batch, made(**batch).corrupted).items():
            assert tokens == whole[number]


def test_another_step_epoch_or_seed_draws_other_tokens():
    made, batch = detection(), masking()(ROWS)
    first = made(**batch).corrupted
    for change in ([0, 1], [1, 0]):
        later = {**batch, "clock": batch["clock"] + torch.tensor(change)}
        assert not torch.equal(first, made(**later).corrupted)
    assert not torch.equal(first, detection(seed=1)(**batch).corrupted)
    assert torch.equal(first, detection()(**batch).corrupted)


def test_without_a_clock_it_is_not_known():
    made, batch = detection(), masking()(ROWS)
    unknown = {**batch, "clock": torch.full_like(batch["clock"], -1)}
    batch.pop("clock")
    assert torch.equal(made(**batch).corrupted, made(**unknown).corrupted)


# -- the loss -----------------------------------------------------------------------------------


@pytest.mark.parametrize("padded", [True, False])
def test_the_loss_is_that_of_a_hand_computation(padded):
    made, batch = detection().double(), masking()(ROWS if padded else [ROWS[0]])
    made.requires_grad_(False)
    found = made(**batch)
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    logits = made.generator(**inputs).logits
    logs, count = 0.0, 0
    for row, column in (batch["labels"] != -100).nonzero().tolist():
        logs -= float(logits[row, column].log_softmax(0)[batch["labels"][row, column]])
        count += 1
    inputs["input_ids"] = found.corrupted
    judged = made.discriminator(**inputs).logits
    bits, tokens = 0.0, 0
    for row, column in (batch["attention_mask"] == 1).nonzero().tolist():
        p = torch.sigmoid(judged[row, column])
        bits -= float(torch.log(p if found.replaced[row, column] else 1 - p))
        tokens += 1
    assert float(found.generator_loss) == pytest.approx(logs / count, abs=1e-6)
    assert float(found.discriminator_loss) == pytest.approx(bits / tokens, abs=1e-6)
    assert float(found.loss) == pytest.approx(logs / count + 50 * bits / tokens, rel=1e-6)
    right = ((judged > 0) == (found.replaced == 1))[batch["attention_mask"] == 1]
    assert float(found.discriminator_accuracy) == pytest.approx(float(right.double().mean()))
    assert float(found.replaced_share) == pytest.approx(int(found.replaced.sum()) / tokens)
    predicted = batch["labels"] != -100
    hits = (logits.argmax(2) == batch["labels"])[predicted]
    assert float(found.generator_accuracy) == pytest.approx(float(hits.double().mean()))
    assert made.measures["generator_loss"] == float(found.generator_loss)


def test_micro_batches_add_up_to_the_whole():
    """The generator's part exactly; the discriminator's too where the predicted share is equal."""
    rows = [
        {"input_ids": [2, *range(5 + i, 25 + i), 3], "sample_id": i} for i in range(8)
    ]  # 20 tokens each, of which 15% are 3
    made, collator = detection(), masking()
    batch = collator(rows)
    total = (batch["labels"] != -100).sum()
    whole = made(**batch).loss
    parts = [made(**collator(rows[i : i + 2]), num_items_in_batch=total).loss for i in (0, 2, 4, 6)]
    torch.testing.assert_close(sum(parts), whole, rtol=1e-5, atol=0)


def test_the_loss_is_float32_under_autocast():
    made, batch = detection(), masking()(ROWS)
    with torch.autocast("cpu", torch.bfloat16):
        found = made(**batch)
    assert found.loss.dtype == found.logits.dtype == torch.float32
    found.loss.backward()
    with torch.no_grad():
        assert float(found.loss.detach()) == pytest.approx(float(made(**batch).loss), rel=0.02)


def test_no_predicted_token_gives_a_finite_loss_and_no_replaced_token():
    batch = masking()(ROWS)
    batch["labels"] = torch.full_like(batch["labels"], -100)
    found = detection()(**batch)
    assert found.replaced.sum() == 0
    assert torch.isfinite(found.loss)
    found.loss.backward()
    assert detection()(**batch, num_items_in_batch=10).loss == 0


# -- who learns ---------------------------------------------------------------------------------


def test_no_gradient_of_the_discriminator_reaches_the_generator():
    made, batch = detection(), masking()(ROWS)
    found = made(**batch)
    bits = functional.binary_cross_entropy_with_logits(found.logits, found.replaced.float())
    bits.backward()
    shared = {id(p) for p in made.discriminator.parameters()}
    for name, parameter in made.generator.named_parameters():
        if id(parameter) in shared:
            assert parameter.grad.abs().sum() > 0, name  # embeddings: its own, not through a draw
        else:
            assert parameter.grad is None, name


def test_the_weight_changes_no_gradient_of_the_generators_own():
    def gradients(weight: float) -> dict[str, torch.Tensor]:
        made = detection(weight=weight)
        made(**masking()(ROWS)).loss.backward()
        shared = {id(p) for p in made.discriminator.parameters()}
        own = made.generator.named_parameters()
        return {name: p.grad for name, p in own if id(p) not in shared and p.grad is not None}

    without, heavy = gradients(0.0), gradients(1e6)
    assert len(without) > 20
    assert without.keys() == heavy.keys()
    for name, gradient in without.items():
        assert torch.equal(gradient, heavy[name]), name


def test_embeddings_stay_shared_after_a_step_a_copy_of_the_state_and_a_move():
    made = detection()
    optimizer = torch.optim.AdamW(made.parameters(), lr=1e-2)
    before = made.discriminator.electra.embeddings.word_embeddings.weight.clone()
    made(**masking()(ROWS)).loss.backward()
    optimizer.step()
    again = detection(config())
    assert again.load_state_dict(made.state_dict()).missing_keys == []
    for model in (made, again, made.to(torch.float32)):
        own = model.generator.electra.embeddings
        theirs = model.discriminator.electra.embeddings
        assert own.word_embeddings.weight is theirs.word_embeddings.weight
        assert own.position_embeddings.weight is theirs.position_embeddings.weight
        assert model.generator.generator_lm_head.weight is theirs.word_embeddings.weight
        assert not torch.equal(theirs.word_embeddings.weight, before)
    names = set(made.state_dict())
    assert names >= SHARED
    assert not any(name.startswith("generator.") and "position_emb" in name for name in names)
    for name, value in again.state_dict().items():
        assert torch.equal(value, made.state_dict()[name]), name


def test_the_discriminator_is_saved_as_an_encoder_to_fine_tune(tmp_path):
    made = detection()
    made.discriminator.save_pretrained(tmp_path)
    made.generator.save_pretrained(tmp_path / "generator")
    judge = ElectraForPreTraining.from_pretrained(tmp_path)
    tuned = ElectraForSequenceClassification.from_pretrained(tmp_path)
    small = ElectraForMaskedLM.from_pretrained(tmp_path / "generator")
    ours = made.discriminator.state_dict()
    for name, value in judge.state_dict().items():
        assert torch.equal(value, ours[name]), name
    for name, value in tuned.electra.state_dict().items():
        assert torch.equal(value, ours[f"electra.{name}"]), name
    for name, value in small.state_dict().items():
        assert torch.equal(value, made.generator.state_dict()[name]), name
    batch = masking()(ROWS)
    rebuilt = ReplacedTokenDetection(small, judge)
    assert torch.equal(rebuilt.eval()(**batch).loss, made.eval()(**batch).loss)


# -- models -------------------------------------------------------------------------------------


def test_the_generator_of_a_configuration_is_a_quarter_as_wide():
    made = detection()
    own = made.generator.config
    assert (own.hidden_size, own.intermediate_size, own.num_attention_heads) == (8, 16, 1)
    assert (own.embedding_size, own.num_hidden_layers) == (16, 2)
    assert made.generator.electra.embeddings_project.weight.shape == (8, 16)
    assert made.discriminator.config.hidden_size == 32
    half = detection(divisor=2, weight=10.0)
    assert (half.generator.config.hidden_size, half.weight) == (16, 10.0)
    given = detection(generator=config(hidden_size=20, num_attention_heads=2))
    assert given.generator.config.hidden_size == 20


def test_any_encoder_with_one_label_a_token_is_a_discriminator():
    settings = tiny.model("bert").config
    settings.num_labels = 1
    judge = BertForTokenClassification(settings)
    made = ReplacedTokenDetection(tiny.model("bert"), judge)
    found = made(**masking()(ROWS))
    found.loss.backward()
    assert found.logits.shape == found.replaced.shape
    tables = (judge.bert.embeddings, made.generator.bert.embeddings)
    assert tables[0].word_embeddings.weight is tables[1].word_embeddings.weight
    assert tables[0].position_embeddings.weight is tables[1].position_embeddings.weight


def test_albert_of_a_configuration():
    made = ReplacedTokenDetection.from_configs(tiny.model("albert").config, divisor=2)
    found = made(**masking()(ROWS))
    assert made.generator.config.hidden_size == 16
    assert found.logits.shape == found.replaced.shape


def test_what_cannot_be_is_said():
    with pytest.raises(ConfigError, match="weight=-1"):
        detection(weight=-1.0)
    with pytest.raises(ConfigError, match="temperature=0"):
        detection(temperature=0.0)
    with pytest.raises(ConfigError, match="no embedding_size"):
        detection(tiny.model("bert").config)
    with pytest.raises(ConfigError, match="cannot be made"):
        detection(config(hidden_size=36, num_attention_heads=12), divisor=5)
    with pytest.raises(ModelError, match="token embeddings"):
        detection(generator=config(vocab_size=90))
    with pytest.raises(ModelError, match="position embeddings"):
        detection(generator=config(max_position_embeddings=32))
    judge = BertForTokenClassification(tiny.model("bert").config)  # two labels
    with pytest.raises(ModelError, match="num_labels=1"):
        ReplacedTokenDetection(BertForMaskedLM(judge.config), judge)(**masking()(ROWS))
    batch = masking()(ROWS)
    with pytest.raises(SampleIdError, match="carry=True"):
        detection()(batch["input_ids"], batch["labels"])
    with pytest.raises(BatchError, match="no labels"):
        detection()(batch["input_ids"])
    with pytest.raises(BatchError, match="attention_mask has shape"):
        detection()(**{**batch, "attention_mask": batch["attention_mask"][:, 1:]})


# -- training -----------------------------------------------------------------------------------


def test_the_discriminator_learns():
    """Words come in fixed pairs; after 120 steps replaced tokens stand out of new sentences."""
    generator = torch.Generator().manual_seed(1)

    def sentences(first: int, count: int) -> list[dict[str, Any]]:
        starts = torch.randint(5, 28, (count, 8), generator=generator) * 2
        pairs = torch.stack([starts, starts + 1], 2).flatten(1).tolist()
        return [{"input_ids": [2, *row, 3], "sample_id": first + i} for i, row in enumerate(pairs)]

    rows, held_out = sentences(0, 120 * 16), sentences(10_000, 128)
    made, collator = detection(), masking()
    test = collator(held_out)

    def ranked() -> float:
        """How often a replaced token is ranked above an original one, 0.5 by chance (AUC)."""
        with torch.no_grad():
            found = made.eval()(**test)
        real, yes = test["attention_mask"] == 1, found.replaced == 1
        high, low = found.logits[yes], found.logits[real & ~yes]
        made.train()
        return float((high[:, None] > low).double().mean())

    optimizer = torch.optim.AdamW(made.parameters(), lr=3e-3)
    before = ranked()
    for step in range(120):
        collator.set_clock(0, step)
        optimizer.zero_grad()
        made(**collator(rows[16 * step : 16 * step + 16])).loss.backward()
        optimizer.step()
    # the other half of a broken pair looks wrong as well, so 1 is out of reach
    assert before < 0.6
    assert ranked() > 0.65


def train(path, resume: bool = False, **changes: Any) -> tuple[Trainer, ReplacedTokenDetection]:
    """A plain Trainer, with dropout."""
    collator = masking()
    made = detection(config(hidden_dropout_prob=0.1))
    settings = {
        "logging_strategy": "steps", "logging_steps": 1, "save_strategy": "steps",
        "save_steps": 3, "gradient_accumulation_steps": 2, "per_device_train_batch_size": 2,
        "num_train_epochs": 3,
    }  # fmt: skip
    trainer = Trainer(
        made,
        tiny.arguments(path, **(settings | changes)),
        collator,
        train_dataset=with_sample_ids(tiny.samples(12)),
        callbacks=[ClockCallback(collator)],
    )
    trainer.train(resume_from_checkpoint=str(path / "checkpoint-3") if resume else None)
    return trainer, made


def losses(trainer: Trainer) -> dict[int, float]:
    return {one["step"]: one["loss"] for one in trainer.state.log_history if "loss" in one}


def test_a_plain_trainer_resumes_with_identical_losses(tmp_path):
    trainer, whole = train(tmp_path)
    again, resumed = train(tmp_path, resume=True)
    assert losses(trainer).keys() == set(range(1, 10))
    assert losses(again) == losses(trainer)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    table = resumed.discriminator.electra.embeddings.word_embeddings.weight
    assert resumed.generator.generator_lm_head.weight is table
    assert set(whole.measures) >= {"replaced_share", "discriminator_accuracy"}


def test_activation_checkpointing_reaches_both_models(tmp_path):
    known = {field.name for field in fields(TrainingArguments)}
    newer = "activation_checkpointing"
    name = newer if newer in known else "gradient_checkpointing"
    plain, _ = train(tmp_path / "plain", save_strategy="no", max_steps=2)
    trainer, made = train(tmp_path / "thrifty", save_strategy="no", max_steps=2, **{name: True})
    assert losses(trainer) == pytest.approx(losses(plain), rel=1e-5)
    for model in (made.generator, made.discriminator):
        assert any(getattr(one, "gradient_checkpointing", False) for one in model.modules())


def test_a_plain_trainer_evaluates(tmp_path):
    trainer, _ = train(tmp_path, save_strategy="no", max_steps=2)
    rows = with_sample_ids(tiny.samples(9))
    first, second = (trainer.evaluate(rows)["eval_loss"] for _ in range(2))
    assert first == second > 0
    trainer.args.prediction_loss_only = False
    predicted = trainer.predict(rows)
    assert predicted.metrics["test_loss"] == first
    logits, replaced = predicted.predictions[:2]
    assert logits.shape == replaced.shape
    assert len(logits) == 9


def test_masking_trainer_refuses_it(tmp_path):
    with pytest.raises(ModelError, match="no language model"):
        MaskingTrainer(
            detection(), tiny.arguments(tmp_path), masking(), train_dataset=tiny.samples(4)
        )
