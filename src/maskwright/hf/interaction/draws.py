"""The noise of gates: a hash of what it is about, so that a run replays and every rank agrees.

A draw depends on (seed, step, attention, gate) alone. All micro-batches and ranks of a step draw
the same gates, and so does a layer that runs again for a checkpointed gradient.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from maskwright import randomness
from maskwright.torch_randomness import GAMMA, mix, shift, signed

_STREAM = 0x9A7E
# Slots of a sequence that a counter of pairs has room for.
_SLOTS = 1 << 24


def noise_of_heads(seed: int, step: int, number: int, heads: int) -> Tensor:
    """``log u - log(1 - u)`` of each head of attention ``number``, ``(heads,)`` float32."""
    key = np.full(heads, _key(seed, step, number), np.uint64)
    words = randomness.draw_array(key, np.arange(heads)) >> np.uint64(11)
    return _logistic(torch.from_numpy(words.astype(np.int64)))


def noise_of_pairs(
    seed: int, step: int, number: int, heads: int, q: int, kv: int, device: torch.device
) -> Tensor:
    """The same for each pair of slots, ``(heads, q, kv)`` float32; one draw for all samples.

    Slot ``i`` of the queries and slot ``j`` of the keys have their draw whatever the lengths are.
    """
    key = signed(_key(seed, step, number))
    of_heads = mix(key + (torch.arange(heads, device=device) + 1) * GAMMA)
    rows = torch.arange(q, device=device)[:, None] * _SLOTS
    counters = rows + torch.arange(kv, device=device)[None, :]
    words = mix(of_heads[:, None, None] + (counters + 1) * GAMMA)
    return _logistic(shift(words, 11))


def _key(seed: int, step: int, number: int) -> int:
    return randomness.absorb(randomness.run_key(seed, _STREAM, step), number)


def _logistic(words: Tensor) -> Tensor:
    """From 53-bit integers; u lies in the middle of their steps, so that it is never 0 or 1."""
    u = (words.double() + 0.5) / (1 << 53)
    return (u.log() - (-u).log1p()).float()
