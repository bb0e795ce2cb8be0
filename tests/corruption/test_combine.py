"""``|``, ``&``, ``-`` and ``.at()`` against set operations on the parts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from maskwright import Clock, Masking, Tokens, randomness, schedule
from maskwright.corruption import SampledRate
from maskwright.corruption.gaps import Gaps
from maskwright.corruption.marked import Marked
from maskwright.corruption.recurring import Recurring
from maskwright.corruption.sliding import Sliding
from maskwright.corruption.sparse import MinDistance, Stratified
from maskwright.corruption.structure import Prefix, Sentences, Suffix
from maskwright.errors import PolicyError
from tests.corruption.rows import WORDS, same_rows
from tests.corruption.structure_rows import (
    ENDS,
    FEW,
    batch_of,
    draw_of,
    drawn_batches,
    elastic,
    select,
    units_by_row,
)

FALSE_ALARM = 1e-6
PARTS = st.sampled_from(
    [
        Tokens(), MinDistance(2), Stratified(), Sentences(ENDS), Prefix(), Suffix(), Marked(),
        Recurring(3), Sliding(5, 3), Tokens().at(0.7), Gaps(),
    ]
)  # fmt: skip
TREES = st.recursive(
    PARTS,
    lambda parts: st.one_of(
        st.builds(lambda a, b: a | b, parts, parts),
        st.builds(lambda a, b: a & b, parts, parts),
        st.builds(lambda a, b: a - b, parts, parts),
        st.builds(lambda a: a.at(0.4), parts),
    ),
    max_leaves=4,
)


def parts_of(one, two, batch, draw):
    """What the parts of a combination select; each second part draws with a key of its own."""
    number = 1 + sum(str(one).count(sign) for sign in (" | ", " & ", " - "))
    other = replace(draw, run_key=randomness.absorb(draw.run_key, number))
    return one(batch, FEW, draw), two(batch, FEW, other)


def cut_at(units, kept):
    """The tokens of each unit that are kept, in pieces where others lie between them."""
    out = []
    for unit in units:
        piece = []
        for p in unit:
            if p in kept:
                piece.append(p)
            elif piece:
                out.append(piece)
                piece = []
        if piece:
            out.append(piece)
    return out


@given(drawn_batches(), TREES, TREES)
def test_positions_are_those_of_sets(drawn, one, two):
    batch, draw = drawn
    a, b = (set(part.positions.tolist()) for part in parts_of(one, two, batch, draw))
    for combined, expected in ((one | two, a | b), (one & two, a & b), (one - two, a - b)):
        selection = combined(batch, FEW, draw)
        units_by_row(selection, batch)
        assert selection.positions.tolist() == sorted(expected)


@given(drawn_batches(), TREES, TREES)
def test_inserts_of_either_or_of_the_first(drawn, one, two):
    batch, draw = drawn

    def inserts(selection):
        return [] if selection.inserts is None else selection.inserts.tolist()

    a, b = map(inserts, parts_of(one, two, batch, draw))
    assert inserts((one | two)(batch, FEW, draw)) == sorted(a + b)
    assert inserts((one & two)(batch, FEW, draw)) == a
    assert inserts((one - two)(batch, FEW, draw)) == a


@given(drawn_batches(), TREES, TREES)
def test_units_are_those_of_the_first_cut_where_tokens_are_missing(drawn, one, two):
    batch, draw = drawn
    a, b = (units_by_row(part, batch) for part in parts_of(one, two, batch, draw))
    for combined, keep in ((one & two, True), (one - two, False)):
        got = select(combined, batch, draw)
        for row in range(len(batch)):
            first, others = a[row], {p for unit in b[row] for p in unit}
            kept = {p for unit in first for p in unit if (p in others) == keep}
            assert got[row] == cut_at(first, kept)


@given(drawn_batches(), TREES, TREES)
def test_a_union_keeps_the_units_of_both(drawn, one, two):
    batch, draw = drawn
    a, b = (units_by_row(part, batch) for part in parts_of(one, two, batch, draw))
    for row, units in enumerate(select(one | two, batch, draw)):
        taken = {p for unit in a[row] for p in unit}
        others = [[p for p in unit if p not in taken] for unit in b[row]]
        inside = cut_at(b[row], {p for unit in others for p in unit})
        assert sorted(units) == sorted([*a[row], *inside])


@given(drawn_batches(min_rows=1), TREES, st.data())
def test_any_batch_of_the_same_samples(drawn, tree, data):
    rows = data.draw(st.lists(st.integers(0, len(drawn[0]) - 1), max_size=6))
    elastic(tree, *drawn, rows)


@given(drawn_batches(), TREES, st.sampled_from([0.0, 0.2, 1.0]))
def test_at_is_the_part_at_its_rate(drawn, tree, rate):
    batch, draw = drawn
    other = replace(draw, high=np.full(len(batch), rate))
    assert select(tree.at(rate), batch, draw) == select(tree, batch, other)


def test_literally():
    batch = batch_of([6, 7, 8, 9, 6, 7], marks=[[0, 1, 1, 1, 0, 0]])
    draw = draw_of(batch, 1.0)
    window = Sliding(1, 1)
    at_2 = replace(draw, clock=Clock(0, 2))
    assert select(Marked() - window, batch, at_2) == [[[1], [3]]]
    assert select(Marked() & window, batch, at_2) == [[[2]]]
    assert select(window | Marked(), batch, at_2) == [[[1], [2], [3]]]
    assert select(Marked() | window, batch, at_2) == [[[1, 2, 3]]]
    assert select((Marked() | Tokens()) - Prefix().at(1 / 3), batch, draw) == [[[2, 3], [4], [5]]]
    # the innermost rate counts
    assert select(Prefix().at(0.5).at(1.0), batch, draw) == [[[0, 1, 2]]]


def test_rates_of_parts_are_their_own():
    batch = same_rows(np.arange(5, 105), 400)
    union = Masking(Tokens().at(0.1) | Tokens().at(0.2), rate=0.9).bind(WORDS).plan(batch)
    # 1 - 0.9 * 0.8
    assert stats.binomtest(len(union.positions), 40_000, 0.28).pvalue > FALSE_ALARM
    both = Masking(Tokens() & Tokens(), rate=0.5).bind(WORDS).plan(batch)
    assert stats.binomtest(len(both.positions), 40_000, 0.25).pvalue > FALSE_ALARM
    less = Masking(Tokens() - Tokens(), rate=0.5).bind(WORDS).plan(batch)
    assert stats.binomtest(len(less.positions), 40_000, 0.25).pvalue > FALSE_ALARM


def test_parts_of_nested_combinations_are_independent():
    batch = same_rows(np.arange(5, 105), 400)
    three = Tokens() & (Tokens() & Tokens())
    left = (Tokens() & Tokens()) & Tokens()
    for tree in (three, left, (Tokens() & Tokens()) & (Tokens() & Tokens())):
        count = len(Masking(tree, rate=0.5).bind(WORDS).plan(batch).positions)
        parts = str(tree).count("tokens")
        assert stats.binomtest(count, 40_000, 0.5**parts).pvalue > FALSE_ALARM, tree


def test_a_schedule_or_a_sampled_rate_of_a_part():
    batch = same_rows(np.arange(5, 105), 300)
    masking = Masking(Tokens().at(schedule.Linear(0.0, 1.0)), rate=0.15).bind(WORDS)
    assert len(masking.plan(batch, Clock(0, 0, 10, 10)).positions) == 30_000
    sampled = Masking(Tokens().at(SampledRate(0.2, 0.8)), rate=0.15, exact=True).bind(WORDS)
    counts = sampled.plan(batch).selected.values.reshape(300, 100).sum(1)
    assert counts.min() >= 20
    assert counts.max() <= 80
    assert len(set(counts.tolist())) > 30


def test_at_has_no_turns():
    """A part at a rate of its own is drawn once a cycle, whatever the turn."""
    masking = Masking(Stratified().at(0.5), rate=0.25, refresh="coverage-0.25").bind(WORDS)
    batch = same_rows(np.arange(5, 25), 3)
    plans = [masking.plan(batch, Clock(0, epoch)).positions.tolist() for epoch in range(5)]
    assert plans[0] == plans[1] == plans[2] == plans[3] != plans[4]


def test_names():
    tree = (Tokens() | Marked()) - Prefix().at(0.1)
    assert str(tree) == "((tokens | marked spans) - prefix at 0.1)"
    with pytest.raises(PolicyError, match=r"share from 0 to 1, got 1\.5"):
        Tokens().at(1.5)
