"""Counter-based randomness: every decision is a hash of what it is about, and there is no state.

A sample's key absorbs (seed, policy stream, refresh key, sample id, purpose), one SplitMix64 mix
each; decision ``p`` of that sample is ``mix(key + (p + 1) * GAMMA)``, the ``p``-th output of
SplitMix64 seeded with the key. So a draw needs nothing but its own coordinates: it is the same in
any batch, order, worker, rank or resumed run.

Uniforms are compared as 53-bit integers, which float64 holds exactly: ``u < p`` is
``hash >> 11 < threshold(p)``, the same on every machine, and in torch's signed int64 too.

Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014; constants
of the finaliser: Stafford's variant 13, as in the Java SplittableRandom.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

GAMMA = 0x9E3779B97F4A7C15
MULTIPLIER_1 = 0xBF58476D1CE4E5B9
MULTIPLIER_2 = 0x94D049BB133111EB
WORD = (1 << 64) - 1

# What a key is for: two purposes of one sample never share a draw.
SELECT, ACT, REPLACE, ROUND, ORDER = range(1, 6)
RATE, LENGTH, START, ARRANGE, MIXTURE, INSERT = range(6, 12)
BLOCKS = 12
CHANCE, HINTS = 13, 14
PROBE = 15
PROPOSE = 16
TILE = 17
DROP = 18


def mix(word: int) -> int:
    """The SplitMix64 finaliser: a bijection of the 64-bit integers."""
    word = ((word ^ (word >> 30)) * MULTIPLIER_1) & WORD
    word = ((word ^ (word >> 27)) * MULTIPLIER_2) & WORD
    return word ^ (word >> 31)


def absorb(key: int, word: int) -> int:
    """A key that depends on ``key`` and on ``word``, and on their order."""
    return mix(key ^ mix((word + GAMMA) & WORD))


def draw(key: int, counter: int) -> int:
    """Decision number ``counter`` of ``key``, 64 bits."""
    return mix((key + (counter + 1) * GAMMA) & WORD)


@lru_cache(maxsize=1024)
def run_key(seed: int, stream: int, refresh: int) -> int:
    """The key of a whole draw: everything but the sample."""
    return absorb(absorb(absorb(0, seed & WORD), stream & WORD), refresh & WORD)


def sample_keys(key: int, sample_ids: np.ndarray, purpose: int) -> np.ndarray:
    """One key per sample, ``(B,)`` uint64.

    Args:
        key: of `run_key`.
        sample_ids: ``(B,)`` int64.
        purpose: one of the constants above.
    """
    keys = np.uint64(key) ^ mix_array(sample_ids.astype(np.uint64) + np.uint64(GAMMA))
    keys = mix_array(keys)
    return mix_array(keys ^ np.uint64(mix((purpose + GAMMA) & WORD)))


def mix_array(words: np.ndarray) -> np.ndarray:
    """`mix`, element by element, on uint64."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(MULTIPLIER_1)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(MULTIPLIER_2)
    return words ^ (words >> np.uint64(31))


def draw_array(keys: np.ndarray, counters: np.ndarray) -> np.ndarray:
    """`draw`, element by element: ``keys`` uint64, ``counters`` int64, both ``(n,)``."""
    return mix_array(keys + (counters.astype(np.uint64) + np.uint64(1)) * np.uint64(GAMMA))


def threshold(probability: float) -> int:
    """The integer ``t`` for which ``hash >> 11 < t`` has the given probability, 0 to 2**53."""
    return round(probability * (1 << 53))
