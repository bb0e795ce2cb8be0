"""Every emit through the collator into a real model, and a plain Trainer on top."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
    Trainer,
)

from maskwright import Keep, Mask, Masking
from maskwright.corruption import Delete, Infill, SampledRate, Select, Sentinel
from maskwright.corruption.emit import Decoder, Diffusion, FillInTheMiddle, PrefixLM, Seq2Seq
from maskwright.corruption.mixture import MixedMasking
from maskwright.corruption.selection import Selection, eligible
from maskwright.errors import BatchError, PolicyError
from maskwright.hf import ClockCallback, MaskingCollator, MaskingTrainer, with_sample_ids
from tests.core import tokenizers
from tests.hf import tiny

SPANS = Masking(rate=0.3, act=Sentinel(), emit=Seq2Seq("spans"))
TEXTS = ["the quick brown fox jumps over the lazy dog", "a mask hides some of the words", "words"]


def t5(vocabulary: int) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return T5ForConditionalGeneration(
            T5Config(
                vocab_size=vocabulary, d_model=32, d_kv=16, d_ff=48, num_layers=2, num_heads=2,
                dropout_rate=0.0, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0,
            )
        )  # fmt: skip


def bart(vocabulary: int) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return BartForConditionalGeneration(
            BartConfig(
                vocab_size=vocabulary, d_model=32, encoder_layers=2, decoder_layers=2,
                encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=48,
                decoder_ffn_dim=48, max_position_embeddings=64, dropout=0.0, pad_token_id=0,
                bos_token_id=2, eos_token_id=3, decoder_start_token_id=3, forced_eos_token_id=3,
            )
        )  # fmt: skip


def llama(vocabulary: int) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LlamaForCausalLM(
            LlamaConfig(
                vocab_size=vocabulary, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                num_attention_heads=2, max_position_embeddings=64, pad_token_id=0,
            )
        )  # fmt: skip


def pieces() -> list[dict[str, Any]]:
    """Samples of the T5 tokenizer, with their ids."""
    tokenizer = tokenizers.unigram()
    eos = tokenizer.eos_token_id
    rows = [tokenizer(text, add_special_tokens=False)["input_ids"] + [eos] for text in TEXTS]
    return [{"input_ids": row, "sample_id": i} for i, row in enumerate(rows)]


def collate(tokenizer: Any, masking: Any, **others: Any) -> MaskingCollator:
    """A collator that knows the epoch."""
    collator = MaskingCollator(tokenizer, masking, **others)
    collator.set_clock(0)
    return collator


def rows() -> list[dict[str, Any]]:
    return [row | {"sample_id": i} for i, row in enumerate(tiny.samples(6))]


@dataclass(frozen=True)
class Tail(Select):
    """The second half of each sample's tokens, as one unit; ``stop`` cuts it short."""

    stop: int | None = None

    def __call__(self, batch, vocabulary, draw):
        allowed, positions, units = eligible(batch, vocabulary), [], []
        for row in range(len(batch)):
            start, stop = batch.tokens.offsets[row : row + 2]
            own = start + np.flatnonzero(allowed[start:stop])
            own = own[len(own) // 2 :][: self.stop]
            positions += own.tolist()
            units += [row] * len(own)
        return Selection(np.array(positions, np.int64), np.array(units, np.int64))


def test_t5_shifts_the_labels_itself():
    tokenizer = tokenizers.unigram()
    collator = collate(tokenizer, SPANS, seed=1)
    batch = collator(pieces())
    assert set(batch) == {"input_ids", "attention_mask", "labels"}
    plan = collator.plan(pieces())
    own = plan.batch.tokens.rows[plan.positions]
    sentinels = [len(set(plan.units[own == i])) for i in range(3)]
    for labels, many in zip(batch["labels"].tolist(), sentinels, strict=True):
        used = [token for token in labels if token in collator.vocabulary.sentinel_ids]
        assert used == list(collator.vocabulary.sentinel_ids[: many + 1])
        assert [token for token in labels if token != -100][-1] == tokenizer.eos_token_id
    model, seen = t5(len(tokenizer)), {}
    model.decoder.register_forward_pre_hook(
        lambda _, args, inputs: seen.update(inputs), with_kwargs=True
    )
    outputs = model(**batch)
    assert math.isfinite(outputs.loss.detach())
    assert outputs.logits.shape == (3, batch["labels"].shape[1], len(tokenizer))
    read = batch["labels"].masked_fill(batch["labels"] == -100, 0)[:, :-1]
    assert torch.equal(seen["input_ids"][:, 1:], read)
    assert (seen["input_ids"][:, 0] == 0).all()


@pytest.mark.parametrize("side", ["left", "right"])
def test_bart_denoises_what_was_taken_out_and_put_in(side, monkeypatch):
    monkeypatch.setattr(tokenizers.words(), "padding_side", side)
    act = 0.5 * Infill() + 0.5 * Delete()
    collator = collate(tokenizers.words(), Masking(rate=0.4, act=act, emit=Seq2Seq()))
    batch = collator(rows())
    for row, labels, read in zip(rows(), batch["labels"], batch["attention_mask"], strict=True):
        assert labels[labels != -100].tolist() == row["input_ids"]
        assert int(read.sum()) <= len(row["input_ids"])
    assert int(batch["attention_mask"].sum()) < sum(len(row["input_ids"]) for row in rows())
    outputs = bart(tiny.VOCABULARY)(**batch)
    assert math.isfinite(outputs.loss.detach())
    assert outputs.logits.shape == (*batch["labels"].shape, tiny.VOCABULARY)


@pytest.mark.parametrize("labels", ["all", "selected"])
def test_a_decoders_side_joins_an_encoders(labels):
    start = 3 if labels == "all" else None
    policy = Masking(rate=0.5, act=Mask(), emit=Decoder(labels, start_id=start))
    batch = collate(tokenizers.words(), policy)(rows())
    assert set(batch) == {"decoder_input_ids", "decoder_attention_mask", "labels"}
    source = torch.randint(5, 100, (6, 9), generator=torch.Generator().manual_seed(0))
    outputs = bart(tiny.VOCABULARY)(input_ids=source, **batch)
    # labels and inputs are aligned: the model's loss is the cross-entropy as they stand
    loss = torch.nn.functional.cross_entropy(outputs.logits.transpose(1, 2), batch["labels"])
    assert torch.allclose(outputs.loss, loss)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("emit", [FillInTheMiddle(97, 98, 99), PrefixLM()], ids=str)
def test_causal_models_shift_the_labels_themselves(emit, side, monkeypatch):
    monkeypatch.setattr(tokenizers.words(), "padding_side", side)
    select = Tail(stop=2) if isinstance(emit, FillInTheMiddle) else Tail()
    collator = collate(tokenizers.words(), Masking(select, act=Keep(), emit=emit))
    batch = collator(rows())
    model = llama(tiny.VOCABULARY)
    outputs = model(**batch)
    ahead = outputs.logits[:, :-1].transpose(1, 2)
    loss = torch.nn.functional.cross_entropy(ahead, batch["labels"][:, 1:])
    assert torch.allclose(outputs.loss, loss)
    lengths = batch["attention_mask"].sum(1).tolist()
    added = 3 if isinstance(emit, FillInTheMiddle) else 0
    assert lengths == [len(row["input_ids"]) + added for row in rows()]
    assert batch["attention_mask"][:, -1 if side == "left" else 0].all()


def test_diffusion_carries_its_weights_or_says_why_not():
    policy = Masking(rate=SampledRate(low=0.1), act=Mask(), emit=Diffusion())
    with pytest.raises(PolicyError, match=r"MaskingCollator\(carry=True\)"):
        collate(tokenizers.words(), policy)(rows())
    collator = collate(tokenizers.words(), policy, carry=True)
    batch, plan = collator(rows()), collator.plan(rows())
    weights = batch["loss_weights"]
    assert torch.equal(weights > 0, batch["labels"] != -100)
    for row, rate in zip(weights, plan.rates, strict=True):
        assert torch.allclose(row[row > 0], torch.tensor(1 / rate, dtype=torch.float32))


@pytest.mark.parametrize("narrow", [True, False])
def test_the_masking_trainer_weighs_the_losses(narrow, tmp_path):
    policy = Masking(rate=SampledRate(low=0.1), act=Mask(), emit=Diffusion())
    collator = collate(tokenizers.words(), policy, carry=True)
    model = tiny.model().eval()
    arguments = tiny.arguments(tmp_path)
    trainer = MaskingTrainer(model, arguments, collator, predicted_only=narrow)
    batch = collator(rows())
    loss = trainer.compute_loss(model, dict(batch), num_items_in_batch=7)
    logits = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    each = torch.nn.functional.cross_entropy(
        logits.transpose(1, 2), batch["labels"], reduction="none"
    )
    assert torch.allclose(loss, (each * batch["loss_weights"]).sum() / 7, rtol=1e-4)
    assert not torch.allclose(loss, each.sum() / 7, rtol=1e-2)


def test_token_types_only_where_tokens_stay():
    typed = [row | {"token_type_ids": [1] * len(row["input_ids"])} for row in rows()]
    words = tokenizers.words()
    batch = collate(words, Masking(), pad_to_multiple_of=8)(typed)
    assert torch.equal(batch["token_type_ids"], batch["attention_mask"])
    for policy in (
        Masking(act=Delete(), emit=Seq2Seq()),
        Masking(emit=Decoder("all", start_id=3)),
        Masking(emit=Decoder("selected")),
        Masking(Tail(), act=Keep(), emit=FillInTheMiddle(97, 98, 99)),
    ):
        with pytest.raises(BatchError, match=r'remove_columns\(\["token_type_ids"\]\)'):
            collate(words, policy)(typed)


def test_lengths_are_those_of_what_the_model_reads():
    """A sample that grows or shrinks is padded as it is, not as it was."""
    longest = max(len(row["input_ids"]) for row in rows())
    words = tokenizers.words()
    grown = Masking(Tail(stop=1), act=Keep(), emit=FillInTheMiddle(97, 98, 99))
    assert collate(words, grown)(rows())["input_ids"].shape[1] == longest + 3
    with pytest.raises(BatchError, match=f"more than the length {longest}"):
        collate(words, grown, length=longest)(rows())
    shrunk = Masking(Tail(), act=Delete(), emit=Seq2Seq())
    batch = collate(words, shrunk, pad_to_multiple_of=8)(rows())
    assert batch["input_ids"].shape[1] == -(-(longest - (longest - 2 + 1) // 2) // 8) * 8
    assert batch["labels"].shape[1] == -(-longest // 8) * 8


MIXTURE = MixedMasking(((1, SPANS), (1, Masking(rate=0.6, act=Sentinel(), emit=Seq2Seq("spans")))))
TRAINED = {
    "t5": (t5, tokenizers.unigram, SPANS, pieces),
    "t5, mixed": (t5, tokenizers.unigram, MIXTURE, pieces),
    "bart": (bart, tokenizers.words, Masking(rate=0.3, act=Infill(), emit=Seq2Seq()), rows),
}


def train(name: str, path, **changes) -> list[float]:
    """The losses of a plain Trainer."""
    made, tokenizer, policy, samples = TRAINED[name]
    collator = MaskingCollator(tokenizer(), policy, seed=2)
    data = [{"input_ids": row["input_ids"]} for row in samples()]
    settings = {"logging_strategy": "steps", "logging_steps": 1} | changes
    trainer = Trainer(
        made(len(tokenizer())),
        tiny.arguments(path, **settings),
        collator,
        train_dataset=with_sample_ids(data),
        callbacks=[ClockCallback(collator)],
    )
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize("name", sorted(TRAINED))
def test_a_plain_trainer_takes_its_steps(name, tmp_path):
    losses = train(name, tmp_path, max_steps=3)
    assert len(losses) == 3
    assert all(math.isfinite(loss) for loss in losses)


@pytest.mark.parametrize("name", ["t5", "bart"])
def test_a_constant_sample_is_learnt(name, tmp_path, monkeypatch):
    made, tokenizer, policy, samples = TRAINED[name]
    constant = (made, tokenizer, replace(policy, refresh="static"), lambda: samples()[:1])
    monkeypatch.setitem(TRAINED, name, constant)
    losses = train(name, tmp_path, max_steps=30, learning_rate=1e-2, lr_scheduler_type="constant")
    assert all(math.isfinite(loss) for loss in losses)
    assert losses[-1] < 0.5 * losses[0]
