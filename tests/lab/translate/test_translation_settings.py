"""Settings of translation: what is refused, and what options mean."""

from __future__ import annotations

import pytest

from maskwright.errors import ConfigError, PatternError
from maskwright.lab.translate.config import parse_translation
from maskwright.lab.translate.masks import KNOWN_CROSS_MASKS, KNOWN_DECODER_MASKS
from maskwright.lab.translate.settings import PRESETS, load_translation


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_read_as_they_are_packaged(preset):
    found = load_translation(preset)
    assert found.name == preset
    assert next(iter(found.variants)) == "none"


def test_options_choose_masks_model_and_budget():
    found = load_translation(
        "translate-quick",
        model="lstm",
        decoder=["none", "span"],
        cross=["none", "learned"],
        budget={"minutes": 2.5, "steps": None},
    )
    assert list(found.variants) == ["none", "span", "learned"]
    assert found.model.kind == "lstm"
    training = found.training
    assert (training.minutes, training.steps, training.epochs) == (2.5, None, None)
    folder = load_translation("tatoeba-small", model="opus/en-es").model
    assert (folder.kind, folder.pretrained) == ("marian", "opus/en-es")


def test_a_budget_by_set_takes_the_place_of_the_presets():
    training = load_translation("tatoeba-small", changes=["training.steps=7"]).training
    assert (training.steps, training.minutes) == (7, None)


def test_columns_have_names_or_numbers():
    data = load_translation(
        "tatoeba-small", changes=["data.source_column=1", "data.target_column=es"]
    ).data
    assert (data.source_column, data.target_column) == (1, "es")


def test_without_a_file_the_first_preset_is_taken():
    assert load_translation("tatoeba-small").name == "tatoeba-small"
    assert load_translation("translate-quick").name == "translate-quick"
    assert load_translation("tatoeba-small", preset="translate-quick").name == "translate-quick"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"training": {"steps": 3, "minutes": 1}}, "minutes and steps"),
        ({"training": {"learning_rate": 1e-3}}, "got none"),
        ({"training": {"steps": 3, "warmup": 3}}, "warmup_steps"),
        ({"model": {"width": 30, "heads": 4}}, "model.width: 30"),
        ({"cross_masks": {"w": {"pattern": "wait_k(0)"}}}, "k"),
        ({"cross_masks": {"w": {"pattern": "padding", "heads": 0.5}}}, "Leave one of them out"),
        ({"cross_masks": {"w": {"pattern": "wait_kk(3)"}}}, "wait_k"),
        ({"decoder_masks": {"x": {"mask": "randm"}}}, "decoder_masks.x.mask"),
        ({"decoder_masks": {"x": {}}, "cross_masks": {"x": {}}}, "'x' is the name of a decoder"),
        ({"decoder_masks": {"../x": {}}}, "a mask is named with"),
        ({"decoder_masks": {"x": {"rates": 0.2}}}, "decoder_masks.x.rate"),
        ({"seeds": [1, 1]}, "must differ"),
        ({"preset": 3}, "Unknown setting 'preset'"),
    ],
)
def test_bad_settings_are_refused_in_words(settings, told):
    with pytest.raises((ConfigError, PatternError)) as caught:
        parse_translation(settings)
    assert told in str(caught.value)


def test_unknown_masks_are_named_with_a_suggestion():
    with pytest.raises(ConfigError, match="Did you mean 'wait-k'"):
        load_translation("translate-quick", cross=["wait_k"])
    with pytest.raises(ConfigError, match="Did you mean 'random'"):
        load_translation("translate-quick", decoder=["randon"])
    with pytest.raises(ConfigError, match="Unknown preset 'quick'"):
        load_translation("translate-quick", preset="quick")


def test_every_known_mask_builds():
    for mask in KNOWN_CROSS_MASKS.values():
        assert set(mask.patterns) <= {"cross", "encoder"}
    assert {mask.mask for mask in KNOWN_DECODER_MASKS.values()} >= {"none", "cmlm", "sparse"}
