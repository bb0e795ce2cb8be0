from __future__ import annotations

import json

import pytest
from transformers import AutoModelForMaskedLM, BertConfig, BertModel

from maskwright.errors import ConfigError, ModelError
from maskwright.lab.compare import Watcher
from maskwright.lab.evaluate import evaluate
from maskwright.lab.run import RUN_FILE
from maskwright.lab.train import train
from tests.core.tokenizers import words
from tests.lab import tiny


class Notes(Watcher):
    def __init__(self, stop_at=None):
        self.notes, self.steps, self.stop_at = [], [], stop_at

    def note(self, text):
        self.notes.append(text)

    def event(self, event):
        self.steps.append(event.step)
        if event.step == self.stop_at:
            raise KeyboardInterrupt


def test_a_model_is_trained_saved_loaded_and_scored_again(text, tmp_path):
    out = tmp_path / "model"
    result = train(tiny.experiment(text), out, policy="static", seed=4, steps=7)
    assert (result["steps"], result["spec"]["seed"]) == (7, 4)
    assert result["spec"]["policy"]["refresh"] == "static"
    assert result["spec"]["start"] is None
    assert AutoModelForMaskedLM.from_pretrained(out).config.hidden_size == 32
    assert evaluate(out).reproduced
    again = Notes()
    assert train(tiny.experiment(text), out, policy="static", seed=4, steps=7, watcher=again)
    assert again.steps == []
    assert any("is trained already" in note for note in again.notes)


def test_it_reads_all_the_text_for_an_epoch_unless_told_otherwise(text, tmp_path):
    result = train(tiny.experiment(text), tmp_path / "a", policy="dynamic")
    assert result["history"][-1]["epoch"] == 1
    assert result["cost"]["tokens"] == result["spec"]["samples"]["tokens"]


def test_the_threads_that_it_used_are_recorded(text, tmp_path):
    """With as many workers as cores it has them all; evaluate must use as many again."""
    import torch

    before = torch.get_num_threads()
    try:
        result = train(tiny.experiment(text, workers=2), tmp_path / "a", policy="dynamic", steps=3)
        assert torch.get_num_threads() == result["spec"]["threads"] == 2
        torch.set_num_threads(1)
        assert evaluate(tmp_path / "a").reproduced
    finally:
        torch.set_num_threads(before)


def test_an_interrupted_training_goes_on(text, tmp_path):
    experiment = tiny.experiment(
        text, training={"batch_size": 4, "warmup_steps": 2, "checkpoint_every": 5}
    )
    whole = train(experiment, tmp_path / "a", policy="dynamic", steps=12)
    out = tmp_path / "b"
    with pytest.raises(KeyboardInterrupt):
        train(experiment, out, policy="dynamic", steps=12, watcher=Notes(stop_at=10))
    with pytest.raises(ConfigError, match=r"other settings \(budget\.steps\)"):
        train(experiment, out, policy="dynamic", steps=13)
    notes = Notes()
    again = train(experiment, out, policy="dynamic", steps=12, watcher=notes)
    assert min(notes.steps) > 5
    assert (again["final"], again["history"]) == (whole["final"], whole["history"])
    assert sorted(path.name for path in out.iterdir()) == sorted(
        path.name for path in (tmp_path / "a").iterdir()
    )


@pytest.mark.parametrize(
    "files, message",
    [
        (["thesis.tex"], "holds other things"),
        (["checkpoints/mine.pt"], "holds other things"),
        (["run.json"], "holds"),
        (["config.json", "model.safetensors"], "holds other things"),
    ],
)
def test_a_folder_of_somebody_else_is_refused_and_not_touched(text, tmp_path, files, message):
    out = tmp_path / "out"
    for name in files:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text('{"mine": 1}')
    before = tiny.contents(tmp_path)
    with pytest.raises(ConfigError, match=message):
        train(tiny.experiment(text), out, policy="dynamic", steps=1)
    assert tiny.contents(tmp_path) == before


def test_files_put_beside_an_unfinished_training_are_not_deleted(text, tmp_path):
    experiment = tiny.experiment(text, training={"checkpoint_every": 2})
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        train(experiment, out, policy="dynamic", steps=9, watcher=Notes(stop_at=5))
    (out / "notes.txt").write_text("mine")
    before = tiny.contents(out)
    with pytest.raises(ConfigError, match=r"unfinished training, and other things \(notes\.txt\)"):
        train(experiment, out, policy="dynamic", steps=9)
    assert tiny.contents(out) == before


def test_a_file_is_no_folder(text, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(ConfigError, match="is a file"):
        train(tiny.experiment(text), tmp_path / "out", policy="dynamic")
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.parametrize(
    "budget, message",
    [
        ({"steps": 0}, "above zero, got steps=0"),
        ({"epochs": -1.0}, "above zero, got epochs=-1"),
        ({"epochs": float("nan")}, "above zero"),
        ({"epochs": 1.0, "steps": 3}, "either epochs or steps"),
    ],
)
def test_a_budget_that_is_none(text, tmp_path, budget, message):
    with pytest.raises(ConfigError, match=message):
        train(tiny.experiment(text), tmp_path / "out", policy="dynamic", **budget)
    assert not (tmp_path / "out").exists()


def test_an_unknown_policy(text, tmp_path):
    with pytest.raises(ConfigError, match="Did you mean 'dynamic'"):
        train(tiny.experiment(text), tmp_path / "out", policy="dynamc")


# -- pretrained models ---------------------------------------------------------------------


@pytest.fixture
def encoder(tmp_path):
    """An encoder without an output head, as most are published, and its tokenizer."""
    folder = tmp_path / "encoder"
    BertModel(
        BertConfig(
            vocab_size=60, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=16, max_position_embeddings=32,
        )
    ).save_pretrained(folder)  # fmt: skip
    words(60).save_pretrained(folder)
    return folder


def adapt(encoder, tmp_path, **data):
    documents = [" ".join(f"w{5 + (7 * k + row) % 50}" for k in range(60)) for row in range(40)]
    source = tiny.write_text(tmp_path / "w.txt", documents)
    return tiny.experiment(
        source,
        data={"source": str(source), "tokenizer": str(encoder), "max_length": 32} | data,
        model={"pretrained": str(encoder)},
    )


def test_an_encoder_gets_a_new_head_and_the_saved_model_is_whole(encoder, tmp_path):
    result = train(adapt(encoder, tmp_path), tmp_path / "out", policy="dynamic", steps=3)
    assert evaluate(tmp_path / "out").scores == result["final"]


def test_samples_longer_than_the_model(encoder, tmp_path):
    with pytest.raises(ModelError, match=r"max_length=64 .* longer than .*\(32\)\. Use"):
        train(adapt(encoder, tmp_path, max_length=64), tmp_path / "out", policy="dynamic", steps=1)
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_larger_than_the_model(encoder, tmp_path):
    words(90).save_pretrained(tmp_path / "large")
    experiment = adapt(encoder, tmp_path, tokenizer=str(tmp_path / "large"))
    with pytest.raises(ModelError, match=r"has 90 ids and .* only 60"):
        train(experiment, tmp_path / "out", policy="dynamic", steps=1)


def test_heads_that_do_not_divide_the_width(text, tmp_path):
    experiment = tiny.experiment(text, model={"width": 32, "heads": 3})
    with pytest.raises(ModelError, match="width 32 cannot have 3 heads"):
        train(experiment, tmp_path / "out", policy="dynamic", steps=1)


def test_the_record_says_how_to_evaluate_again(text, tmp_path):
    train(tiny.experiment(text), tmp_path / "out", policy="dynamic", steps=1)
    record = json.loads((tmp_path / "out" / RUN_FILE).read_text())
    assert record["data"]["source"] == str(text)
    assert record["spec"]["evaluation"]["masks"] == "random-15"
