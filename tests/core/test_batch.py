"""TokenBatch: ids and columns must fit the tokens."""

from __future__ import annotations

import numpy as np
import pytest

from maskwright import Ragged, TokenBatch
from maskwright.errors import BatchError, SampleIdError

TOKENS = Ragged.from_lists([[1, 2], [3]])


def test_a_batch_has_one_id_per_row():
    batch = TokenBatch(TOKENS, np.array([4, 9], np.uint32))
    assert len(batch) == 2
    assert batch.sample_ids.dtype == np.int64
    assert batch.sample_ids.tolist() == [4, 9]
    assert len(TokenBatch(Ragged.from_lists([]), np.array([], np.int64))) == 0


@pytest.mark.parametrize(
    "ids, message",
    [
        (np.array([1]), "must be 2 integers"),
        (np.array([1.0, 2.0]), "got float64"),
        (np.array([[1, 2]]), r"shape \(1, 2\)"),
        (np.array([True, False]), "got bool"),
        (np.array([None, None]), "got object"),
        (np.array([0, -3]), "at least 0, got -3"),
    ],
)
def test_ids_that_are_none(ids, message):
    with pytest.raises(SampleIdError, match=message):
        TokenBatch(TOKENS, ids)


@pytest.mark.parametrize("name", ["word_starts", "protected", "labels", "marks"])
def test_columns_have_the_rows_of_the_tokens(name):
    aligned = TOKENS.like(np.zeros(3, np.uint8))
    assert getattr(TokenBatch(TOKENS, np.array([0, 1]), **{name: aligned}), name) is aligned
    with pytest.raises(BatchError, match=rf"{name} must have the rows.*\[2 1\].*\[1 2\]"):
        TokenBatch(TOKENS, np.array([0, 1]), **{name: Ragged.from_lists([[0], [0, 0]])})


def test_scores_are_floats_with_the_rows_of_the_tokens():
    scores = TOKENS.like(np.array([0.5, np.nan, -1], np.float16))
    assert TokenBatch(TOKENS, np.array([0, 1]), scores=scores).scores is scores
    with pytest.raises(BatchError, match=r"scores must have the rows.*\[2 1\].*\[1\]"):
        TokenBatch(TOKENS, np.array([0, 1]), scores=Ragged.from_lists([[0.5]], float))
    with pytest.raises(BatchError, match=r"scores must be floats, NaN where .* got int64"):
        TokenBatch(TOKENS, np.array([0, 1]), scores=TOKENS.like(np.array([1, 2, 3])))
