"""Causal models and encoder–decoders: each score belongs to the token that it is of."""

from __future__ import annotations

import numpy as np
import pytest

from tests.core import tokenizers
from tests.hf.guided.runs import LENGTHS, ROWS, TRAINERS, train
from tests.hf.guided.test_runs import by_sample
from tests.hf.test_emits import bart, llama, t5
from tests.hf.test_other_models import gpt2

MODELS = {"gpt2": gpt2, "llama": llama, "bart": bart, "t5": t5}
STARTS = np.concatenate([[0], np.cumsum(LENGTHS)[:-1]])
kinds = pytest.mark.parametrize("kind", TRAINERS)


def run(path, name, kind, **settings):
    return train(path, kind, epochs=1, policy="roberta", model=MODELS[name](100), **settings)


@kinds
@pytest.mark.parametrize("name", MODELS)
def test_losses_are_of_the_tokens_that_were_predicted(name, kind, tmp_path):
    found = run(tmp_path, name, kind, guidance={"source": "loss"}, max_steps=6)
    chosen = by_sample(found, 0)
    expected = np.concatenate([chosen[i] for i in range(len(ROWS))])
    np.testing.assert_array_equal(~np.isnan(found.scores), expected)


@kinds
@pytest.mark.parametrize("name", ["gpt2", "bart"])
def test_the_losses_are_the_models_own(name, kind, tmp_path):
    found = run(tmp_path, name, kind, guidance={"source": "loss"}, max_steps=1)
    known = found.scores[~np.isnan(found.scores)]
    assert np.mean(known) == pytest.approx(found.losses[0], rel=1e-3)


@kinds
@pytest.mark.parametrize(
    "name, role", [("gpt2", None), ("llama", None), ("bart", None), ("t5", None), ("bart", "cross"),
                   ("t5", "cross")],
)  # fmt: skip
def test_attention_is_of_the_tokens_that_are_read(name, role, kind, tmp_path):
    found = run(tmp_path, name, kind, guidance={"queries": None, "role": role})
    assert not np.isnan(found.scores).any()
    if name in ("bart", "t5"):
        sums = [row.sum() for row in found.store.read(np.arange(len(ROWS)))]
        np.testing.assert_allclose(sums, 1, rtol=5e-3)
    else:  # the first token is seen by all, and attended to by itself alone at first
        assert (found.scores[STARTS] > 1 / LENGTHS).all()


@pytest.mark.parametrize(
    "name, source", [("llama", "attention"), ("llama", "loss"), ("t5", "attention")]
)
def test_padding_on_the_left_changes_no_score(name, source, tmp_path, monkeypatch):
    """Of models that know relative positions only."""
    found = []
    for side in ("right", "left"):
        monkeypatch.setattr(tokenizers.words(), "padding_side", side)
        settings = {"source": source, "queries": 3}
        one = run(tmp_path / side, name, "ours", guidance=settings, max_steps=1)
        found.append(one.scores)
    assert not np.isnan(found[0]).all()
    np.testing.assert_allclose(found[1], found[0], rtol=5e-3)
