"""Law 2: a sample's mask does not depend on the batch it is in, nor on how that is laid out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from maskwright import Clock, Masking, Ragged, TokenBatch, mlm
from tests.corruption.rows import WORDS, by_row, subset
from tests.strategies import draws_of_masks, token_batches


@given(draws_of_masks(min_rows=1), st.data())
def test_any_batch_of_the_same_samples(drawn, data):
    masking, batch, clock = drawn
    whole = by_row(masking.plan(batch, clock))
    rows = data.draw(st.lists(st.integers(0, len(batch) - 1), max_size=6))
    assert by_row(masking.plan(subset(batch, rows), clock)) == [whole[row] for row in rows]


@given(draws_of_masks(min_rows=1))
def test_one_sample_at_a_time(drawn):
    masking, batch, clock = drawn
    alone = [by_row(masking.plan(subset(batch, [row]), clock))[0] for row in range(len(batch))]
    assert alone == by_row(masking.plan(batch, clock))


@given(st.data(), st.integers(0, 5))
def test_padding_side_and_amount(data, extra):
    batch = data.draw(token_batches(WORDS, dtype=np.int64, min_rows=1))
    plan = Masking(rate=0.4).bind(WORDS).plan(batch, Clock(3))
    length = int(batch.tokens.lengths.max()) + extra
    for side in ("left", "right"):
        padded = mlm(plan, side=side, length=length)
        attended = padded.attention_mask.numpy()
        assert Ragged.from_padded(padded.input_ids, attended) == plan.corrupted
        assert Ragged.from_padded(padded.labels, attended) == plan.labels()
        assert (padded.labels.numpy()[attended == 0] == -100).all()
        assert (padded.input_ids.numpy()[attended == 0] == WORDS.pad_id).all()


def test_an_unseen_suffix_changes_no_earlier_draw():
    row = list(range(5, 305))
    masking = Masking(rate=0.3).bind(WORDS)
    whole, cut = (
        masking.plan(TokenBatch(Ragged.from_lists([part]), np.array([6])), Clock(1))
        for part in (row, row[:100])
    )
    assert by_row(cut)[0] == [one for one in by_row(whole)[0] if one[0] < 100]


@given(draws_of_masks(min_rows=1))
def test_seed_stream_and_id_each_matter(drawn):
    """On rows long enough that equal masks by chance have a probability below 2**-200."""
    _, _, clock = drawn
    batch = TokenBatch(Ragged.from_lists([list(range(5, 405))]), np.array([12]))
    masking = Masking(rate=0.5, refresh="static").bind(WORDS)
    first = by_row(masking.plan(batch, clock))
    assert by_row(masking.plan(batch, replace(clock, seed=clock.seed + 1))) != first
    assert by_row(replace(masking, stream=9).plan(batch, clock)) != first
    assert by_row(masking.plan(replace(batch, sample_ids=np.array([13])), clock)) != first
