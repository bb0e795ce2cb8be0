"""Tokens drawn from a softmax with counter-based randomness, on whatever device the logits are.

The Gumbel-max trick: the token with the greatest ``logit + G`` is a draw from the softmax, where
each ``G = -log E`` has an exponential ``E`` of its own. ``E`` is a hash of (seed, epoch, step,
sample, position, token), so a draw is the same in any batch, order, rank or resumed run, and no
generator has a state. What can differ between devices is the rounding of logits and logarithms.
"""

from __future__ import annotations

import torch
from torch import Tensor

from maskwright import randomness
from maskwright.torch_randomness import GAMMA, mix, shift, signed

# Hashes at a time: 32 MiB of int64, whatever the batch and the vocabulary.
_MANY = 1 << 22


def position_keys(seed: int, clock: Tensor, sample_ids: Tensor, positions: Tensor) -> Tensor:
    """One key for each predicted position, ``(P,)`` int64.

    Args:
        seed: of the draws.
        clock: ``(P, 2)`` int64: epoch and step, -1 where not known.
        sample_ids: ``(P,)`` int64.
        positions: ``(P,)`` int64, counted from the first token of the sample, not of its row.
    """
    run = signed(randomness.run_key(seed, 0, randomness.PROPOSE))
    keys = torch.full_like(sample_ids, run)
    for words in (clock[:, 0], clock[:, 1], sample_ids, positions):
        keys = mix(keys ^ mix(words + GAMMA))
    return keys


def keyed_uniforms(keys: Tensor, size: int) -> Tensor:
    """Uniforms ``(P, size)`` float32 in (0, 1): number ``v`` of a key is its draw ``v``.

    Small ones keep 24 significant bits, so that the greatest Gumbel variates, which win, never tie.
    """
    counters = torch.arange(1, size + 1, device=keys.device)
    numbers = shift(mix(keys[:, None] + counters * GAMMA), 11)
    return ((numbers.float() + 0.5) * 2.0**-53).clamp_(max=1 - 2.0**-24)


@torch.no_grad()
def sample_tokens(logits: Tensor, keys: Tensor, temperature: float = 1.0) -> Tensor:
    """A token for each row of logits, drawn from ``softmax(logits / temperature)``: ``(P,)`` int64.

    Args:
        logits: ``(P, V)``.
        keys: ``(P,)`` int64, of `position_keys`.
        temperature: above 0; at lower ones, likely tokens are likelier.
    """
    rows, size = logits.shape
    at_once = max(1, _MANY // max(1, size))
    drawn = torch.empty(rows, dtype=torch.int64, device=logits.device)
    for first in range(0, rows, at_once):
        part = slice(first, first + at_once)
        exponentials = -torch.log1p(-keyed_uniforms(keys[part], size))
        drawn[part] = (logits[part].float() / temperature - exponentials.log()).argmax(1)
    return drawn
