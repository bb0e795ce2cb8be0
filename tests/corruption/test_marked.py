"""Marked spans, the marks of a text, and marks through the collator."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from maskwright import Mask, Masking, Ragged, TokenBatch
from maskwright.corruption import reference_structure as reference
from maskwright.corruption.marked import Marked, mark
from maskwright.errors import BatchError
from maskwright.hf import MaskingCollator
from tests.core import tokenizers
from tests.corruption.structure_rows import (
    FEW,
    agrees,
    batch_of,
    draw_of,
    drawn_batches,
    elastic,
    select,
)


@given(drawn_batches())
def test_marked_is_its_reference(drawn):
    agrees(Marked(), *drawn, reference.marked)


@given(drawn_batches(min_rows=1), st.data())
def test_any_batch_of_the_same_samples(drawn, data):
    rows = data.draw(st.lists(st.integers(0, len(drawn[0]) - 1), max_size=6))
    elastic(Marked(), *drawn, rows)


def test_runs_of_equal_marks_are_spans():
    batch = batch_of(
        [1, 6, 7, 8, 9, 6, 7, 2], [6, 7], [],
        marks=[[3, 3, 3, 0, 4, 5, 5, 5], [5, 0], []],
    )  # fmt: skip
    got = select(Marked(), batch, draw_of(batch, 1.0))
    assert got == [[[1, 2], [4], [5, 6]], [[0]], []]


def test_spans_are_drawn_with_the_rate_and_whole():
    batch = batch_of(*[[6, 7, 8, 9]] * 5000, marks=[[1, 1, 0, 2]] * 5000)
    got = select(Marked(), batch, draw_of(batch, 0.4))
    assert {tuple(u) for units in got for u in units} == {(0, 1), (3,)}
    for unit in ([0, 1], [3]):
        count = sum(unit in units for units in got)
        assert stats.binomtest(count, 5000, 0.4).pvalue > 1e-6


def test_an_exact_budget_is_a_share_of_the_marked_tokens():
    batch = batch_of(*[[6] * 20] * 50, marks=[[1, 2, 3, 4] + [0] * 16] * 50)
    got = select(Marked(), batch, draw_of(batch, 0.5, exact=True))
    assert all(sum(map(len, units)) == 2 for units in got)
    batch = batch_of([6] * 5, marks=[[1] * 5])
    assert select(Marked(), batch, draw_of(batch, 0.3, exact=True)) == [[]]
    assert select(Marked(), batch, draw_of(batch, 0.3, exact=True, at_least=1)) == [
        [[0, 1, 2, 3, 4]]
    ]


def test_a_batch_without_marks_is_refused():
    batch = batch_of([6])
    with pytest.raises(BatchError, match=r"has no marks\. Give each sample a column marks"):
        select(Marked(), batch, draw_of(batch))


def test_marks_are_aligned_with_the_tokens():
    with pytest.raises(BatchError, match="marks must have the rows of tokens"):
        TokenBatch(Ragged.from_lists([[6]]), np.array([0]), marks=Ragged.from_lists([[1, 1]]))


def test_marks_of_a_text():
    text = "Anna Smith met Bob"
    offsets = [(0, 0), (0, 2), (2, 4), (4, 10), (11, 14), (14, 18), (0, 0)]
    pattern = re.compile(r"[A-Z]\w+( [A-Z]\w+)*")
    assert mark(text, offsets, pattern).tolist() == [0, 1, 1, 1, 0, 2, 0]
    assert mark(text, offsets, "x").tolist() == [0] * 7
    # a token that two matches share belongs to the first; an empty match marks nothing
    assert mark("abcd", [(0, 1), (1, 3), (3, 4)], "ab|cd|$").tolist() == [1, 1, 2]
    assert mark("", [], pattern).tolist() == []


def test_marks_through_the_collator():
    tokenizer = tokenizers.words()
    masking = Masking(select=Marked(), rate=1.0, act=Mask(), refresh="static")
    collator = MaskingCollator(tokenizer, masking)
    row = {"input_ids": [2, 7, 8, 9, 0], "attention_mask": [1, 1, 1, 1, 0]}
    row["marks"] = [1, 1, 0, 2, 2]
    batch = collator([row | {"sample_id": 0}, row | {"sample_id": 1}])
    assert batch["labels"].tolist() == [[-100, 7, -100, 9]] * 2
    with pytest.raises(BatchError, match="marks has 1 values for 5 input_ids"):
        collator([row | {"sample_id": 0, "marks": [1]}])


def test_marks_move_with_a_batch():
    batch = batch_of([6, 7], marks=[[0, 1]])
    assert replace(batch, sample_ids=np.array([4])).marks is batch.marks
    assert Masking(Marked(), rate=1.0).bind(FEW).plan(batch).positions.tolist() == [1]
