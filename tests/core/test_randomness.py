"""Counter-based randomness: fast equals slow, golden, uniform, independent."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from maskwright import randomness as rnd
from maskwright import torch_randomness

WORDS = st.integers(0, rnd.WORD)
# A right generator fails a test with this chance, once and for all: the inputs are fixed.
FALSE_ALARM = 1e-6


def draws(key: int, count: int) -> np.ndarray:
    """`rnd.draw` for the counters 0 … count - 1, as uniforms."""
    counters = np.arange(1, count + 1, dtype=np.uint64)
    words = rnd.mix_array(np.uint64(key) + counters * np.uint64(rnd.GAMMA))
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def test_golden_splitmix64():
    """The published outputs of SplitMix64 with the seed 1234567."""
    assert [rnd.draw(1234567, i) for i in range(5)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_golden_keys():
    assert rnd.run_key(0, 0, 0) == 8760411249752654535
    assert rnd.run_key(-1, 2, 3) == rnd.run_key(2**64 - 1, 2, 3) == 15636106521450233743
    assert rnd.sample_keys(5, np.array([0, 2**63 - 1]), rnd.ACT).tolist() == [
        3186597934568593609,
        11383221013984522467,
    ]
    assert (rnd.SELECT, rnd.ACT, rnd.REPLACE, rnd.ROUND, rnd.ORDER) == (1, 2, 3, 4, 5)


@given(st.lists(WORDS, max_size=20))
def test_mix_array_is_mix(words):
    mixed = rnd.mix_array(np.array(words, np.uint64))
    assert mixed.dtype == np.uint64
    assert mixed.tolist() == [rnd.mix(word) for word in words]


@given(st.lists(WORDS, max_size=20))
def test_mix_in_torch_is_mix(words):
    mixed = torch_randomness.mix(torch.tensor([torch_randomness.signed(w) for w in words]).long())
    assert [word & rnd.WORD for word in mixed.tolist()] == [rnd.mix(word) for word in words]


@given(WORDS, st.lists(st.integers(0, 2**63 - 1), max_size=10), st.integers(1, 5))
def test_sample_keys_is_absorb(key, ids, purpose):
    fast = rnd.sample_keys(key, np.array(ids, np.int64), purpose)
    assert fast.tolist() == [rnd.absorb(rnd.absorb(key, one), purpose) for one in ids]


@given(WORDS, WORDS)
def test_absorb_depends_on_the_order(first, second):
    assert rnd.absorb(rnd.absorb(0, first), second) != rnd.absorb(rnd.absorb(0, second), first) or (
        first == second
    )


@pytest.mark.parametrize(
    "probability, expected", [(0, 0), (1, 2**53), (0.5, 2**52), (0.15, 1351079888211149)]
)
def test_threshold(probability, expected):
    assert rnd.threshold(probability) == expected


@pytest.mark.parametrize("purpose", range(1, 6))
def test_draws_of_a_sample_are_uniform(purpose):
    key = rnd.absorb(rnd.absorb(rnd.run_key(1, 0, 0), 17), purpose)
    uniforms = draws(key, 1 << 16)
    assert uniforms[3] == (rnd.draw(key, 3) >> 11) / 2**53
    assert stats.kstest(uniforms, "uniform").pvalue > FALSE_ALARM
    assert stats.chisquare(np.histogram(uniforms, 256, (0, 1))[0]).pvalue > FALSE_ALARM


def test_first_draws_of_neighbouring_samples_are_uniform():
    keys = rnd.sample_keys(rnd.run_key(0, 0, 0), np.arange(1 << 16), rnd.SELECT)
    first = rnd.mix_array(keys + np.uint64(rnd.GAMMA))
    uniforms = (first >> np.uint64(11)).astype(np.float64) * 2.0**-53
    assert stats.kstest(uniforms, "uniform").pvalue > FALSE_ALARM
    # neighbours in pairs: 16 × 16 cells
    cells = np.histogram2d(uniforms[::2], uniforms[1::2], 16, ((0, 1), (0, 1)))[0]
    assert stats.chisquare(cells.ravel()).pvalue > FALSE_ALARM


def coordinates() -> dict[str, tuple[int, int]]:
    """Pairs of keys that differ in one coordinate only."""

    def key(seed: int = 3, stream: int = 0, refresh: int = 0, sample: int = 5, purpose: int = 1):
        return rnd.absorb(rnd.absorb(rnd.run_key(seed, stream, refresh), sample), purpose)

    changed = {"seed": 4, "stream": 1, "refresh": 1, "sample": 6, "purpose": 2}
    return {name: (key(), key(**{name: value})) for name, value in changed.items()} | {
        # and two that a key which adds its parts would confuse
        "seed and refresh": (key(seed=3, refresh=1), key(seed=4, refresh=0)),
        "stream and refresh": (key(stream=0, refresh=1), key(stream=1, refresh=0)),
    }


@pytest.mark.parametrize("name", list(coordinates()))
def test_draws_that_differ_in_one_coordinate_are_independent(name):
    one, other = (draws(key, 1 << 15) for key in coordinates()[name])
    cells = np.histogram2d(one, other, 16, ((0, 1), (0, 1)))[0]
    assert stats.chisquare(cells.ravel()).pvalue > FALSE_ALARM
    assert not np.isin(one[:1000], other).any()


def test_the_test_of_uniformity_can_fail():
    weak = np.arange(1 << 16) * 0.6180339887498949 % 1 * 0.98
    assert stats.kstest(weak, "uniform").pvalue < FALSE_ALARM
