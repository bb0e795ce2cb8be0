"""Draws from a softmax are hashes of what they are about, and have its distribution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maskwright import randomness
from maskwright.hf.replaced import keyed_sampling
from maskwright.hf.replaced.keyed_sampling import keyed_uniforms, position_keys, sample_tokens

LOGITS = torch.tensor([2.0, 0.0, -1.0, 1.0, -3.0, 0.5, -0.5, 1.5])
# The value that chi-square with 7 degrees of freedom exceeds with a probability of 1e-6.
CRITICAL = 40.52
DRAWS = 20_000
WORDS = st.integers(-(2**63), 2**63 - 1)


def keys(seed=0, epoch=0, step=0, sample=0, position=0) -> torch.Tensor:
    """One key for each element of the longest coordinate."""
    given = np.broadcast_arrays(*(np.atleast_1d(x) for x in (epoch, step, sample, position)))
    epochs, steps, samples, positions = (torch.from_numpy(x.copy()).long() for x in given)
    return position_keys(seed, torch.stack([epochs, steps], 1), samples, positions)


def chi_square(tokens: torch.Tensor, temperature: float) -> float:
    expected = torch.softmax(LOGITS.double() / temperature, 0) * len(tokens)
    seen = torch.bincount(tokens, minlength=len(LOGITS)).double()
    return float(((seen - expected) ** 2 / expected).sum())


@given(st.integers(0, 2**63), WORDS, WORDS, WORDS, WORDS, st.integers(1, 5))
def test_a_uniform_is_the_hash_of_its_coordinates(seed, epoch, step, sample, position, size):
    key = randomness.run_key(seed, 0, randomness.PROPOSE)
    for word in (epoch, step, sample, position):
        key = randomness.absorb(key, word & randomness.WORD)
    numbers = [randomness.draw(key, token) >> 11 for token in range(size)]
    made = keyed_uniforms(keys(seed, epoch, step, sample, position), size)
    np.testing.assert_allclose(made[0].numpy(), np.array(numbers) * 2.0**-53, rtol=2e-7)
    assert made.gt(0).all()
    assert made.lt(1).all()


@pytest.mark.parametrize("temperature", [1.0, 0.5, 3.0])
@pytest.mark.parametrize("coordinate", ["epoch", "step", "sample", "position"])
def test_the_draws_have_the_distribution_of_the_softmax(coordinate, temperature):
    """Chi-square; of draws that are right, one in a million would fail it."""
    made = keys(seed=3, **{coordinate: np.arange(DRAWS)})
    tokens = sample_tokens(LOGITS.expand(DRAWS, -1), made, temperature)
    assert chi_square(tokens, temperature) < CRITICAL


def test_the_chi_square_sees_another_temperature():
    tokens = sample_tokens(LOGITS.expand(DRAWS, -1), keys(sample=np.arange(DRAWS)), 1.1)
    assert chi_square(tokens, 1.0) > CRITICAL


def test_neighbours_are_independent():
    """Pairs of draws at neighbouring positions, as one table of 4 × 4; 1e-6 as above."""
    made = keys(position=np.arange(2 * DRAWS))
    pairs = sample_tokens(torch.zeros(2 * DRAWS, 4), made).view(-1, 2)
    seen = torch.bincount(pairs[:, 0] * 4 + pairs[:, 1], minlength=16).double()
    expected = DRAWS / 16
    assert ((seen - expected) ** 2 / expected).sum() < 56.5  # 15 degrees of freedom


def test_each_coordinate_makes_other_draws():
    logits = torch.zeros(64, 50)
    base = {"seed": 1, "epoch": 2, "step": 3, "sample": 4, "position": np.arange(64)}
    first = sample_tokens(logits, keys(**base))
    assert torch.equal(first, sample_tokens(logits, keys(**base)))
    for name in base:
        other = sample_tokens(logits, keys(**(base | {name: base[name] + 100})))
        assert (first == other).sum() < 10, name


def test_pieces_draw_what_the_whole_draws_and_no_global_state_is_read(monkeypatch):
    logits, made = torch.zeros(40, 30), keys(sample=np.arange(40))
    before = torch.get_rng_state()
    whole = sample_tokens(logits, made)
    monkeypatch.setattr(keyed_sampling, "_MANY", 70)  # two rows at a time
    torch.manual_seed(99)
    assert torch.equal(whole, sample_tokens(logits, made))
    torch.set_rng_state(before)
    sample_tokens(logits, made)
    assert torch.equal(before, torch.get_rng_state())


def test_no_rows_draw_nothing():
    none = torch.zeros(0, dtype=torch.int64)
    made = position_keys(0, torch.zeros(0, 2, dtype=torch.int64), none, none)
    assert sample_tokens(torch.zeros(0, 5), made).shape == (0,)


def test_a_certain_token_is_drawn():
    logits = torch.full((1000, 6), -1e4)
    logits[:, 4] = 0.0
    assert (sample_tokens(logits, keys(sample=np.arange(1000))) == 4).all()
