"""Which tokens are masked again: as many as the schedule says, and the least certain of them."""

from __future__ import annotations

import torch
from torch import Tensor


def still_masked(lengths: Tensor, done: int, passes: int) -> Tensor:
    """How many tokens are masked for the next pass: ``N · (T - t) / T``, rounded down.

    Mask-predict, 1904.09324, section 3.2.

    Args:
        lengths: ``N`` of each target, int64.
        done: passes so far, ``t``.
        passes: ``T``.

    >>> [int(still_masked(torch.tensor(10), done, 4)) for done in range(5)]
    [10, 7, 5, 2, 0]
    """
    return lengths * (passes - done) // passes


def least_certain(confidence: Tensor, allowed: Tensor, counts: Tensor) -> Tensor:
    """``(R, L)`` Boolean: in each row the tokens of least confidence; of equals, the first.

    Args:
        confidence: ``(R, L)`` float.
        allowed: ``(R, L)`` Boolean: which tokens may be chosen.
        counts: ``(R,)`` how many; at most as many as are allowed.
    """
    order = confidence.masked_fill(~allowed, float("inf")).argsort(dim=1, stable=True)
    ranks = torch.arange(confidence.shape[1], device=confidence.device)
    chosen = torch.zeros_like(allowed).scatter_(1, order, ranks < counts.unsqueeze(1))
    return chosen & allowed


def repeated(tokens: Tensor, confidence: Tensor, words: Tensor) -> Tensor:
    """``(R, L)`` Boolean: of two equal neighbours the less certain one; of equals, the second.

    Args:
        tokens: ``(R, L)``.
        confidence: ``(R, L)`` float.
        words: ``(R, L)`` Boolean: what is no frame and no padding.
    """
    equal = (tokens[:, 1:] == tokens[:, :-1]) & words[:, 1:] & words[:, :-1]
    first = confidence[:, :-1] < confidence[:, 1:]
    found = torch.zeros_like(words)
    found[:, :-1] = equal & first
    found[:, 1:] |= equal & ~first
    return found
