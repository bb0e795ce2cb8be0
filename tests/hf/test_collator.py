"""MaskingCollator: in place of transformers' own, and what it takes and refuses."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from transformers import BatchEncoding, DataCollatorForLanguageModeling

from maskwright import Clock, Masking, recipe
from maskwright.errors import BatchError, PolicyError, SampleIdError, VocabularyError
from maskwright.hf import MaskingCollator, Sample
from tests.core import tokenizers
from tests.hf import tiny
from tests.hf.seen import expected, original, views

STATIC = Masking(refresh="static", rate=0.4)


def collator(**changes) -> MaskingCollator:
    settings = {"masking": STATIC, "seed": 7} | changes
    return MaskingCollator(tokenizers.words(), settings.pop("masking"), **settings)


def identified(rows) -> list[dict]:
    return [row | {"sample_id": i} for i, row in enumerate(rows)]


ROWS = identified(tiny.samples(8))


@pytest.mark.parametrize("multiple", [None, 16])
@pytest.mark.parametrize("side", ["left", "right"])
def test_keys_shapes_and_dtypes_are_those_of_transformers(side, multiple, monkeypatch):
    monkeypatch.setattr(tokenizers.words(), "padding_side", side)
    theirs = DataCollatorForLanguageModeling(tokenizers.words(), pad_to_multiple_of=multiple)
    want = theirs([{"input_ids": row["input_ids"]} for row in ROWS])
    got = collator(pad_to_multiple_of=multiple)(ROWS)
    assert isinstance(got, BatchEncoding)
    assert set(got) == set(want)
    for name in want:
        assert got[name].shape == want[name].shape
        assert got[name].dtype == want[name].dtype
    assert torch.equal(got["attention_mask"], want["attention_mask"])


def test_labels_are_the_tokens_and_the_rest_is_untouched():
    for row, view in zip(ROWS, views(collator()(ROWS)), strict=True):
        assert original(view) == tuple(row["input_ids"])
        # specials are never predicted
        assert view[1][0] == view[1][-1] == -100
        assert 4 not in view[1]


def test_it_is_the_plan_of_the_policy():
    ours = collator()
    batch, plan = ours(ROWS), ours.plan(ROWS)
    assert torch.equal(batch["labels"], plan.labels().to_padded(-100))
    for row, view in zip(ROWS, views(batch), strict=True):
        assert view == expected(ours, row["input_ids"], row["sample_id"], 0)


def test_token_types_are_padded_like_the_rest():
    rows = [row | {"token_type_ids": [1] * len(row["input_ids"])} for row in ROWS]
    batch = collator()(rows)
    assert torch.equal(batch["token_type_ids"], batch["attention_mask"])


def test_special_tokens_mask_protects():
    rows = [
        row | {"special_tokens_mask": [i % 2 for i in range(len(row["input_ids"]))]} for row in ROWS
    ]
    labels = collator(masking=Masking(rate=1.0, refresh="static"))(rows)["labels"]
    assert (labels[:, 1::2] == -100).all()
    assert (labels[:, 2::2] != -100).any()


def test_user_labels_are_kept():
    """A prompt of 4 tokens whose label is -100, then targets that are not the tokens."""
    rows = [row | {"labels": [-100] * 4 + [t + 1000 for t in row["input_ids"][4:]]} for row in ROWS]
    batch = collator(masking=Masking(rate=1.0, refresh="static"))(rows)
    for row, (ids, labels) in zip(rows, views(batch), strict=True):
        assert set(labels[:4]) == {-100}
        assert ids[:4] == tuple(row["input_ids"][:4])
        assert labels[4:-1] == tuple(t + 1000 for t in row["input_ids"][4:-1])


@pytest.mark.parametrize("left", [True, False])
def test_padding_inside_the_samples_is_taken_off(left):
    padded = []
    for row in ROWS:
        pad = [0] * (25 - len(row["input_ids"]))
        ones = [1] * len(row["input_ids"])
        join = (lambda a, b: b + a) if left else (lambda a, b: a + b)
        padded.append(
            {
                "input_ids": join(row["input_ids"], pad),
                "attention_mask": join(ones, pad),
                "token_type_ids": join(ones, pad),
                "sample_id": row["sample_id"],
            }
        )
    plain, stripped = collator()(ROWS), collator()(padded)
    assert all(torch.equal(plain[name], stripped[name]) for name in plain)
    assert torch.equal(stripped["token_type_ids"], plain["attention_mask"])


def test_rows_may_be_lists_arrays_or_tensors():
    want = collator()(ROWS)["input_ids"]
    for kind in (np.array, torch.tensor, lambda row: np.array(row, np.uint16)):
        rows = [row | {"input_ids": kind(row["input_ids"])} for row in ROWS]
        assert torch.equal(collator()(rows)["input_ids"], want)


def test_a_given_length():
    assert collator(length=64)(ROWS)["input_ids"].shape == (8, 64)
    with pytest.raises(BatchError, match="more than the length 10"):
        collator(length=10)(ROWS)


def test_a_sample_without_id_is_an_error_with_a_remedy():
    with pytest.raises(SampleIdError, match=r"Sample 2 .*with_sample_ids\(dataset\)"):
        collator()([ROWS[0], ROWS[1], {"input_ids": [2, 3]}])


@pytest.mark.parametrize(
    "change, message",
    [
        ({"input_idz": [1]}, "Unknown column 'input_idz'. Did you mean 'input_ids'"),
        ({"text": "hello"}, r"Unknown column 'text'.*remove_columns"),
        ({"token_type_ids": [0]}, r"Sample 0: token_type_ids has 1 values for 8"),
        ({"labels": [0]}, r"Some samples of the batch have labels.*sample 1 lacks it"),
    ],
)
def test_columns_that_do_not_fit(change, message):
    rows = [ROWS[0] | change, *ROWS[1:2]]
    if "token_type_ids" in change:
        rows = rows[:1]
    with pytest.raises(BatchError, match=message):
        collator()(rows)


def test_what_is_no_sample():
    with pytest.raises(BatchError, match="is a list; a sample is a mapping"):
        collator()([[1, 2]])
    with pytest.raises(BatchError, match="has no input_ids"):
        collator()([{"sample_id": 3}])
    with pytest.raises(BatchError, match="no samples"):
        collator()([])


def timed(*clocks) -> list[Sample]:
    return [Sample(ROWS[i], i, clock) for i, clock in enumerate(clocks)]


def test_the_clock_of_the_samples_counts_and_the_seed_of_the_collator():
    ours = collator(masking=recipe("roberta"), carry=True)
    batch = ours(timed(Clock(99, 3, 5), Clock(99, 3, 6)))
    assert batch["clock"].tolist() == [[3, 6], [3, 6]]
    assert batch["sample_ids"].tolist() == [0, 1]
    assert views(batch)[0] == expected(ours, ROWS[0]["input_ids"], 0, 3)


def test_mixed_clocks():
    with pytest.raises(BatchError, match="of one epoch"):
        collator()(timed(Clock(0, 1), Clock(0, 2)))
    with pytest.raises(BatchError, match="must all come with a clock"):
        collator()(timed(Clock(0, 1), None))


def test_without_a_clock_only_static_masks_can_be_drawn():
    dynamic = collator(masking=recipe("roberta"))
    with pytest.raises(PolicyError, match="needs the epoch"):
        dynamic(ROWS)
    assert collator()(ROWS)["labels"].ne(-100).any()
    dynamic.set_clock(2)
    assert views(dynamic(ROWS))[1] == expected(dynamic, ROWS[1]["input_ids"], 1, 2)


def test_the_tokenizer_must_have_what_the_policy_writes():
    with pytest.raises(VocabularyError, match="has no mask token"):
        MaskingCollator(tokenizers.unigram())


def test_it_goes_to_a_worker_that_is_spawned():
    ours = collator()
    again = pickle.loads(pickle.dumps(ours))
    assert torch.equal(again(ROWS)["input_ids"], ours(ROWS)["input_ids"])
