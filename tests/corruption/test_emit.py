"""A plan as padded tensors, in literal cases."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from maskwright import Clock, Mask, Masking, MaskPlan, Ragged, TokenBatch, Vocabulary, mlm
from maskwright.errors import BatchError, VocabularyError
from tests.corruption.rows import WORDS

ROWS = [[2, 5, 6, 3], [2, 7, 3]]


def plan_of(rows, positions, *, vocabulary=WORDS, ids=None) -> MaskPlan:
    """A plan that masks exactly the given flat positions."""
    tokens = Ragged.from_lists(rows)
    batch = TokenBatch(tokens, np.arange(len(rows)) if ids is None else np.array(ids))
    positions = np.array(positions, np.int64)
    actions, masked = np.full(len(positions), 1, np.uint8), np.full(len(positions), 4)
    policy = Masking(act=Mask()).bind(vocabulary)
    return MaskPlan(batch, policy, Clock(), positions, actions, masked, 0.15)


def test_right_padding():
    batch = mlm(plan_of(ROWS, [2, 5]))
    assert batch.input_ids.tolist() == [[2, 5, 4, 3], [2, 4, 3, 0]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert batch.labels.tolist() == [[-100, -100, 6, -100], [-100, 7, -100, -100]]


def test_left_padding_to_a_length():
    batch = mlm(plan_of(ROWS, [1, 2]), side="left", length=5)
    assert batch.input_ids.tolist() == [[0, 2, 4, 4, 3], [0, 0, 2, 7, 3]]
    assert batch.attention_mask.tolist() == [[0, 1, 1, 1, 1], [0, 0, 1, 1, 1]]
    assert batch.labels.tolist() == [[-100, -100, 5, 6, -100], [-100] * 5]


def test_empty_rows_and_an_empty_batch():
    batch = mlm(plan_of([[], [5], []], [0]))
    assert batch.input_ids.tolist() == [[0], [4], [0]]
    assert batch.attention_mask.tolist() == [[0], [1], [0]]
    assert batch.labels.tolist() == [[-100], [5], [-100]]
    assert mlm(plan_of([], [])).input_ids.shape == (0, 0)
    assert mlm(plan_of([[], []], [])).input_ids.shape == (2, 0)


def test_all_is_int64():
    batch = mlm(plan_of(ROWS, [2]))
    tensors = (batch.input_ids, batch.attention_mask, batch.labels)
    assert {tensor.dtype for tensor in tensors} == {torch.int64}


def test_a_sample_that_is_too_long_is_named():
    with pytest.raises(BatchError, match=r"Sample 41 has 4 tokens, more than the length 3"):
        mlm(plan_of(ROWS, [2], ids=[41, 42]), length=3)


def test_no_padding_token():
    bare = Vocabulary(1000, mask_id=4)
    with pytest.raises(VocabularyError, match="no padding token"):
        mlm(plan_of(ROWS, [2], vocabulary=bare))
    with pytest.raises(VocabularyError, match="no padding token"):
        mlm(plan_of([[5, 6]], [0], vocabulary=bare), length=3)
    # where all are as long there is nothing to pad
    assert mlm(plan_of([[5, 6], [7, 8]], [0], vocabulary=bare)).input_ids.tolist() == [
        [4, 6],
        [7, 8],
    ]
