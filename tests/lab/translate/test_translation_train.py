"""One model: it learns, plain transformers gives the same text, and a stopped run goes on."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, BertConfig, BertModel

from maskwright.errors import ConfigError, ModelError
from maskwright.lab.translate import model as models
from maskwright.lab.translate import preparation
from maskwright.lab.translate import run as runs
from maskwright.lab.translate.generate import open_generator
from maskwright.lab.translate.train import TrainingWatcher, train_translation
from tests.core import tokenizers
from tests.lab.translate import toy


@pytest.fixture(scope="module")
def trained(source, tmp_path_factory):
    """A model that has learned a little, with four beams."""
    out = tmp_path_factory.mktemp("trained") / "model"
    experiment = toy.experiment(
        source,
        training={"tokens_per_batch": 512, "warmup_steps": 5, "steps": 40, "bf16": False,
                  "learning_rate": 0.01, "lr_scheduler": "linear", "label_smoothing": 0.0},
        evaluation={"every": 20, "batch_size": 8, "beams": [2, 1]},
    )  # fmt: skip
    return out, train_translation(experiment, out)


def test_it_learns(trained):
    _, result = trained
    losses = [point["loss"] for point in result["history"]]
    assert [point["step"] for point in result["history"]] == [0, 20, 40]
    assert losses[2] < losses[1] < losses[0]
    assert losses[2] < 0.75 * losses[0]
    assert result["training"][-1]["learning_rate"] < result["training"][1]["learning_rate"]
    assert list(result["written"]) == ["2 beams", "greedy"]


def test_plain_transformers_writes_the_same(trained):
    out, _ = trained
    model, tokenizer = (
        AutoModelForSeq2SeqLM.from_pretrained(out),
        AutoTokenizer.from_pretrained(out),
    )
    texts = [row[0] for row in toy.pairs(5)]
    ours = open_generator(str(out))(texts)
    theirs = [
        tokenizer.batch_decode(
            model.generate(**tokenizer([text], return_tensors="pt")), skip_special_tokens=True
        )[0].strip()
        for text in texts
    ]
    assert ours == theirs


def test_a_finished_training_is_not_repeated(trained, source, monkeypatch):
    out, result = trained
    monkeypatch.setattr(runs, "_train", lambda *_: pytest.fail("it trained again"))
    spec = result["spec"]
    experiment = toy.experiment(source, training={**spec["training"], "checkpoint_every": 500},
                                evaluation=spec["evaluation"])  # fmt: skip
    told = []
    watcher = TrainingWatcher()
    watcher.note = told.append
    assert train_translation(experiment, out, watcher=watcher) == result
    assert "trained already" in told[-1]


class Trained(TrainingWatcher):
    """Keeps what trained."""

    def watching(self, budget, trainer) -> None:
        self.trainer = trainer


def test_a_pretrained_encoder_learns_at_a_rate_of_its_own(source, tmp_path, monkeypatch):
    folder, tokenizer, watcher = str(tmp_path / "minilm"), tokenizers.words(), Trained()
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = BertConfig(vocab_size=len(tokenizer), intermediate_size=16, **sizes)
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for room in (models, preparation):
        monkeypatch.setattr(room, "MINILM", folder)
    experiment = toy.experiment(
        source,
        model={"kind": "minilm", "layers": 1, "width": 32, "heads": 2, "feedforward": 32},
        training={"steps": 2, "learning_rate": 0.01, "encoder_rate": 0.3, "bf16": False},
    )
    train_translation(experiment, tmp_path / "out", watcher=watcher)
    groups, encoder = watcher.trainer.optimizer.param_groups, watcher.trainer.model.get_encoder()
    own = {id(one) for one in encoder.parameters() if one.requires_grad}
    for group in groups:
        rate = 0.003 if own & {id(one) for one in group["params"]} else 0.01
        assert group["initial_lr"] == pytest.approx(rate)
    (few,) = [one["params"] for one in groups if one["initial_lr"] < 0.01]
    assert {id(one) for one in few} == own


class Stop(Exception):
    """As Ctrl-C would."""


class StoppedAt(TrainingWatcher):
    def __init__(self, step: int) -> None:
        self.step = step

    def event(self, event) -> None:
        if event.step >= self.step:
            raise Stop


def test_a_stopped_run_ends_as_if_it_had_not_been(source, tmp_path):
    settings = {"tokens_per_batch": 256, "warmup_steps": 2, "steps": 8, "bf16": False}
    experiment = toy.experiment(
        source,
        training={**settings, "checkpoint_every": 4},
        model={"layers": 1, "width": 32, "heads": 2, "feedforward": 32, "dropout": 0.1},
        decoder_masks={"random": {"mask": "random", "rate": 0.3}},
    )
    whole = train_translation(experiment, tmp_path / "whole")
    with pytest.raises(Stop):
        train_translation(experiment, tmp_path / "stopped", watcher=StoppedAt(5))
    assert not (tmp_path / "stopped" / "run.json").exists()
    resumed = train_translation(experiment, tmp_path / "stopped")
    for key in ("history", "training", "final", "sentences", "steps"):
        assert resumed[key] == whole[key]
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "stopped"))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_minutes_end_a_run_with_a_rate_of_nothing(source, tmp_path, monkeypatch):
    # however fast the machine is, it does not come to the end of the epochs
    monkeypatch.setattr(runs, "_epochs_of", lambda settings, prepared: 500)
    experiment = toy.experiment(
        source,
        training={"tokens_per_batch": 256, "warmup_steps": 1, "minutes": 0.01, "bf16": False,
                  "lr_scheduler": "linear"},
    )  # fmt: skip
    result = train_translation(experiment, tmp_path / "m")
    assert result["steps"] >= 1
    assert result["timing"][-1]["seconds"] >= 0.6
    assert result["history"][-1]["step"] == result["steps"]


def test_masks_that_cannot_be_trained_together_are_refused(source, tmp_path):
    experiment = toy.experiment(
        source,
        decoder_masks={"cmlm": {"mask": "cmlm"}},
        cross_masks={"learned": {"heads": 0.5}},
    )
    with pytest.raises(ConfigError, match="does not train with gates"):
        train_translation(experiment, tmp_path / "m")


def test_several_masks_need_a_name(source, tmp_path):
    experiment = toy.experiment(source, cross_masks={"none": {}, "w": {"pattern": "wait_k(2)"}})
    with pytest.raises(ConfigError, match="--cross-mask"):
        train_translation(experiment, tmp_path / "m")


def test_a_learned_mask_is_kept_and_put_on_again(source, tmp_path):
    experiment = toy.experiment(source, cross_masks={"learned": {"heads": 0.5}})
    result = train_translation(experiment, tmp_path / "m")
    assert set(result["masks"]) == {"cross"}
    generator = open_generator(str(tmp_path / "m"), beams=1)
    assert "nothing" in generator.notes[0]
    texts = [row[0] for row in toy.pairs(120)]
    written = dict(zip(texts, generator(texts), strict=True))
    from maskwright.lab.translate.preparation import prepare_pairs

    sources = prepare_pairs(experiment).test.sources
    assert [written[text] for text in sources] == result["written"]["greedy"]["texts"]


def test_a_model_that_fills_masks_is_judged_by_its_passes(source, tmp_path):
    experiment = toy.experiment(
        source, decoder_masks={"cmlm": {"mask": "cmlm"}},
        evaluation={"every": 4, "batch_size": 8, "passes": 3},
    )  # fmt: skip
    result = train_translation(experiment, tmp_path / "m")
    assert list(result["written"]) == ["3 passes"]
    assert "perplexity" not in result["final"]
    assert result["final"]["masked_loss"] > 0
    texts = open_generator(str(tmp_path / "m"), passes=2)(["the cat", ""])
    assert texts[1] == ""
    with pytest.raises(ModelError, match="fills masks"):
        open_generator(str(tmp_path / "m"), beams=4)


def test_what_cannot_be_written_is_said(trained):
    out, _ = trained
    with pytest.raises(ModelError, match="fills no masks"):
        open_generator(str(out), passes=4)
    with pytest.raises(ConfigError, match="at least 1"):
        open_generator(str(out), simultaneous=0)
    with pytest.raises(ConfigError, match="two ways to write"):
        open_generator(str(out), simultaneous=2, beams=4)
    with pytest.raises(ModelError, match="No model can be loaded"):
        open_generator(str(out / "nowhere"))
    with pytest.raises(ConfigError, match="Text 2 has"):
        open_generator(str(out))(["the cat", "the cat " * 30])


def test_the_spec_is_kept(trained):
    out, result = trained
    assert json.loads((out / "run.json").read_text())["spec"] == result["spec"]
    assert result["spec"]["task"] == "translate"


def test_an_lstm_waits_only_if_it_reads_one_way(source, tmp_path):
    waiting = {"w": {"pattern": "wait_k(2)", "encoder": "causal"}}
    model = {"kind": "lstm", "layers": 1, "width": 16, "dropout": 0.0}
    both = toy.experiment(source, model=model, cross_masks=waiting)
    with pytest.raises(ModelError, match=r"model\.bidirectional=false"):
        train_translation(both, tmp_path / "both")
    one = toy.experiment(source, model={**model, "bidirectional": False}, cross_masks=waiting)
    result = train_translation(one, tmp_path / "one")
    assert set(result["masks"]) == {"cross"}
    assert result["written"]["greedy"]["lagging"] > 0
    assert "wait_k(2)" in open_generator(str(tmp_path / "one")).notes[0]


def test_a_causal_model_goes_on_from_a_text(trained, tmp_path):
    """Of texts of two lengths in one batch, and alone by transformers: the same."""
    from transformers import GPT2Config, GPT2LMHeadModel

    out, _ = trained
    tokenizer = AutoTokenizer.from_pretrained(out)
    torch.manual_seed(0)
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(tokenizer), n_embd=16, n_layer=1, n_head=2, n_positions=40, **ends
        )
    ).eval()
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    texts = ["the cat", "the big dog sees a bird"]
    found = open_generator(str(tmp_path), max_new_tokens=6)(texts)
    for text, ours in zip(texts, found, strict=True):
        batch = tokenizer([text], return_tensors="pt", return_token_type_ids=False)
        ids = model.generate(
            **batch, max_new_tokens=6, do_sample=False, pad_token_id=tokenizer.pad_token_id
        )
        added = ids[:, batch["input_ids"].shape[1] :]
        assert ours == tokenizer.batch_decode(added, skip_special_tokens=True)[0].strip()
    assert any(found)
    with pytest.raises(ModelError, match="no source to wait for"):
        open_generator(str(tmp_path), simultaneous=2)
