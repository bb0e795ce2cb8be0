"""What a PairCollator does not take, and what it says of it."""

from __future__ import annotations

import re

import numpy as np
import pytest
from transformers import RobertaConfig

from maskwright import Mask, Masking
from maskwright.corruption import Decoder, Delete, Seq2Seq, decoder_masking
from maskwright.errors import BatchError, ConfigError, PolicyError, SampleIdError
from maskwright.hf import PairCollator
from maskwright.hf.pairs.limits import longest_of
from tests.core import tokenizers
from tests.hf.pairs import models
from tests.hf.pairs.test_collator import HALF, WORDS, collator

PAIR = {"input_ids": [2, 5, 6, 3], "labels": [11, 12, 3], "sample_id": 8}
ALIGNED = decoder_masking("alignment", start_id=2)


def without(name: str) -> dict:
    return {key: value for key, value in PAIR.items() if key != name}


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"input_ids": []}, "Sample 8 has an empty source: no tokens"),
        ({"attention_mask": [0] * 4}, "has an empty source: 4 tokens, all of them padding"),
        ({"labels": []}, "Sample 8 has an empty target: no labels"),
        ({"labels": [-100, -100]}, "Sample 8 has an empty target: 2 labels, all of them -100"),
        ({"labels": [11, -100, 3]}, "Sample 8 has the label -100 between two others"),
        ({"labels": [5] * 65}, "Sample 8 has 65 tokens in its target, more than the 64"),
        ({"input_ids": [5] * 65}, "Sample 8 has 65 tokens in its source, more than the 64"),
        ({"labels": [11, 500]}, "Token id 500 is outside the vocabulary"),
        ({"target_marks": [1]}, "Sample 8: marks has 1 values for 3 input_ids"),
        ({"lables": [1]}, "Did you mean 'labels'"),
        ({"input_features": np.zeros((4, 8))}, "Sample 8 has input_ids and input_features"),
    ],
)  # fmt: skip
def test_a_bad_pair_is_named(changes, message):
    made = collator(decoder_start_id=None, model=models.model("bart"))
    with pytest.raises(BatchError, match=re.escape(message)):
        made([PAIR | changes])


def test_a_pair_without_a_side_or_an_id():
    with pytest.raises(BatchError, match="no labels, only"):
        collator()([without("labels")])
    with pytest.raises(BatchError, match="has no source: neither input_ids nor input_features"):
        collator()([without("input_ids")])
    with pytest.raises(SampleIdError, match="no sample_id"):
        collator(source=HALF)([without("sample_id")])
    assert collator()([without("sample_id")])["labels"].tolist() == [[11, 12, 3]]
    with pytest.raises(BatchError, match="at least one"):
        collator()([])
    with pytest.raises(BatchError, match="Some samples of the batch have marks"):
        collator()([PAIR, PAIR | {"marks": [0, 0, 1, 0]}])


@pytest.mark.parametrize(
    "changes, message",
    [
        ({}, "has neither target_marks nor alignments"),
        ({"alignments": [[0, 3]]}, "the link 0-3 of alignments is outside its 4 source and 3"),
        ({"alignments": [[4, 0]]}, "the link 4-0"),
        ({"alignments": [[-1, 0]]}, "the link -1-0"),
        ({"alignments": [[1, 0, 2]]}, "alignments are links"),
        ({"alignments": [[1, 0]], "target_marks": [0, 1, 0]}, "marks follow from either"),
        ({"alignments": [[1, 0]]}, "follows marked source tokens, but sample 8 has no marks"),
    ],
)
def test_alignments_that_do_not_fit(changes, message):
    marks = {} if "no marks" in message else {"marks": [0, 1, 0, 0]}
    with pytest.raises(BatchError, match=re.escape(message)):
        collator(target=ALIGNED)([PAIR | marks | changes])


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"decoder_start_id": None}, "needs to know what the decoder reads first"),
        ({"decoder_start_id": 100}, "start id 100 is outside the vocabulary"),
        ({"decoder_start_id": -1}, "start id -1 is outside the vocabulary"),
        ({"decoder_start_id": 5, "model": models.model("bart")}, "is not the 3 that the model"),
        ({"source": decoder_masking("random", start_id=2)}, "what an encoder reads, but it emits"),
        ({"target": Masking(rate=0.1, emit=Seq2Seq())}, "what a decoder reads, but it emits"),
        (
            {"target": decoder_masking("random", start_id=9)},
            "starts with 9, but the decoder with 2",
        ),
        ({"source": "bert"}, "got 'bert', which is no Masking"),
        ({"follow": "masked"}, "there is no source policy"),
        ({"follow": "all"}, '"masked" or "marked", got \'all\''),
    ],
)
def test_a_setting_outside_its_rule(settings, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        collator(**settings)


def test_a_policy_that_moves_what_a_decoder_reads():
    with pytest.raises(PolicyError, match="moves tokens"):
        Masking(rate=0.1, act=Delete(), emit=Decoder("all", start_id=2))


def test_sounds_of_two_shapes_or_with_a_source_policy():
    sounds = models.sounds()
    sounds[1]["input_features"] = np.zeros((4, 10), np.float32)
    with pytest.raises(BatchError, match=re.escape("input_features has shape (4, 10)")):
        collator()(sounds)
    with pytest.raises(BatchError, match="no tokens to mask"):
        collator(source=HALF)(models.sounds())


def test_a_model_that_does_not_say_how_it_starts():
    model = models.model("bert2bert")
    model.config.decoder_start_token_id = None
    model.generation_config.decoder_start_token_id = None
    with pytest.raises(ConfigError, match="does not say what its decoder reads first"):
        PairCollator(WORDS, model=model)


def test_how_long_the_sides_of_a_model_may_be():
    longest = {kind: longest_of(models.model(kind)) for kind in (*models.TEXT, "whisper")}
    assert longest == {
        "bart": (64, 64), "marian": (64, 64), "t5": (None, None), "bert2bert": (64, 64),
        "whisper": (None, 16),
    }  # fmt: skip
    roberta = RobertaConfig(max_position_embeddings=66, pad_token_id=1)
    model = models.model("bart")
    model.config = roberta
    assert longest_of(model) == (64, 64)


def test_a_tokenizer_without_a_mask_token_says_how_to_get_one():
    masked = Masking(rate=0.1, act=Mask())
    with pytest.raises(ValueError, match="has no mask token"):
        PairCollator(tokenizers.unigram(), target=masked, decoder_start_id=0)
