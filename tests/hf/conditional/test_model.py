"""An encoder–decoder as a conditional masked language model: what it sees, its loss, its files."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers import (
    AutoModelForSeq2SeqLM,
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForMaskedLM,
    TrainingArguments,
)

from maskwright.corruption.decoder_recipes import decoder_masking
from maskwright.errors import BatchError, ConfigError, ModelError, VocabularyError
from maskwright.hf import MaskAware, MaskingTrainer, PairCollator
from maskwright.hf.conditional.both_sides import see_both_sides
from maskwright.hf.conditional.mask_predict import mask_predict
from maskwright.hf.conditional.model import ConditionalMaskedLM, conditional, is_conditional
from maskwright.hf.conditional.target_form import TargetForm
from tests.hf.conditional.tiny_seq2seq import (
    END,
    FORM,
    FRAMED,
    KINDS,
    MASK,
    PAD,
    VOCABULARY,
    seq2seq,
    sources,
    tokenizer,
)

EVERY = [(kind, how) for kind in KINDS for how in ("sdpa", "eager")]


def batch(lengths: list[int], words: list[int]) -> dict[str, torch.Tensor]:
    """Sources, and targets of masks and words in turn."""
    ids, mask = sources(lengths)
    width = max(words) + 1
    target = torch.full((len(words), width), PAD)
    labels = torch.full((len(words), width), -100)
    for row, count in enumerate(words):
        target[row, :count] = torch.arange(5, 5 + count)
        target[row, :count:2] = MASK
        target[row, count] = END
        labels[row, :count:2] = 6
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "decoder_input_ids": target,
        "decoder_attention_mask": (target != PAD).long(),
        "labels": labels,
    }


def inputs(full: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: one for name, one in full.items() if name != "labels"}


# -- what the decoder sees --------------------------------------------------------------------


def test_the_mask_forbids_padding_alone():
    found = see_both_sides(torch.tensor([[1, 1, 0], [1, 1, 1]]), torch.float32)
    assert found.shape == (2, 1, 3, 3)
    least = torch.finfo(torch.float32).min
    assert found[0, 0].tolist() == [[0.0, 0.0, least]] * 3
    assert not bool(found[1].any())


@pytest.mark.parametrize(("kind", "attention"), EVERY)
def test_each_token_feels_every_other_and_no_padding(kind, attention):
    model = ConditionalMaskedLM(seq2seq(kind, attention), FORM).eval()
    given = inputs(batch([5, 7], [3, 5]))
    with torch.no_grad():
        before = model(**given).logits
        for place in range(6):
            other = dict(given)
            other["decoder_input_ids"] = given["decoder_input_ids"].clone()
            other["decoder_input_ids"][:, place] = 9
            moved = (model(**other).logits - before).abs().amax(-1)
            assert bool((moved[1] > 1e-6).all())  # five words and the end
            if place < 4:
                assert bool((moved[0, :4] > 1e-6).all())
            else:
                torch.testing.assert_close(moved[0, :4], torch.zeros(4), atol=1e-5, rtol=0)


def test_t5_tells_distances_to_the_right_apart():
    def to_the_right(model: Any) -> torch.Tensor:
        attention = model.get_decoder().block[0].layer[0].SelfAttention
        return attention.compute_bias(3, 3)[0, :, 0, 1:]

    inner = seq2seq("t5")
    blind = to_the_right(inner)
    assert torch.equal(blind[:, 0], blind[:, 1])  # what a causal decoder has no use for
    ConditionalMaskedLM(inner, FORM)
    seeing = to_the_right(inner)
    assert not torch.allclose(seeing[:, 0], seeing[:, 1])


def test_what_is_no_such_model():
    bert = BertForMaskedLM(
        BertConfig(
            vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=8,
        )
    )  # fmt: skip
    with pytest.raises(ModelError, match="BertForMaskedLM is no encoder–decoder"):
        ConditionalMaskedLM(bert, FORM)
    with pytest.raises(ModelError, match="has 24 embeddings for its decoder, and the tokenizer 30"):
        ConditionalMaskedLM(seq2seq(), TargetForm(3, 0, (), (1,), (0, 1), 30))
    with pytest.raises(ConfigError, match="length_weight=-1"):
        ConditionalMaskedLM(seq2seq(), FORM, length_weight=-1)
    deaf = seq2seq()
    decoder, plain = deaf.get_decoder(), deaf.get_decoder().forward
    decoder.forward = lambda **given: plain(**(given | {"attention_mask": None}))
    with pytest.raises(ModelError, match="does not heed a mask of four dimensions"):
        ConditionalMaskedLM(deaf, FORM)


# -- the form of targets ------------------------------------------------------------------------


def test_the_form_is_read_from_the_tokenizer():
    assert TargetForm.from_tokenizer(tokenizer()) == FORM
    bare = tokenizer()
    bare.mask_token = None
    with pytest.raises(VocabularyError, match="no mask token"):
        TargetForm.from_tokenizer(bare)
    with pytest.raises(ConfigError, match="id 24 is outside"):
        TargetForm(3, 0, (24,), (), (), 24)


# -- training -----------------------------------------------------------------------------------


def arguments(path: Any, **changes: Any) -> TrainingArguments:
    settings: dict[str, Any] = {
        "output_dir": str(path), "use_cpu": True, "report_to": [], "disable_tqdm": True,
        "save_strategy": "no", "logging_steps": 1, "seed": 1, "max_steps": 1,
        "learning_rate": 1e-2, "max_grad_norm": 0.0,
    }  # fmt: skip
    return TrainingArguments(**(settings | changes))


def pairs(count: int) -> list[dict[str, list[int]]]:
    """Sources of one letter; targets of the next two in turn, one word more if it is odd."""
    rng = random.Random(0)
    rows = []
    for _ in range(count):
        length, key = rng.randint(2, 5), rng.randrange(10)
        words = [4 + (key + 1 + i % 2) % 10 for i in range(length + key % 2)]
        rows.append({"input_ids": [4 + key] * length + [END], "labels": [*words, END]})
    return rows


def collator(model: Any) -> PairCollator:
    return PairCollator(tokenizer(), model=model, target=decoder_masking("cmlm", start_id=PAD))


@pytest.mark.parametrize("kind", ["bart", "bert2bert"])
def test_the_loss_is_that_of_masked_tokens_and_of_lengths(kind, tmp_path):
    model = ConditionalMaskedLM(seq2seq(kind), FORM, reach=6, length_weight=0.5)
    trainer = MaskingTrainer(model, arguments(tmp_path), collator(model), train_dataset=pairs(8))
    full = batch([5, 7], [3, 5])
    model.train()
    found = trainer.compute_loss(model, full, num_items_in_batch=torch.tensor(4))
    found.backward()
    grads = {
        name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None
    }
    model.zero_grad()
    output = model(**inputs(full))
    tokens = functional.cross_entropy(
        output.logits.flatten(0, 1), full["labels"].flatten(), reduction="sum"
    )
    head = model.lengths
    assert head is not None
    logits = head(output.encoder_last_hidden_state, full["attention_mask"])
    lengths = functional.cross_entropy(logits, torch.tensor([3 - 5 + 6, 5 - 7 + 6]))
    expected = tokens / 4 + 0.5 * lengths
    torch.testing.assert_close(found, expected)
    expected.backward()
    for name, one in model.named_parameters():
        if one.grad is not None:
            torch.testing.assert_close(grads[name], one.grad, atol=1e-6, rtol=1e-4)
    assert set(model.measures()) == {"length/loss", "length/exact", "length/error"}
    model.eval()
    plain = trainer.compute_loss(model, full, num_items_in_batch=torch.tensor(4))
    torch.testing.assert_close(plain, tokens.detach() / 4)


def test_lengths_need_the_mask_of_targets():
    model = ConditionalMaskedLM(seq2seq(), FORM).train()
    given = inputs(batch([5], [3]))
    model(**given)
    del given["decoder_attention_mask"]
    with pytest.raises(BatchError, match="no decoder_attention_mask"):
        model.further_loss(model, given, {}, torch.tensor([]), None, None)


def test_micro_batches_weigh_by_their_sources():
    model = ConditionalMaskedLM(seq2seq(), FORM, length_weight=1.0).train()
    total = torch.zeros(())
    each = []
    for lengths in ([5, 7], [3, 9]):
        given = inputs(batch(lengths, [3, 5]))
        for tokens in (None, 24):
            model(**given)
            loss = model.further_loss(model, given, {}, torch.tensor([]), None, tokens)
            each.append(loss.item())
            total = total + (loss.detach() if tokens else 0)
    assert total.item() == pytest.approx((each[0] + each[2]) / 2, rel=1e-5)


@pytest.mark.parametrize("kind", ["bart", "t5"])
def test_mask_aware_steps_train_the_same(kind, tmp_path):
    found = []
    for aware in (False, MaskAware(unpad=True, dtype=None)):
        model = ConditionalMaskedLM(seq2seq(kind), FORM, reach=6)
        settings = arguments(tmp_path, max_steps=2, optim="sgd")
        MaskingTrainer(
            model, settings, collator(model), train_dataset=pairs(16), mask_aware=aware
        ).train()
        found.append(dict(model.state_dict()))
    for name, one in found[0].items():
        torch.testing.assert_close(found[1][name], one, atol=1e-6, rtol=1e-4)


def test_a_tiny_model_learns_to_write(tmp_path):
    sizes: dict[str, Any] = {
        "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 64,
        "decoder_ffn_dim": 64, "encoder_attention_heads": 1, "decoder_attention_heads": 1,
        "max_position_embeddings": 12, "vocab_size": VOCABULARY, "pad_token_id": PAD,
        "eos_token_id": END, "bos_token_id": END, "decoder_start_token_id": PAD,
        "forced_eos_token_id": None, "dropout": 0.0, "init_std": 0.1,
    }  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain = BartForConditionalGeneration(BartConfig(**sizes))
    model = conditional(plain, tokenizer(), reach=4, length_weight=1.0)
    settings = arguments(
        tmp_path, per_device_train_batch_size=32, max_steps=80, logging_steps=80,
        learning_rate=2e-2, save_strategy="no",
    )  # fmt: skip
    MaskingTrainer(model, settings, collator(model), train_dataset=pairs(300)).train()
    test = pairs(340)[300:]
    width = max(len(one["input_ids"]) for one in test)
    source = torch.tensor([[*o["input_ids"], *[PAD] * (width - len(o["input_ids"]))] for o in test])
    # lengths of the head: the words of this language do not tell where a target ends
    written = mask_predict(model, source, (source != PAD).long(), length_beam=1)
    right = [
        written.tokens[row, : int(written.lengths[row]) + 1].tolist() == one["labels"]
        for row, one in enumerate(test)
    ]
    assert sum(right) >= 38


# -- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded_it_writes_the_same(kind, tmp_path):
    model = ConditionalMaskedLM(seq2seq(kind), FRAMED, reach=6, length_weight=0.3, seed=5).eval()
    ids, mask = sources([5, 9])
    model.save_pretrained(tmp_path)
    assert is_conditional(tmp_path)
    again = ConditionalMaskedLM.from_pretrained(tmp_path)
    assert not again.training
    assert again.form == FRAMED
    assert again.length_weight == 0.3
    first, second = (mask_predict(one, ids, mask) for one in (model, again))
    assert torch.equal(first.tokens, second.tokens)
    assert torch.equal(first.scores, second.scores)
    plain = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    assert type(plain) is type(model.model)


def test_without_a_head_no_head_is_saved(tmp_path):
    ConditionalMaskedLM(seq2seq(), FORM, reach=0).save_pretrained(tmp_path)
    assert not (tmp_path / "length_head.safetensors").exists()
    assert ConditionalMaskedLM.from_pretrained(tmp_path).lengths is None


def test_folders_that_hold_none(tmp_path):
    assert not is_conditional(tmp_path)
    with pytest.raises(ModelError, match="holds no conditional masked language model"):
        ConditionalMaskedLM.from_pretrained(tmp_path)
    ConditionalMaskedLM(seq2seq(), FORM, reach=6).save_pretrained(tmp_path)
    settings = tmp_path / "conditional.json"
    content = json.loads(settings.read_text())
    settings.write_text(json.dumps(content | {"reach": 7}))
    with pytest.raises(ModelError, match=r"length_head.safetensors does not fit"):
        ConditionalMaskedLM.from_pretrained(tmp_path)
    settings.write_text(json.dumps({"form": {}}))
    with pytest.raises(ModelError, match="is not what save_pretrained writes"):
        ConditionalMaskedLM.from_pretrained(tmp_path)


def test_a_run_goes_on_from_its_checkpoint(tmp_path):
    def trained(folder: str, resume: bool, **changes: Any) -> dict[str, torch.Tensor]:
        model = ConditionalMaskedLM(seq2seq("bart"), FORM, reach=6)
        settings: Any = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2} | changes
        MaskingTrainer(
            model,
            arguments(tmp_path / folder, **settings),
            collator(model),
            train_dataset=pairs(16),
        ).train(resume_from_checkpoint=str(tmp_path / folder / "checkpoint-2") if resume else None)
        return dict(model.state_dict())

    whole = trained("run", resume=False)
    again = trained("run", resume=True)
    assert whole.keys() == again.keys()
    assert all(torch.equal(one, again[name]) for name, one in whole.items())
