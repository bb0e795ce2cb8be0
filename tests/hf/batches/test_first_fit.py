"""First-fit with a bounded number of open bins, against a slow and obvious version."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskwright.hf.batches.first_fit import FirstFit


def reference(lengths: list[int], budget: int, open_bins: int, shortest: int) -> list[list[int]]:
    opened: list[list[int]] = []
    closed = []

    def room(samples: list[int]) -> int:
        return budget - sum(lengths[sample] for sample in samples)

    for sample, length in enumerate(lengths):
        fits = [samples for samples in opened if room(samples) >= length]
        if fits:
            chosen = fits[0]
        else:
            if len(opened) == open_bins:
                fullest = min(opened, key=room)
                opened.remove(fullest)
                closed.append(fullest)
            chosen = []
            opened.append(chosen)
        chosen.append(sample)
        if room(chosen) < shortest:
            opened.remove(chosen)
            closed.append(chosen)
    return closed + opened


def packed(lengths: list[int], budget: int, open_bins: int, shortest: int = 1, run: int = 4):
    packing = FirstFit(budget, open_bins=open_bins, shortest=shortest)
    samples, sizes = np.arange(len(lengths)), np.array(lengths, np.int64)
    bins = []
    for first in range(0, len(lengths), run):
        bins += packing.put(samples[first : first + run], sizes[first : first + run])
    bins += packing.rest()
    assert packing.bins == len(bins)
    return [one.tolist() for one in bins]


@pytest.mark.parametrize(
    "open_bins, bins",
    [
        (1, [[0], [1], [2, 3], [4, 5]]),  # nothing waits: a sample that does not fit closes
        (2, [[0, 2], [1, 4], [3, 5]]),
        (9, [[0, 2], [1, 4], [3, 5]]),
    ],
)
def test_literally(open_bins, bins):
    assert packed([6, 7, 4, 5, 3, 4], 10, open_bins) == bins


def test_the_fullest_is_closed_not_the_oldest():
    assert packed([5, 8, 7], 10, 2) == [[1], [0], [2]]


def test_a_bin_closes_when_not_even_the_shortest_fits():
    assert packed([5, 8, 5], 10, 3, shortest=1) == [[0, 2], [1]]
    assert packed([5, 8, 5], 10, 3, shortest=3) == [[1], [0, 2]]


@given(
    st.lists(st.integers(1, 20), min_size=1, max_size=120),
    st.integers(20, 45),
    st.integers(1, 6),
    st.integers(1, 50),
    st.booleans(),
)
def test_as_the_reference(lengths, budget, open_bins, run, known):
    shortest = min(lengths) if known else 1
    want = reference(lengths, budget, open_bins, shortest)
    assert packed(lengths, budget, open_bins, shortest, run) == want


def test_samples_of_no_length():
    assert packed([0, 3, 0, 1], 3, 2, shortest=0) == reference([0, 3, 0, 1], 3, 2, 0)
    assert packed([], 3, 2) == []


def test_counting_keeps_nothing():
    lengths = np.random.default_rng(0).integers(1, 100, 5000)
    counting, packing = (FirstFit(256, open_bins=8) for _ in range(2))
    counting.count(lengths)
    bins = packing.put(np.arange(5000), lengths) + packing.rest()
    assert counting.bins == len(bins)
    assert len(packing._samples) == 0
