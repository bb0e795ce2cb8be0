"""Half of the words are made to draw attention, or to be hard: guided masks find them."""

from __future__ import annotations

import pytest
import torch

from maskwright import Masking
from maskwright.corruption import Cautious, Weighted
from tests.hf import tiny
from tests.hf.guided.runs import TRAINERS, train

MIDDLE = 52  # ids above it are planted
STILL = {"learning_rate": 1e-12, "weight_decay": 0.0}


def attended():
    """A BERT whose first layer attends to planted words."""
    model = tiny.model()
    layer = model.bert.encoder.layer[0].attention.self
    with torch.no_grad():
        words = model.bert.embeddings.word_embeddings.weight
        words[:, 0] = -0.1
        words[MIDDLE:, 0] = 0.1
        for part in (layer.query, layer.key):
            part.weight.zero_()
            part.bias.zero_()
        layer.query.bias[::16] = 4.0  # the first size of each head asks for it
        layer.key.weight[::16, 0] = 1.0
    return model


def hard():
    """A BERT that expects the other words, whatever the text."""
    model = tiny.model()
    with torch.no_grad():
        model.cls.predictions.bias[:MIDDLE] += 4.0
    return model


def shares(run) -> list[float]:
    """Of each epoch, the share of planted words among those selected."""
    rows = run.selected()
    epochs = len(rows) // 24
    found = []
    for epoch in range(epochs):
        chosen = [
            token
            for tokens, selected in rows[epoch * 24 : epoch * 24 + 24]
            for token, one in zip(tokens, selected, strict=True)
            if one
        ]
        found.append(sum(token >= MIDDLE for token in chosen) / len(chosen))
    return found


@pytest.mark.parametrize("kind", TRAINERS)
def test_attention_is_followed(kind, tmp_path):
    guided = train(
        tmp_path / "guided", kind, model=attended(), epochs=6, guidance={"layers": [0]}, **STILL
    )
    chance = train(
        tmp_path / "chance", kind, model=attended(), policy="roberta", epochs=6,
        guidance={"layers": [0]}, **STILL,
    )  # fmt: skip
    tokens = [token for row, _ in guided.selected()[:24] for token in row if token > 4]
    planted = sum(token >= MIDDLE for token in tokens) / len(tokens)
    assert 0.4 < planted < 0.6
    assert all(abs(share - planted) < 0.2 for share in shares(chance))
    assert all(share > planted + 0.2 for share in shares(guided)[1:])


@pytest.mark.slow  # a model must learn half of its tokens first
@pytest.mark.parametrize("kind", TRAINERS)
def test_losses_are_followed(kind, tmp_path):
    settings = {"kind": kind, "epochs": 16, "guidance": {"source": "loss"}, **STILL}
    # losses are 4 and 8: weighed by their fourth power
    select = Cautious(Weighted(temperature=0.25, chance=0.1), start_rate=0.15)
    policy = Masking(select=select, rate=0.15, exact=True, at_least=1)
    guided = train(tmp_path / "guided", policy=policy, model=hard(), **settings)
    chance = train(tmp_path / "chance", policy="roberta", model=hard(), **settings)
    late, by_chance = (sum(shares(run)[8:]) / 8 for run in (guided, chance))
    assert abs(by_chance - 0.5) < 0.1
    assert late > by_chance + 0.1
