"""Learning: a task in a few seconds, in Trainer and MaskingTrainer, saved, loaded and resumed."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM, Trainer

from maskwright import Mask, Masking
from maskwright.attention import wait_k
from maskwright.corruption.emit import Decoder
from maskwright.errors import ConfigError
from maskwright.hf import MaskAware, MaskingTrainer, PairCollator, ScheduledSampling, attach
from maskwright.models import LstmForConditionalGeneration, LstmModel, LstmSeq2SeqConfig
from tests.core import tokenizers
from tests.hf import tiny
from tests.models.lstm import small

FEEDING = pytest.mark.parametrize("feeding", [False, True])


def wordy(**changes):
    """A model of the vocabulary of the tests' tokenizer, whose names are BERT's."""
    return small.model(
        vocab_size=tiny.VOCABULARY, pad_token_id=0, bos_token_id=2, eos_token_id=3, **changes
    )


def pairs(count=12):
    rows = [row["input_ids"] for row in tiny.samples(count)]
    return [{"input_ids": [*row[:8], 3], "labels": [*row[5:0:-1], 3]} for row in rows]


def collator(model, **options):
    return PairCollator(tokenizers.words(), model=model, **options)


def test_it_learns_to_turn_a_sentence_round():
    model = small.model(vocab_size=12, hidden_size=32, initializer_range=0.1).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    generator = torch.Generator().manual_seed(0)

    def batch(rows):
        body = torch.randint(3, 12, (rows, 3), generator=generator)
        end = torch.full((rows, 1), small.EOS)
        return torch.cat((body, end), 1), torch.cat((body.flip(1), end), 1)

    for _ in range(100):
        source, target = batch(32)
        model(input_ids=source, labels=target).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    source, target = batch(32)
    made = model.eval().generate(input_ids=source, max_new_tokens=4)[:, 1:]
    assert made.shape == target.shape
    assert (made == target).all(1).float().mean() > 0.9


@FEEDING
def test_weights_and_outputs_survive_a_file(feeding, tmp_path):
    model = small.model(input_feeding=feeding, num_hidden_layers=2)
    batch = small.padded(small.SOURCES)
    target = torch.tensor(small.TARGETS)
    expected = model(**batch, labels=target).logits
    model.save_pretrained(tmp_path)
    for found in (
        LstmForConditionalGeneration.from_pretrained(tmp_path),
        AutoModelForSeq2SeqLM.from_pretrained(tmp_path),
    ):
        assert type(found) is LstmForConditionalGeneration
        assert found.config.to_dict() == AutoConfig.from_pretrained(tmp_path).to_dict()
        assert found.get_output_embeddings().weight is found.get_input_embeddings().weight
        assert all(torch.equal(found.state_dict()[k], v) for k, v in model.state_dict().items())
        # weights in a mapped file are aligned otherwise, and processors then round otherwise
        found = copy.deepcopy(found)
        assert torch.equal(found(**batch, labels=target).logits, expected)
        made = model.generate(**batch, max_new_tokens=6)
        assert torch.equal(found.generate(**batch, max_new_tokens=6), made)
    assert type(AutoModel.from_config(model.config)) is LstmModel


def test_the_loss_is_that_of_its_labels():
    model = small.model()
    batch = small.padded(small.SOURCES)
    labels = torch.tensor([[4, 5, 2], [6, 2, -100], [-100, -100, -100]])
    output = model(**batch, labels=labels)
    read = torch.tensor([[1, 4, 5], [1, 6, 2], [1, 0, 0]])
    assert torch.equal(model.prepare_decoder_input_ids_from_labels(labels=labels), read)
    logits = model(**batch, decoder_input_ids=read).logits
    assert torch.equal(logits, output.logits)
    expected = cross_entropy(logits.flatten(0, 1), labels.flatten())
    torch.testing.assert_close(output.loss, expected)
    by_ten = model(**batch, labels=labels, num_items_in_batch=10).loss
    torch.testing.assert_close(by_ten, expected * 5 / 10)
    nothing = model(**batch, labels=torch.full_like(labels, -100)).loss
    assert float(nothing.detach()) == 0.0


@FEEDING
@pytest.mark.parametrize("aware", [False, True])
def test_the_trainers_loss_is_by_predicted_tokens(feeding, aware, tmp_path):
    model = wordy(input_feeding=feeding)
    masked = Masking(rate=0.5, act=Mask(), emit=Decoder("selected"))
    for policy in (None, masked):
        trainer = MaskingTrainer(
            model.train(), tiny.arguments(tmp_path), collator(model, target=policy), pairs(),
            mask_aware=aware and MaskAware(dtype=None),
        )  # fmt: skip
        batch = next(iter(trainer.get_train_dataloader()))
        ours = {k: v for k, v in batch.items() if k in _INPUTS}
        logits = model(**ours).logits
        labels = batch["labels"]
        expected = cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum") / 7
        model.zero_grad()
        expected.backward()
        gradient = model.model.encoder.lstm.weight_ih_l0.grad.clone()
        model.zero_grad()
        loss = trainer.compute_loss(model, batch, num_items_in_batch=torch.tensor(7))
        loss.backward()
        found = model.model.encoder.lstm.weight_ih_l0.grad
        torch.testing.assert_close(loss, expected)
        torch.testing.assert_close(found, gradient, atol=1e-6, rtol=1e-5)


_INPUTS = ("input_ids", "attention_mask", "decoder_input_ids", "decoder_attention_mask")


def trainer_of(path, *, pattern=False, **changes):
    model = wordy(input_feeding=True, dropout=0.1, num_hidden_layers=2)
    if pattern:
        attach(model, cross=wait_k(2))
    saving = {"save_strategy": "steps", "save_steps": 2, "num_train_epochs": 2}
    policy = Masking(rate=0.3, act=Mask())
    return MaskingTrainer(
        model, tiny.arguments(path, **(saving | changes)), collator(model, target=policy), pairs(),
        scheduled_sampling=ScheduledSampling(0.5),
    )  # fmt: skip


def test_a_run_resumes_bit_for_bit(tmp_path):
    whole = trainer_of(tmp_path / "whole", pattern=True)
    whole.train()
    assert whole.state.global_step == 6
    part = trainer_of(tmp_path / "whole", pattern=True)
    part.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-4"))
    before = wordy(input_feeding=True, dropout=0.1, num_hidden_layers=2).state_dict()
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(part.model.state_dict()[name], weight), name
        assert not torch.equal(weight, before[name]) or "bias" in name, name


def test_it_trains_and_is_evaluated_in_a_plain_trainer(tmp_path):
    model = wordy()
    arguments = tiny.arguments(tmp_path, num_train_epochs=1, learning_rate=1e-2)

    def rows(samples):
        batch = small.padded([one["input_ids"] for one in samples])
        labels = torch.tensor([one["labels"] for one in samples])
        return batch | {"labels": labels}

    trainer = Trainer(model, arguments, rows, pairs(), pairs())
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    assert trainer.evaluate()["eval_loss"] < before
    assert trainer.predict(pairs(4)).predictions[0].shape == (4, 6, tiny.VOCABULARY)


@FEEDING
def test_it_runs_in_bfloat16_where_it_is_told_to(feeding):
    model = small.model(input_feeding=feeding, num_attention_heads=2)
    batch = small.padded(small.SOURCES)
    target = torch.tensor(small.TARGETS)
    expected = model(**batch, decoder_input_ids=target).logits
    with torch.autocast("cpu", torch.bfloat16):
        output = model(**batch, decoder_input_ids=target, labels=target)
    torch.testing.assert_close(output.logits.float(), expected, atol=0.2, rtol=0.1)
    output.loss.backward()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 0}, "hidden_size=0"),
        ({"num_hidden_layers": True}, "num_hidden_layers=True"),
        ({"hidden_size": 10, "num_attention_heads": 4}, "no multiple"),
        ({"hidden_size": 9}, "odd"),
        ({"embedding_size": 8}, "tie_word_embeddings=False"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"initial_state": "mean"}, "one of encoder, zeros"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        LstmSeq2SeqConfig(**changes)


def test_a_vocabulary_may_grow():
    model = small.model()
    model.resize_token_embeddings(30)
    ids = torch.tensor([[5, 29, 2]])
    assert model(input_ids=ids, labels=ids).logits.shape == (1, 3, 30)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
