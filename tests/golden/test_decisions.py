"""The masks of a seed are the recorded ones, for ever."""

from __future__ import annotations

import json

import pytest

from maskwright import Clock, recipe
from maskwright.corruption import RECIPES
from tests.golden import regenerate


@pytest.fixture(scope="module")
def recorded() -> dict[str, list[list[int]]]:
    return json.loads(regenerate.FILE.read_text(encoding="utf-8"))


def test_every_recipe_is_recorded(recorded):
    assert list(recorded) == [*RECIPES, "bart, sentences"]


@pytest.mark.parametrize("name", RECIPES)
def test_decisions_are_the_recorded_ones(recorded, name):
    assert len(recorded[name]) == 1000
    assert regenerate.decisions(name) == recorded[name]


def test_sentences_are_where_they_are_recorded(recorded):
    assert len(recorded["bart, sentences"]) == 1000
    assert regenerate.sentences() == recorded["bart, sentences"]


def test_the_record_has_every_action_sample_and_more_than_one_seed_and_epoch(recorded):
    seeds, epochs, samples, _, actions, _ = map(set, zip(*recorded["roberta"], strict=True))
    assert len(seeds) == 4
    assert epochs == {0, 1, 12}
    assert samples == set(regenerate.SAMPLES)
    assert actions == {1, 2, 3}


def test_the_record_has_what_recipes_differ_in(recorded):
    actions = {name: {row[4] for row in recorded[name]} for name in RECIPES}
    assert actions["bart"] == {regenerate.INSERTED, 6}
    assert actions["t5"] == actions["ul2"] == {5}
    assert actions["fim"] == actions["prefix-lm"] == {3}
    assert len(regenerate.phrases()) > 10
    # what says the same of another recipe would guard nothing
    assert len({json.dumps(recorded[name]) for name in RECIPES}) == len(RECIPES)


def test_bert_rotates_and_roberta_does_not(recorded):
    """Epoch 12 of ten rotating draws is epoch 2; of fresh draws it is not."""
    batch = regenerate.batch()
    for name, turns in (("bert", True), ("roberta", False)):
        masking = recipe(name, regenerate.VOCABULARY)
        early, late = (masking.plan(batch, Clock(0, epoch)).positions for epoch in (2, 12))
        assert (early.tolist() == late.tolist()) == turns
    assert recorded["bert"] != recorded["roberta"]
    first = [row for row in recorded["bert"] if row[1] < 10]
    assert first[:100] == recorded["roberta"][:100]
