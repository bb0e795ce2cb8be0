"""The order of samples: a permutation for every size, keyed by seed and epoch."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from maskwright.order import permute, visit

CHUNK = 16384


@given(st.integers(1, 3000), st.integers(0, 2**64 - 1), st.integers(0, 50))
def test_every_sample_is_visited_once(size, seed, epoch):
    assert sorted(visit(size, seed=seed, epoch=epoch)) == list(range(size))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 255, 256, 257, CHUNK - 1, CHUNK, CHUNK + 1])
def test_every_sample_is_visited_once_around_powers_of_two_and_chunks(size):
    assert sorted(visit(size, seed=3, epoch=1)) == list(range(size))


def test_no_samples():
    assert list(visit(0, seed=0, epoch=0)) == []


def test_seed_epoch_and_size_each_give_another_order():
    orders = {
        tuple(islice(visit(size, seed=seed, epoch=epoch), 50))
        for size in (1000, 1001)
        for seed in (0, 1, -1)
        for epoch in (0, 1, 2)
    }
    assert len(orders) == 2 * 3 * 3
    assert list(visit(99, seed=5, epoch=2)) == list(visit(99, seed=5, epoch=2))


@given(st.integers(1, 10**15), st.integers(0, 2**64 - 1), st.data())
def test_a_place_is_computed_on_its_own(size, key, data):
    places = data.draw(st.lists(st.integers(0, size - 1), unique=True, max_size=30))
    together = permute(np.array(places, np.int64), size, key)
    assert len(set(together.tolist())) == len(places)
    assert all(0 <= sample < size for sample in together)
    for place, sample in zip(places, together, strict=True):
        assert permute(np.array([place]), size, key)[0] == sample


def test_the_order_is_without_trend():
    """Fixed inputs; a right order fails each of the two tests with a chance of 1e-6."""
    visited = np.fromiter(visit(20_000, seed=11, epoch=0), np.int64)
    correlation = stats.spearmanr(visited[:-1], visited[1:])
    assert correlation.pvalue > 1e-6
    counts = np.histogram(visited[:2000], bins=20, range=(0, 20_000))[0]
    assert stats.chisquare(counts).pvalue > 1e-6


def test_golden():
    assert list(visit(12, seed=0, epoch=0)) == [3, 10, 4, 5, 9, 7, 1, 0, 6, 8, 2, 11]
    assert list(islice(visit(10**12, seed=7, epoch=3), 4)) == [
        784791613489,
        893985132409,
        189540563141,
        350122166206,
    ]
