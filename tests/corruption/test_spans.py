"""Spans of drawn lengths: the lengths, the budget, the empty spans.

Statistical tests have fixed inputs and a false-alarm probability of at most 1e-6.
"""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from maskwright.corruption import reference_spans as reference
from maskwright.corruption.lengths import Fixed, Geometric, Harmonic, Poisson
from maskwright.corruption.spans import Spans
from maskwright.errors import PolicyError, VocabularyError
from maskwright.randomness import LENGTH, START
from tests.corruption.rows import WORDS
from tests.corruption.units import (
    FALSE_ALARM,
    allowed_of,
    batch_of,
    cases,
    check_contract,
    draw_of,
    inserts_of,
    parts_of,
)

SELECTS = st.builds(
    Spans,
    st.sampled_from([Fixed(1), Fixed(7), Geometric(), Poisson(), Poisson(0.3), Harmonic()]),
    st.sampled_from(["tokens", "words"]),
)


@given(SELECTS, cases())
def test_it_is_the_reference(select, case):
    vocabulary, batch, draw = case
    chosen = select(batch, vocabulary, draw)
    limits = select.lengths.limits.tolist()
    spans, inserts = [], []
    for row, sample_id in enumerate(batch.sample_ids.tolist()):
        allowed = allowed_of(batch, vocabulary)[row]
        starts = batch.word_starts[row].tolist() if select.of == "words" else [1] * len(allowed)
        parts = reference.units(allowed, starts)
        rate = float(draw.rates[row])
        wanted = reference.budget(rate, sum(allowed), draw.run_key, sample_id, draw.at_least)
        lengths, places = (reference.key_of(draw.run_key, sample_id, p) for p in (LENGTH, START))
        found = reference.spans(parts, lengths, places, limits, wanted, draw.at_least)
        spans.append(found[0])
        inserts.append(found[1])
    assert parts_of(chosen, batch) == spans
    assert inserts_of(chosen, batch) == inserts


@given(SELECTS, cases())
def test_the_contract_of_a_select(select, case):
    check_contract(select, *case)


@given(SELECTS, cases())
def test_a_budget_is_never_exceeded_but_for_at_least(select, case):
    vocabulary, batch, draw = case
    chosen = select(batch, vocabulary, draw)
    counts = np.bincount(batch.tokens.rows[chosen.positions], minlength=len(batch))
    for row, allowed in enumerate(allowed_of(batch, vocabulary)):
        most = max(math.floor(draw.rates[row] * sum(allowed)) + 1, draw.at_least)
        one = draw.at_least and len(parts_of(chosen, batch)[row]) == 1
        assert counts[row] <= most or one


# ------------------------------------------------------------------------------ lengths


@pytest.mark.parametrize(
    "lengths", [Fixed(4), Geometric(), Poisson(), Harmonic(), Geometric(1.0, 1)]
)
def test_probabilities_sum_to_one_and_so_do_the_limits(lengths):
    assert lengths.probabilities.sum() == pytest.approx(1)
    assert (lengths.probabilities >= 0).all()
    assert int(lengths.limits[-1]) == 1 << 53
    below = np.cumsum(lengths.probabilities) * 2.0**53
    assert np.abs(lengths.limits.astype(float) - below).max() <= 64


def test_spanbert_has_a_mean_of_3_8():
    assert Geometric().expected == pytest.approx(3.797, abs=5e-4)
    n = np.arange(1, 11)
    np.testing.assert_allclose(
        Geometric().probabilities[1:], stats.geom.pmf(n, 0.2) / stats.geom.cdf(10, 0.2)
    )
    assert Geometric().probabilities[0] == 0


def test_the_other_distributions():
    np.testing.assert_allclose(
        Poisson(3.0).probabilities, stats.poisson.pmf(np.arange(128), 3), atol=1e-15
    )
    np.testing.assert_allclose(Harmonic(3).probabilities, [0, 6 / 11, 3 / 11, 2 / 11])
    assert Fixed(2).probabilities.tolist() == [0, 0, 1]
    assert (Poisson(2.0).expected, Fixed(3).expected) == (pytest.approx(2), 3)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Fixed(0), "Fixed.length.*at least 1, got 0"),
        (lambda: Geometric(0.0), "above 0 and at most 1"),
        (lambda: Geometric(0.2, 0), "Geometric.longest"),
        (lambda: Poisson(0), "above 0"),
        (lambda: Poisson(9, 8), "at most longest=8"),
        (lambda: Harmonic(2.5), "Harmonic.longest"),
        (lambda: Spans(3), "no distribution of lengths"),
        (lambda: Spans(of="word"), "Did you mean 'words'"),
    ],
)
def test_settings_outside_their_rule(make, message):
    with pytest.raises(PolicyError, match=message):
        make()


def test_they_are_values():
    assert Spans() == Spans(Geometric(0.2, 10), of="tokens") != Spans(of="words")
    used = Spans(Poisson())
    assert used.may_insert
    assert not Spans().may_insert
    assert pickle.loads(pickle.dumps(used)) == used
    assert hash(used) == hash(Spans(Poisson()))
    assert str(Spans(Poisson(), of="words")) == "spans of poisson(3) words"


@pytest.mark.parametrize("lengths", [Geometric(), Harmonic(), Fixed(3)])
def test_spans_have_the_drawn_lengths(lengths):
    """All but the last of a sample, which is cut to the budget: those that were drawn in turn."""
    rows = 3000
    batch = batch_of([[5] * 200] * rows)
    chosen = Spans(lengths)(batch, WORDS, draw_of(batch, 0.15))
    seen = np.zeros(12, int)
    for parts in parts_of(chosen, batch):
        sizes = sorted(map(len, parts))
        seen += np.bincount(sizes, minlength=12)
    # a budget of 30 in the order of the draws: the same lengths by another generator
    rng = np.random.default_rng(0)
    other = np.zeros(12, int)
    for _ in range(rows):
        left = 30
        while left:
            size = min(left, int(rng.choice(len(lengths.probabilities), p=lengths.probabilities)))
            other[size] += 1
            left -= size
    common = seen + other > 0
    if common.sum() == 1:
        assert (seen == other).all()
        return
    table = np.array([seen[common], other[common]])
    assert stats.chi2_contingency(table).pvalue > FALSE_ALARM
    longer = table.copy()
    longer[0, 1] += longer[0, 0] // 5
    longer[0, 0] -= longer[0, 0] // 5
    assert stats.chi2_contingency(longer).pvalue < FALSE_ALARM


# ------------------------------------------------------------------------------- budget


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("lengths", [Geometric(), Poisson(), Fixed(10)])
def test_the_budget_of_tokens_is_exact(exact, lengths):
    batch = batch_of([[2, *[5] * 210, 3]] * 500)
    chosen = Spans(lengths)(batch, WORDS, draw_of(batch, 0.15, exact=exact))
    counts = np.bincount(batch.tokens.rows[chosen.positions], minlength=500)
    assert set(counts.tolist()) == {31, 32}
    assert stats.binomtest(int((counts == 32).sum()), 500, 0.5).pvalue > FALSE_ALARM


@pytest.mark.parametrize("rate", [0.5, 0.8, 1.0])
def test_crowded_samples_are_filled_all_the_same(rate):
    batch = batch_of([[5] * 200] * 20)
    chosen = Spans(Fixed(10))(batch, WORDS, draw_of(batch, rate))
    assert set(np.bincount(batch.tokens.rows[chosen.positions])) == {200 * rate}


def test_a_span_of_words_ends_with_a_word():
    batch = batch_of([[5] * 120] * 100, [[1, 0, 0, 1] * 30] * 100)
    draw = draw_of(batch, 0.2)
    for parts in parts_of(Spans(of="words")(batch, WORDS, draw), batch):
        for part in parts:
            assert part[0] % 4 in (0, 3)
            assert part[-1] % 4 in (2, 3)
    cut = parts_of(Spans()(batch, WORDS, draw), batch)
    assert any(part[0] % 4 in (1, 2) for parts in cut for part in parts)


def test_where_no_word_fits_at_least_takes_one():
    batch = batch_of([[5] * 20] * 50, [[1, 0, 0, 0, 0] * 4] * 50)
    none = Spans(of="words")(batch, WORDS, draw_of(batch, 0.1))
    assert len(none.positions) == 0
    one = Spans(of="words")(batch, WORDS, draw_of(batch, 0.1, exact=True, at_least=1))
    assert set(np.bincount(batch.tokens.rows[one.positions], minlength=50)) == {5}


def test_each_place_far_from_the_ends_is_as_likely():
    batch = batch_of([[5] * 60] * 10_000)
    chosen = Spans(Fixed(3))(batch, WORDS, draw_of(batch, 0.05))  # one span of 3 each
    places = batch.tokens.positions[chosen.positions][::3]
    seen = np.bincount(places, minlength=60)
    assert seen[58:].sum() == 0
    assert stats.chisquare(seen[:58]).pvalue > FALSE_ALARM


def test_special_and_protected_tokens_cut_the_room():
    row = [5, 5, 2, 5, 5, 5, 3, 5]
    batch = batch_of([row] * 300, protected=[[0, 0, 0, 0, 1, 0, 0, 0]] * 300)
    chosen = Spans(Fixed(2))(batch, WORDS, draw_of(batch, 1.0))
    assert {str(parts) for parts in parts_of(chosen, batch)} <= {
        "[[0, 1], [3], [5], [7]]",
        "[[0], [1], [3], [5], [7]]",
    }
    small = Spans(Fixed(2))(batch, WORDS, draw_of(batch, 2 / 5))
    assert {len(part) for parts in parts_of(small, batch) for part in parts} <= {1, 2}
    # where there is room for the length that was drawn, it is found
    assert sum(parts == [[0, 1]] for parts in parts_of(small, batch)) > 250


def test_words_that_are_not_known_and_refreshes_that_cannot_be():
    batch = batch_of([[5, 6, 7]])
    with pytest.raises(VocabularyError, match="word_starts"):
        Spans(of="words")(batch, WORDS, draw_of(batch))
    for epoch in (0, 1):
        with pytest.raises(PolicyError, match=r"coverage refresh.*spans of geometric"):
            Spans()(batch, WORDS, draw_of(batch, refresh="coverage-0.15", epoch=epoch))


# -------------------------------------------------------------------------- empty spans


def test_empty_spans_are_counted_as_in_bart():
    """Their number is that of the zeros drawn before the budget is spent: fairseq's
    ``add_whole_word_mask`` draws lengths, trims them to the budget, and inserts for each zero."""
    rows = 4000
    batch = batch_of([[5] * 100] * rows)
    chosen = Spans(Poisson())(batch, WORDS, draw_of(batch, 0.3))
    seen = np.bincount(list(map(len, inserts_of(chosen, batch))), minlength=12)[:12]
    rng = np.random.default_rng(0)
    counts = []
    for _ in range(rows):
        lengths = rng.poisson(3, 60)
        last = int(np.argmax(np.cumsum(lengths) >= 30))
        counts.append(int((lengths[: last + 1] == 0).sum()))
    other = np.bincount(counts, minlength=12)[:12]
    common = seen + other >= 10
    assert seen[1:].sum() > 0
    assert stats.chi2_contingency([seen[common], other[common]]).pvalue > FALSE_ALARM
    assert stats.chi2_contingency([np.roll(seen, 1)[common], other[common]]).pvalue < FALSE_ALARM


def test_no_budget_no_inserts_and_no_endless_search():
    batch = batch_of([[5] * 50])
    assert len(Spans(Poisson())(batch, WORDS, draw_of(batch, 0.0)).inserts) == 0
    rare = Spans(Poisson(1e-9))(batch, WORDS, draw_of(batch, 0.5))
    assert len(rare.inserts) == 50
    assert len(rare.positions) == 0
    assert Spans()(batch, WORDS, draw_of(batch)).inserts is None


def test_inserts_are_outside_the_spans():
    batch = batch_of([[5] * 100] * 200)
    chosen = Spans(Poisson())(batch, WORDS, draw_of(batch, 0.3))
    assert not np.isin(chosen.inserts, chosen.positions).any()
    assert len(chosen.inserts) > 50
