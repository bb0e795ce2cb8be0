"""Cross masks by score: what they leave, what is kept of them, and under what is written."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from maskwright.errors import ConfigError
from maskwright.hf import cross_attention_maps
from maskwright.hf.attachment.attach import attached_to
from maskwright.lab.translate.attached import attach_kept
from maskwright.lab.translate.config import TranslationModel, Variant, parse_translation
from maskwright.lab.translate.generate import open_generator
from maskwright.lab.translate.masks import KNOWN_CROSS_MASKS, CrossMask, DecoderMask
from maskwright.lab.translate.model import build_translation_model
from maskwright.lab.translate.open_masked import open_masked
from maskwright.lab.translate.preparation import prepare_pairs
from maskwright.lab.translate.train import train_translation
from tests.lab.translate import toy


@pytest.fixture(scope="module")
def prepared(source):
    return prepare_pairs(toy.experiment(source))


def model_of(prepared):
    """Untrained, with weights so large that its attention has preferences."""
    model = build_translation_model(
        TranslationModel(layers=1, width=32, heads=2, feedforward=32),
        prepared.tokenizer,
        prepared.target_tokenizer,
        seed=0,
        max_length=prepared.max_length,
        beams=1,
    )
    for parameter in model.parameters():
        parameter.data *= 8 if parameter.ndim > 1 else 1
    return model.eval()


def masked_of(prepared, **cross):
    variant = Variant(decoder=DecoderMask(), cross=CrossMask(**cross))
    return open_masked(model_of(prepared), variant, prepared, seed=0)


def batch_of(prepared):
    row = prepared.test_rows[0]
    return {name: torch.tensor([row[name]]) for name in ("input_ids", "labels")}


def test_the_known_one_keeps_four_source_tokens():
    assert KNOWN_CROSS_MASKS["top-k"].by_score == {"top": 4}
    assert KNOWN_CROSS_MASKS["top-k"].patterns == {}


def test_top_keeps_the_largest_weights_of_each_head(prepared):
    masked, batch = masked_of(prepared, top=2), batch_of(prepared)
    free = cross_attention_maps(model_of(prepared), batch)
    [kept] = cross_attention_maps(masked.model, batch).allowed
    assert (kept.sum(-1) == 2).all()
    [weights] = free.weights
    second = np.sort(weights, axis=-1)[..., -2:-1]
    np.testing.assert_array_equal(kept, weights >= second)


def test_a_threshold_keeps_weights_from_it_on(prepared):
    masked, batch = masked_of(prepared, threshold=0.3), batch_of(prepared)
    [weights] = cross_attention_maps(model_of(prepared), batch).weights
    [kept] = cross_attention_maps(masked.model, batch).allowed
    largest = weights == weights.max(-1, keepdims=True)
    np.testing.assert_array_equal(kept, (weights >= 0.3) | largest)
    assert 0 < kept.mean() < 1


def test_of_what_a_pattern_leaves_the_top_is_kept(prepared):
    masked, batch = masked_of(prepared, pattern="wait_k(2)", top=1), batch_of(prepared)
    [kept] = cross_attention_maps(masked.model, batch).allowed
    assert (kept.sum(-1) == 1).all()
    assert not kept[0, :, 0, 2:].any()  # two source tokens are read before the first is written


def test_what_is_kept_is_put_on_again(prepared):
    """Through the file of a run, a model computes what it did under the mask, and not what it
    computes without."""
    masked, batch = masked_of(prepared, pattern="wait_k(3)", top=2), batch_of(prepared)
    kept = json.loads(json.dumps(masked.kept()))
    assert set(kept) == {"cross", "top"}
    again = model_of(prepared)
    with torch.inference_mode():
        free = again(**batch).logits
        attach_kept(again, kept)
        assert torch.equal(again(**batch).logits, masked.model(**batch).logits)
        assert not torch.allclose(again(**batch).logits, free)
    masked.close()
    assert attached_to(masked.model) is None


def test_it_is_trained_and_writes_under_the_same_mask(source, prepared, tmp_path):
    experiment = toy.experiment(source, cross_masks={"top": {"top": 2}})
    result = train_translation(experiment, tmp_path / "m")
    assert result["masks"] == {"top": 2}
    generator = open_generator(str(tmp_path / "m"), beams=1)
    assert generator.notes[0].endswith("top 2")
    assert generator(prepared.test.sources) == result["written"]["greedy"]["texts"]


@pytest.mark.parametrize(
    ("cross", "told"),
    [
        ({"top": 2, "threshold": 0.1}, "scores are cut in one way"),
        ({"top": 2, "heads": 0.5}, "heads and top are given"),
        ({"top": 0}, "cross_masks.x.top"),
        ({"threshold": 1.5}, "cross_masks.x.threshold"),
        ({"pattern": "causal | aligned([(0, 0)])"}, "there is no target yet"),
    ],
)
def test_what_does_not_go_together_is_refused(cross, told):
    with pytest.raises(ConfigError) as caught:
        parse_translation({"cross_masks": {"x": cross}})
    assert told in str(caught.value)


def test_only_a_mask_of_nothing_is_free():
    assert CrossMask().free
    assert CrossMask(pattern="padding").by_score == {}
    assert not any(mask.free for name, mask in KNOWN_CROSS_MASKS.items() if name != "none")
