"""Guided masks as a whole: the cautious start, plans that are kept, how varied they are."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskwright import Clock, Masking, MaskPlan, Ragged, TokenBatch, schedule
from maskwright.corruption import Above, Cautious, MixedMasking, Tokens, Weighted, selection_entropy
from maskwright.errors import PolicyError, ScheduleError
from tests.corruption.recipes import batches, build, scores_of, text
from tests.corruption.rows import WORDS, by_row
from tests.corruption.scored_rows import NAN, chosen, scored, scored_batches
from tests.corruption.structure_rows import FEW, draw_of, elastic, select
from tests.strategies import clocks

GUIDED = ("attention-guided", "attention-low", "attention-hints", "loss-guided")
SELECTS = st.sampled_from([Above(0.4), Weighted(), Weighted(chance=0.2, hints=0.1)])


@given(scored_batches(), SELECTS, st.sampled_from([0.0, 0.05, 0.5, 1.0]))
def test_without_scores_it_is_chance_at_the_start_rate(drawn, one, start):
    batch, draw = drawn
    chance = chosen(Tokens().at(start), batch, draw)
    assert chosen(Cautious(one, start), replace(batch, scores=None), draw) == chance
    unknown = batch.tokens.like(np.full(len(batch.tokens.values), np.nan))
    assert chosen(Cautious(one, start), replace(batch, scores=unknown), draw) == chance


@given(scored_batches(), SELECTS)
def test_with_all_scores_it_is_the_select(drawn, one):
    batch, draw = drawn
    full = batch.tokens.like(np.nan_to_num(batch.scores.values, nan=0.5))
    batch = replace(batch, scores=full)
    assert select(Cautious(one), batch, draw) == select(one, batch, draw)


@given(scored_batches(), SELECTS, st.sampled_from([0.05, 0.5]))
def test_in_between_each_token_goes_by_its_own_rule(drawn, one, start):
    batch, draw = drawn
    draw = replace(draw, at_least=0)
    known = ~np.isnan(batch.scores.values)
    protected = 0 if batch.protected is None else batch.protected.values
    both = []
    for part, hidden, how in ((one, ~known, draw), (Tokens().at(start), known, draw)):
        some = replace(batch, protected=batch.tokens.like((hidden | (protected != 0)) * 1))
        both.append(chosen(part, some, how))
    got = chosen(Cautious(one, start), batch, draw)
    assert got == [sorted(a + b) for a, b in zip(*both, strict=True)]


@given(scored_batches(min_rows=1), SELECTS, st.data())
def test_any_batch_of_the_same_samples(drawn, one, data):
    rows = data.draw(st.lists(st.integers(0, len(drawn[0]) - 1), max_size=6))
    elastic(Cautious(one, 0.2), *drawn, rows)


def test_at_least_is_asked_of_chance_only_where_nothing_is_known():
    batch = scored(*[[NAN] * 3 + [1.0] * 30] * 40, *[[NAN] * 33] * 40)
    got = chosen(Cautious(Weighted(), 0.0), batch, draw_of(batch, 0.1, exact=True, at_least=1))
    assert all(min(row) >= 3 for row in got[:40])
    assert all(len(row) == 1 for row in got[40:])


def test_the_warmup_opens():
    batch = scored(*[list(range(100))] * 20)
    draw = draw_of(batch, 0.2)
    cautious = Cautious(Weighted(0), 0.05, warmup=0.1)
    early = replace(draw, clock=Clock(0, 0, 99, 1000))
    assert chosen(cautious, batch, early) == chosen(Tokens().at(0.05), batch, early)
    open_now = replace(draw, clock=Clock(0, 0, 100, 1000))
    assert chosen(cautious, batch, open_now) == [list(range(80, 100))] * 20
    with pytest.raises(ScheduleError, match="how far training is"):
        chosen(cautious, batch, draw)  # the clock does not know the length of the run
    rising = Cautious(Weighted(), schedule.Linear(0.0, 1.0))
    bare = replace(batch, scores=None)
    half = replace(draw, clock=Clock(0, 0, 5, 10))
    assert chosen(rising, bare, half) == chosen(Tokens().at(0.5), bare, half)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Cautious(0.5), "Cautious.select got 0.5, which is no select"),
        (lambda: Cautious(Weighted(), 1.5), "a share from 0 to 1, got 1.5"),
        (lambda: Cautious(Weighted(), warmup=2), "warmup is a share of the run"),
    ],
)
def test_settings_outside_their_rules(make, message):
    with pytest.raises(PolicyError, match=message):
        make()


def test_no_second_turn():
    batch = scored([NAN, NAN])
    with pytest.raises(PolicyError, match="without replacement"):
        Masking(Cautious(Weighted()), rate=0.25, refresh="coverage-0.25").bind(FEW).plan(batch)


# -- as plans --------------------------------------------------------------------------------


@given(batches(), clocks(), st.sampled_from([*GUIDED, "attention-threshold"]))
def test_a_plan_that_is_kept_can_be_drawn_again(tmp_path_factory, batch, clock, name):
    """The scores are in the file, so that a guided plan replays."""
    masking = build(name)
    plan = masking.plan(batch, clock)
    again = MaskPlan.load(plan.save(tmp_path_factory.mktemp("plan") / "plan.npz"))
    assert (again.batch.scores is None) == (batch.scores is None)
    if batch.scores is not None:
        assert again.batch.scores.values.dtype == batch.scores.values.dtype
        np.testing.assert_array_equal(again.batch.scores.values, batch.scores.values)
    assert by_row(masking.plan(again.batch, again.clock)) == by_row(plan) == by_row(again)


def test_other_scores_are_another_plan():
    batch = text(8, 100)
    for name in (*GUIDED, "attention-threshold"):
        masking = build(name)
        plans = [
            by_row(masking.plan(replace(batch, scores=scores), Clock(1)))
            for scores in (None, scores_of(batch), batch.tokens.like(np.arange(816.0)))
        ]
        assert plans[0] != plans[1] != plans[2]


@pytest.mark.parametrize("name", GUIDED)
@given(batch=batches(), clock=clocks())
def test_budgets_are_shares_of_what_is_known_and_of_what_is_not(name, batch, clock):
    masking = build(name)
    taken = masking.plan(batch, clock).selected
    free = ~np.isin(batch.tokens.values, masking.bound.special_ids)
    if batch.protected is not None:
        free &= batch.protected.values == 0
    known = np.zeros(len(free), bool)
    if batch.scores is not None:
        known = free & ~np.isnan(batch.scores.values)
    start = masking.select.start_rate
    for row in range(len(batch)):
        here = slice(*batch.tokens.offsets[row : row + 2])
        cold = not known[here].any()
        for part, rate, asked in ((known, 0.15, not cold), (free & ~known, start, cold)):
            many = int(part[here].sum())
            got = int((taken[row].astype(bool) & part[here]).sum())
            least = min(1, many) if asked else 0
            low, high = math.floor(rate * many), math.ceil(rate * many)
            assert min(max(low, least), many) <= got <= max(high, least)


def test_a_mixture_carries_the_scores():
    batch = replace(text(40, 60), scores=scores_of(text(40, 60)))
    parts = build("attention-guided"), build("attention-low", stream=1)
    mixed = MixedMasking(tuple((1.0, part) for part in parts)).bind(parts[0].bound)
    chose = mixed.choose(batch, Clock(3))
    whole = by_row(mixed.plan(batch, Clock(3)))
    alone = [by_row(part.plan(batch, Clock(3))) for part in parts]
    assert whole == [alone[part][row] for row, part in enumerate(chose.tolist())]
    assert set(chose.tolist()) == {0, 1}


# -- how varied they are ---------------------------------------------------------------------


def plan_of(rows: list[list[int]], rate: float = 1.0, scores: Ragged | None = None) -> MaskPlan:
    batch = TokenBatch(Ragged.from_lists(rows), np.arange(len(rows)), scores=scores)
    return Masking(rate=rate).bind(WORDS).plan(batch)


def test_entropy_of_a_selection():
    assert selection_entropy(plan_of([[5, 5], [5]])) == 0.0
    assert selection_entropy(plan_of([[0, 1], []])) == 0.0  # nothing selected
    assert selection_entropy(plan_of([[5, 6, 7, 8]])) == pytest.approx(math.log(4))
    mixed = selection_entropy(plan_of([[5, 5, 5, 6]]))
    assert mixed == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))


def test_entropy_falls_when_guidance_narrows():
    """Scores that belong to a few words, as collapsed guidance gives."""
    batch = text(50, 200)
    scores = batch.tokens.like(np.where(batch.tokens.values % 7 == 0, 100.0, 0.01))
    batch = replace(batch, scores=scores)
    known = build("roberta").bound
    narrow, some, free = (
        selection_entropy(Masking(one, rate=0.1, exact=True).bind(known).plan(batch))
        for one in (Weighted(0), Weighted(0, chance=0.5), Tokens())
    )
    assert narrow < some < free
