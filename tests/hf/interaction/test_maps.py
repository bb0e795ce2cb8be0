"""What the cross-attention looks at, and the alignments that are read from it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from torch import Tensor

from maskwright.attention import Axis, aligned, wait_k
from maskwright.errors import BatchError, ConfigError, ModelError
from maskwright.hf import attach
from maskwright.hf.attachment.attach import attached_to
from maskwright.hf.attachment.score_gates import TopScores
from maskwright.hf.interaction.alignments import alignments_from_attention
from maskwright.hf.interaction.cross_maps import cross_attention_maps
from tests.hf.attachment.models import inputs, make


def _batch(kind: str) -> dict[str, Tensor]:
    batch = inputs(kind)
    batch["labels"] = batch.pop("decoder_input_ids")
    batch["labels"][1, 5:] = -100
    if kind != "whisper":
        batch["attention_mask"] = torch.ones_like(batch["input_ids"])
        batch["attention_mask"][0, 6:] = 0
    return batch


@pytest.mark.parametrize("kind", ["bart", "t5", "whisper"])
def test_maps_are_the_weights_of_the_eager_model(kind: str) -> None:
    model, eager, batch = make(kind), make(kind, implementation="eager"), _batch(kind)
    maps = cross_attention_maps(model, batch)
    mask = (batch["labels"] != -100).long()
    with torch.no_grad():
        out = eager(**batch, decoder_attention_mask=mask, output_attentions=True)
    assert attached_to(model) is None
    for found, expected in zip(maps.weights, out.cross_attentions, strict=True):
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
    assert (maps.target == mask.numpy().astype(bool)).all()
    weights, allowed = maps.of(1, layer=0, head=1)
    sources = maps.source.shape[1]
    assert weights.shape == allowed.shape == (5, sources)
    np.testing.assert_allclose(weights, maps.weights[0][1, 1, :5], atol=1e-6)
    np.testing.assert_allclose(
        maps.of(1)[0], np.mean([one[1, :, :5].mean(0) for one in maps.weights], 0), atol=1e-6
    )
    if kind != "whisper":
        assert maps.of(0)[0].shape == (7, 6)
        assert not maps.allowed[0][0, :, :, 6:].any()


def test_maps_under_patterns_show_what_is_allowed() -> None:
    model, batch = make("marian").train(), _batch("marian")
    with attach(model, encoder=wait_k(9), cross={0: wait_k(2)}, scores={}) as attachment:
        maps = cross_attention_maps(model, batch)
        seats = [seat.pattern for _, seat in attachment.seats if seat.role == "cross"]
        assert seats == [wait_k(2), None]
    assert model.training
    rows = wait_k(2).dense(Axis(7), Axis(6))[0, 0].numpy()
    assert (maps.of(0, layer=0)[1] == rows).all()
    assert maps.of(0, layer=1)[1].all()
    assert (maps.weights[0][~maps.allowed[0]] == 0).all()
    with attach(model, scores={"cross": TopScores(2)}):
        maps = cross_attention_maps(model, batch)
    assert (maps.allowed[1].sum(-1) == 2).all()


def test_links_are_the_largest_weights() -> None:
    model, batch = make("bart"), _batch("bart")
    maps = cross_attention_maps(model, batch)
    found = alignments_from_attention(model, batch)
    assert [len(links) for links in found] == [7, 5]
    for sample, links in enumerate(found):
        weights, _ = maps.of(sample, 0)
        assert links == [(t, int(weights[t].argmax())) for t in range(len(weights))]
    later = alignments_from_attention(model, batch, 1, 0, when="read")
    assert later[1] == [(t, int(maps.of(1, 1, 0)[0][t + 1].argmax())) for t in range(4)]
    common = {int(batch["input_ids"][0, s]) for _, s in found[0]}
    others = alignments_from_attention(model, batch, exclude=common)
    assert not common & {int(batch["input_ids"][0, s]) for _, s in others[0]}
    model(**batch)
    with attach(model, cross=aligned(found)):
        seen = cross_attention_maps(model, batch)
    for sample, links in enumerate(found):
        assert (np.argwhere(seen.of(sample)[1]) == np.array(links)).all()


def test_bad_maps() -> None:
    model, batch = make("bart"), _batch("bart")
    with pytest.raises(BatchError, match="neither labels nor decoder_input_ids"):
        cross_attention_maps(model, {"input_ids": batch["input_ids"]})
    maps = cross_attention_maps(model, batch)
    for asked in ({"sample": 2}, {"sample": 0, "layer": 2}, {"sample": 0, "head": 2}):
        with pytest.raises(ConfigError, match=f"{list(asked)[-1]}=2"):
            maps.of(**asked)
    with pytest.raises(ConfigError, match="when='later'"):
        alignments_from_attention(model, batch, when="later")  # type: ignore[arg-type]
    gpt2: Any = make("gpt2")
    with pytest.raises(ModelError, match="no cross"):
        cross_attention_maps(gpt2, {"decoder_input_ids": batch["input_ids"]})
    assert isinstance(model, hf.BartForConditionalGeneration)
