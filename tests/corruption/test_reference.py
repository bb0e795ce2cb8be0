"""The kernels against the slow reference, bit for bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskwright import Clock, Masking, Ragged, TokenBatch
from maskwright.corruption import reference
from tests.corruption.rows import WORDS, by_row
from tests.strategies import TOKEN_DTYPES, draws_of_masks


@given(draws_of_masks())
def test_plan_is_the_reference(drawn):
    masking, batch, clock = drawn
    assert by_row(masking.plan(batch, clock)) == reference.plan(masking, batch, clock)


@given(draws_of_masks(min_rows=1), st.sampled_from([0.0, 0.15, 0.5, 1.0]), st.booleans())
def test_plan_is_the_reference_at_common_rates(drawn, rate, exact):
    masking, batch, clock = drawn
    masking = replace(masking, rate=rate, exact=exact, at_least=masking.at_least * exact)
    assert by_row(masking.plan(batch, clock)) == reference.plan(masking, batch, clock)


def test_the_comparison_can_fail():
    tokens = Ragged.from_lists([list(range(5, 300))])
    batch, masking = TokenBatch(tokens, np.array([3])), Masking().bind(WORDS)
    plan = by_row(masking.plan(batch, Clock(1)))
    assert plan == reference.plan(masking, batch, Clock(1))
    assert plan != reference.plan(masking, batch, Clock(2))
    assert plan != reference.plan(replace(masking, stream=1), batch, Clock(1))
    assert plan != reference.plan(masking, replace(batch, sample_ids=np.array([4])), Clock(1))


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("dtype", TOKEN_DTYPES)
def test_dtype_and_layout_of_the_memory_change_nothing(dtype, exact):
    rows = [list(range(5, 600)), [], [2, 7, 3]]
    masking = Masking(exact=exact).bind(WORDS)
    ids = np.array([9, 8, 7])
    expected = by_row(masking.plan(TokenBatch(Ragged.from_lists(rows), ids)))
    tokens = Ragged.from_lists(rows, dtype)
    frozen = tokens.values.copy()
    frozen.flags.writeable = False
    strided = np.repeat(tokens.values, 2)[::2]
    for values in (tokens.values, frozen, strided):
        batch = TokenBatch(tokens.like(values), ids)
        assert by_row(masking.plan(batch)) == expected
        np.testing.assert_array_equal(batch.tokens.values, np.concatenate(rows))


def test_an_integer_rate_is_a_rate():
    batch = TokenBatch(Ragged.from_lists([[5, 6, 7]]), np.array([0]))
    for rate, count in ((0, 0), (1, 3)):
        for exact in (False, True):
            plan = Masking(rate=rate, exact=exact).bind(WORDS).plan(batch)
            assert len(plan.positions) == count
