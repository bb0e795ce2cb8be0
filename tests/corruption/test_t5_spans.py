"""T5's noise spans against T5's own algorithm, and the span of MASS.

Statistical tests have fixed inputs and a false-alarm probability of at most 1e-6.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from maskwright import Masking
from maskwright.corruption import reference_spans as reference
from maskwright.corruption.act import Mask, Random
from maskwright.corruption.t5_spans import NoiseSpans, OneSpan
from maskwright.errors import PolicyError
from maskwright.randomness import LENGTH, START
from tests.corruption.rows import WORDS
from tests.corruption.units import (
    FALSE_ALARM,
    allowed_of,
    batch_of,
    cases,
    check_contract,
    draw_of,
    parts_of,
)

MEANS = st.sampled_from([1.0, 1.5, 3.0, 10.0])


def t5(length, density, mean, rng):
    """``random_spans_noise_mask`` of text-to-text-transfer-transformer, in numpy."""
    noise = min(max(int(np.round(length * density)), 1), length - 1)
    spans = max(int(np.round(noise / mean)), 1)

    def segmentation(items, segments):
        first = np.arange(items - 1) < segments - 1
        rng.shuffle(first)
        return np.bincount(np.cumsum(np.concatenate([[0], first])), minlength=segments)

    parts = np.stack([segmentation(length - noise, spans), segmentation(noise, spans)], axis=1)
    return np.repeat(np.arange(2 * spans) % 2, parts.reshape(-1))


@given(MEANS, cases())
def test_it_is_the_reference(mean, case):
    vocabulary, batch, draw = case
    chosen = parts_of(NoiseSpans(mean)(batch, vocabulary, draw), batch)
    for row, allowed in enumerate(allowed_of(batch, vocabulary)):
        key = [
            reference.key_of(draw.run_key, int(batch.sample_ids[row]), purpose)
            for purpose in (LENGTH, START)
        ]
        places = np.flatnonzero(allowed).tolist()
        assert chosen[row] == reference.noise_spans(places, float(draw.rates[row]), mean, *key)


@given(MEANS, cases())
def test_the_contract_of_a_select(mean, case):
    check_contract(NoiseSpans(mean), *case)
    check_contract(OneSpan(), *case)


@pytest.mark.parametrize("length", [2, 3, 5, 6, 7, 20, 100, 257, 512, 700])
@pytest.mark.parametrize("rate, mean", [(0.15, 3.0), (0.5, 3.0), (0.15, 10.0), (0.5, 1.0)])
def test_counts_are_those_of_t5(length, rate, mean):
    wanted = t5(length, rate, mean, np.random.default_rng(0))
    batch = batch_of([[2, *[5] * length, 3]] * 20)
    for parts in parts_of(NoiseSpans(mean)(batch, WORDS, draw_of(batch, rate)), batch):
        assert sum(map(len, parts)) == wanted.sum()
        assert len(parts) == (np.diff(wanted, prepend=0) == 1).sum()
        assert parts[0][0] > 1  # begins with what stays
        assert parts[-1][-1] == length  # and ends with noise


def test_rounding_goes_to_the_even_neighbour_as_in_t5():
    for length, noise in ((10, 2), (30, 4), (50, 8)):  # 1.5, 4.5, 7.5
        batch = batch_of([[5] * length])
        assert len(NoiseSpans()(batch, WORDS, draw_of(batch, 0.15)).positions) == noise


def test_samples_too_short_for_noise():
    batch = batch_of([[], [5], [2, 5, 3], [5, 5], [2, 3]])
    chosen = NoiseSpans()(batch, WORDS, draw_of(batch, 0.9))
    assert parts_of(chosen, batch) == [[], [], [], [[1]], []]
    assert len(NoiseSpans()(batch, WORDS, draw_of(batch, 0.0)).positions) == 0


def test_more_spans_than_there_are_other_tokens():
    batch = batch_of([[5] * 20] * 10)
    for parts in parts_of(NoiseSpans(1.0)(batch, WORDS, draw_of(batch, 0.9)), batch):
        assert len(parts) == 2
        assert sum(map(len, parts)) == 18


def test_a_span_over_a_special_token_is_two_units():
    batch = batch_of([[5, 2] * 50] * 5)
    for parts in parts_of(NoiseSpans()(batch, WORDS, draw_of(batch, 0.3)), batch):
        assert [len(part) for part in parts] == [1] * 15


def test_every_composition_is_as_likely():
    """8 tokens, 4 of them noise in 2 spans: 3 × 3 masks."""
    batch = batch_of([[5] * 8] * 9000)
    chosen = parts_of(NoiseSpans(2.0)(batch, WORDS, draw_of(batch, 0.5)), batch)
    seen: dict[str, int] = {}
    for parts in chosen:
        seen[str(parts)] = seen.get(str(parts), 0) + 1
    assert len(seen) == 9
    assert stats.chisquare(list(seen.values())).pvalue > FALSE_ALARM


def test_many_cuts_are_uniform_too():
    """Where only likely hashes are looked at: which gaps are cut, and pairs of them."""
    batch = batch_of([[5] * 24] * 20_000)
    chosen = parts_of(NoiseSpans(2.0)(batch, WORDS, draw_of(batch, 0.25)), batch)  # 6 in 3
    kinds = dict.fromkeys(combinations(range(5), 2), 0)
    for parts in chosen:
        edges = np.cumsum([len(part) for part in parts])[:2] - 1
        kinds[tuple(edges.tolist())] += 1
    assert stats.chisquare(list(kinds.values())).pvalue > FALSE_ALARM


@pytest.mark.parametrize("length, rate, mean", [(200, 0.15, 3.0), (512, 0.15, 3.0), (60, 0.5, 5.0)])
def test_lengths_are_distributed_as_in_t5(length, rate, mean):
    """The first noise span and the first run before it: one of each a sample, so independent."""
    rows = 4000
    batch = batch_of([[5] * length] * rows)
    ours = [
        (parts[0][0], len(parts[0]))
        for parts in parts_of(NoiseSpans(mean)(batch, WORDS, draw_of(batch, rate)), batch)
    ]
    rng = np.random.default_rng(0)
    theirs = []
    for _ in range(rows):
        mask = t5(length, rate, mean, rng)
        edges = np.flatnonzero(np.diff(mask, append=0))
        theirs.append((edges[0] + 1, edges[1] - edges[0]))
    for mine, other in zip(np.transpose(ours), np.transpose(theirs), strict=True):
        edges = np.unique(np.quantile(other, np.linspace(0, 1, 9)))
        edges[-1] = 10_000
        table = [np.histogram(values, [*edges[:-1], 10_000])[0] for values in (mine, other)]
        assert stats.chi2_contingency(table).pvalue > FALSE_ALARM
        moved = [np.histogram(mine + 1, [*edges[:-1], 10_000])[0], table[1]]
        assert stats.chi2_contingency(moved).pvalue < FALSE_ALARM


def test_settings_and_refreshes_that_cannot_be():
    with pytest.raises(PolicyError, match=r"at least 1; got 0\.5"):
        NoiseSpans(0.5)
    batch = batch_of([[5, 6, 7]])
    for select in (NoiseSpans(), OneSpan()):
        with pytest.raises(PolicyError, match="coverage"):
            select(batch, WORDS, draw_of(batch, refresh="coverage-0.15"))


# --------------------------------------------------------------------------------- MASS


@given(cases())
def test_one_span_is_one_run_of_the_budget(case):
    vocabulary, batch, draw = case
    chosen = OneSpan()(batch, vocabulary, draw)
    assert chosen.units is None
    for row, allowed in enumerate(allowed_of(batch, vocabulary)):
        sample_id, places = int(batch.sample_ids[row]), np.flatnonzero(allowed).tolist()
        size = reference.budget(
            float(draw.rates[row]), len(places), draw.run_key, sample_id, draw.at_least
        )
        key = reference.key_of(draw.run_key, sample_id, START)
        first = reference.below(key, 0, len(places) - size + 1)
        found = [place for part in parts_of(chosen, batch)[row] for place in part]
        assert found == places[first : first + size]


def test_one_span_starts_anywhere():
    batch = batch_of([[2, *[5] * 12, 3]] * 7000)
    chosen = OneSpan()(batch, WORDS, draw_of(batch, 0.5))
    starts = batch.tokens.positions[chosen.positions].reshape(7000, 6)
    assert (np.diff(starts, axis=1) == 1).all()
    seen = np.bincount(starts[:, 0], minlength=8)[1:]
    assert len(seen) == 7
    assert stats.chisquare(seen).pvalue > FALSE_ALARM


def test_the_tokens_of_mass_have_an_act_each():
    batch = batch_of([[5] * 200])
    masking = Masking(OneSpan(), rate=0.5, act=0.5 * Mask() + 0.5 * Random()).bind(WORDS)
    assert len(set(masking.plan(batch).actions.tolist())) == 2
