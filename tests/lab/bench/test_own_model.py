"""The case of a user's own model, and what is no such model."""

from __future__ import annotations

import json

import pytest

from maskwright.errors import ConfigError, DataError, ModelError
from maskwright.lab.bench.bench import cases_of
from maskwright.lab.bench.own_model import own_case
from tests.lab.bench import tiny


@pytest.fixture
def folder(tmp_path):
    return tiny.folder_of("bert", tmp_path / "bert")


def test_the_shape_is_the_folders_and_dropout_is_off(folder):
    case = own_case(folder, length=32, slots=128)
    assert case.name == "bert (bert), S=32"
    assert case.ragged["input_ids"].shape == (4, 32)
    model = case.make()
    assert (model.config.hidden_size, model.config.hidden_dropout_prob) == (16, 0.0)
    assert all(part.p == 0 for part in model.modules() if type(part).__name__ == "Dropout")


@pytest.mark.parametrize(
    "kind, name",
    [("gpt2", "gpt2 (gpt2), S=64, prompts masked"), ("bart", "bart (bart), S=64 to 32")],
)
def test_other_kinds(kind, name, tmp_path):
    case = own_case(tiny.folder_of(kind, tmp_path / kind))
    assert case.name == name
    assert type(case.make()) is type(tiny.model(kind))


def test_a_model_that_is_too_short(folder):
    with pytest.raises(ConfigError, match=r"--length 65: .* takes at most 64 tokens"):
        own_case(folder, length=65)


def test_what_is_no_model(folder, tmp_path):
    with pytest.raises(DataError, match="is not the folder of a model"):
        own_case(tmp_path / "none")
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"vocab_size": 20}))
    with pytest.raises(DataError, match="60 ids, the model 20: they do not belong together"):
        own_case(folder)


def test_a_model_without_a_language_head(folder):
    path = folder / "config.json"
    config = {"model_type": "vit", "vocab_size": 60, "architectures": ["ViTModel"]}
    path.write_text(json.dumps(config))
    with pytest.raises(ModelError, match="is no language model"):
        own_case(folder, length=32, slots=64).make()


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"length": 15}, "--length 15: a text has 16 tokens or more"),
        ({"rate": 0.0}, "--rate 0.0: it is above 0 and below 1"),
        ({"rate": 1.0}, "--rate 1.0"),
    ],
)
def test_settings_outside_their_rule(settings, message):
    with pytest.raises(ConfigError, match=message):
        cases_of(**settings)


def test_one_length_is_one_case():
    (make,) = cases_of(length=1024, rate=0.3, quick=True)
    case = make()
    assert case.name == "BERT 4 × 256, S=1024"
    assert case.ragged["input_ids"].shape == (2, 1024)
    assert len(cases_of()) == 5
