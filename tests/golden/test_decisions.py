"""The masks of a seed are the recorded ones, for ever."""

from __future__ import annotations

import json

import pytest

from maskwright import Clock, recipe
from tests.golden import regenerate


@pytest.fixture(scope="module")
def recorded() -> dict[str, list[list[int]]]:
    return json.loads(regenerate.FILE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_decisions_are_the_recorded_ones(recorded, name):
    assert len(recorded[name]) == 1000
    assert regenerate.decisions(name) == recorded[name]


def test_the_record_has_every_action_sample_and_more_than_one_seed_and_epoch(recorded):
    seeds, epochs, samples, _, actions, _ = map(set, zip(*recorded["roberta"], strict=True))
    assert len(seeds) == 4
    assert epochs == {0, 1, 12}
    assert samples == set(regenerate.SAMPLES)
    assert actions == {1, 2, 3}


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
