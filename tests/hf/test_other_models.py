"""MaskingTrainer of causal models and encoder–decoders: our loss is the model's own, weighed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from maskwright import Clock, Masking, recipe
from maskwright.corruption import Infill, Sentinel
from maskwright.corruption.emit import Seq2Seq
from maskwright.hf import MaskingCollator, MaskingTrainer, Sample
from tests.core import tokenizers
from tests.hf import tiny
from tests.hf.test_emits import bart, llama, pieces, t5

CPU = torch.device("cpu")
MARKS = {"prefix_id": 97, "suffix_id": 98, "middle_id": 99}
LEFT = ("gpt2", "llama")


def gpt2(vocabulary: int) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return GPT2LMHeadModel(
            GPT2Config(
                vocab_size=vocabulary, n_embd=32, n_layer=2, n_head=2, n_positions=64,
                resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
                pad_token_id=0, bos_token_id=2, eos_token_id=3,
            )
        )  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A model with a policy that it can train on."""

    model: Callable[[int], Any]
    tokenizer: Callable[[], Any]
    masking: Masking
    rows: list[dict[str, Any]]


CASES = {
    "gpt2, prefix": Case(gpt2, tokenizers.words, recipe("prefix-lm"), tiny.samples(8)),
    "gpt2, fim": Case(gpt2, tokenizers.words, recipe("fim", **MARKS), tiny.samples(8)),
    "llama, fim": Case(llama, tokenizers.words, recipe("fim", **MARKS), tiny.samples(8)),
    "bart": Case(
        bart, tokenizers.words, Masking(rate=0.3, act=Infill(), emit=Seq2Seq()), tiny.samples(8)
    ),
    "t5": Case(
        t5, tokenizers.unigram, Masking(rate=0.3, act=Sentinel(), emit=Seq2Seq("spans")),
        [{"input_ids": row["input_ids"]} for row in pieces()],
    ),
}  # fmt: skip
every = pytest.mark.parametrize("name", CASES)


def trainer_of(name: str, path, kind: type[MaskingTrainer] = MaskingTrainer, **changes) -> Any:
    case = CASES[name]
    tokenizer = case.tokenizer()
    collator = MaskingCollator(tokenizer, case.masking, seed=4)
    return kind(case.model(len(tokenizer)), tiny.arguments(path, **changes), collator, case.rows)


def batch_of(name: str, trainer: MaskingTrainer) -> Any:
    rows = CASES[name].rows
    return trainer.data_collator([Sample(row, i, Clock(0, 0, 0)) for i, row in enumerate(rows)])


def plain(batch: Any) -> dict[str, torch.Tensor]:
    return {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}


@pytest.mark.parametrize("side", ["left", "right"])
@every
def test_the_loss_and_its_gradients_are_the_models_own(name, side, tmp_path, monkeypatch):
    monkeypatch.setattr(CASES[name].tokenizer(), "padding_side", side)
    trainer, reference = trainer_of(name, tmp_path), trainer_of(name, tmp_path).model.train()
    batch = batch_of(name, trainer)
    assert batch["labels"].ne(-100).any(1).sum() >= 3
    model = trainer.model.train()
    ours, theirs = trainer.compute_loss(model, batch), reference(**plain(batch)).loss
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)
    ours.backward()
    theirs.backward()
    wanted = {n: p.grad for n, p in reference.named_parameters()}
    for parameter, tensor in model.named_parameters():
        torch.testing.assert_close(tensor.grad, wanted[parameter], rtol=1e-5, atol=1e-7)


@every
def test_weights_of_one_change_nothing_and_others_weigh_each_label(name, tmp_path):
    trainer = trainer_of(name, tmp_path)
    model, batch = trainer.model.eval(), batch_of(name, trainer)
    batch["loss_weights"] = torch.ones(batch["labels"].shape)
    same = trainer.compute_loss(model, batch)
    torch.testing.assert_close(same, model(**plain(batch)).loss, rtol=1e-6, atol=0)

    generator = torch.Generator().manual_seed(0)
    weights = batch["loss_weights"] = torch.rand(batch["labels"].shape, generator=generator)
    logits, labels = model(**plain(batch)).logits, batch["labels"]
    if name.startswith(LEFT):
        logits, labels, weights = logits[:, :-1], labels[:, 1:], weights[:, 1:]
    each = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
    wanted = (each * weights).sum() / labels.ne(-100).sum()
    weighed = trainer.compute_loss(model, batch)
    torch.testing.assert_close(weighed, wanted, rtol=1e-5, atol=0)
    assert abs(weighed - same) > 0.1


@every
def test_what_is_counted_is_what_is_compared(name, tmp_path):
    """The first label of a causal model's sample has no logits before it."""
    trainer = trainer_of(name, tmp_path)
    batch = batch_of(name, trainer)
    # fill-in-the-middle predicts every token: of each sample the first is not compared
    labels = batch["labels"][:, 1:] if name.startswith(LEFT) else batch["labels"]
    many = int(labels.ne(-100).sum())
    assert int(trainer._get_num_items_in_batch([batch], CPU)) == many
    if "fim" in name:
        assert int(batch["labels"].ne(-100).sum()) == many + len(labels)
    loss = trainer.compute_loss(trainer.model.eval(), batch)
    divided = trainer.compute_loss(trainer.model, batch, num_items_in_batch=many)
    torch.testing.assert_close(loss, divided)


@every
def test_the_head_runs_everywhere_and_outputs_keep_their_shape(name, tmp_path):
    trainer = trainer_of(name, tmp_path)
    batch = batch_of(name, trainer)
    assert not trainer.predicted_only
    _, outputs = trainer.compute_loss(trainer.model, batch, return_outputs=True)
    assert outputs.logits.shape[:2] == batch["labels"].shape


class Gradients(MaskingTrainer):
    """Keeps the gradient of the one step that it takes."""

    def _clip_grad_norm(self, model):
        self.gradients = {n: p.grad.clone() for n, p in model.named_parameters()}
        return super()._clip_grad_norm(model)


@pytest.mark.parametrize("name", ["gpt2, fim", "gpt2, prefix", "bart"])
def test_one_gradient_however_it_is_cut(name, tmp_path):
    gradients = []
    for batch, accumulation in ((8, 1), (2, 4), (3, 3)):
        trainer = trainer_of(
            name, tmp_path, Gradients, per_device_train_batch_size=batch,
            gradient_accumulation_steps=accumulation, max_steps=1,
        )  # fmt: skip
        trainer.train()
        gradients.append(trainer.gradients)
    for parameter, whole in gradients[0].items():
        for cut in gradients[1:]:
            torch.testing.assert_close(cut[parameter], whole, rtol=1e-4, atol=1e-6)


@every
def test_it_trains_and_evaluates(name, tmp_path):
    trainer = trainer_of(
        name, tmp_path, max_steps=40, learning_rate=1e-2, lr_scheduler_type="constant"
    )
    before = trainer.evaluate(CASES[name].rows)["eval_loss"]
    trainer.train()
    assert trainer.evaluate(CASES[name].rows)["eval_loss"] < 0.8 * before
    assert trainer.predicted_tokens > 0


def test_a_decoder_with_inputs_of_its_own_is_not_given_the_labels(tmp_path):
    """Word dropout beside an encoder's tokens: what the decoder reads is corrupted."""

    class WithSource(MaskingCollator):
        def __call__(self, samples: Any) -> Any:
            batch = super().__call__(samples)
            ids = torch.full((len(batch["labels"]), 5), 7)
            return batch | {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    words = tokenizers.words()
    collator = WithSource(words, recipe("word-dropout", words), seed=4)
    trainer = MaskingTrainer(bart(len(words)), tiny.arguments(tmp_path), collator)
    rows = tiny.samples(8)
    batch = trainer.data_collator([Sample(row, i, Clock(0, 0, 0)) for i, row in enumerate(rows)])
    assert (batch["decoder_input_ids"] == words.mask_token_id).any()
    names = ("input_ids", "attention_mask", "decoder_input_ids", "decoder_attention_mask")
    logits = trainer.model.eval()(**{name: batch[name] for name in names}).logits
    wanted = torch.nn.functional.cross_entropy(logits.transpose(1, 2), batch["labels"])
    torch.testing.assert_close(trainer.compute_loss(trainer.model, batch), wanted)
