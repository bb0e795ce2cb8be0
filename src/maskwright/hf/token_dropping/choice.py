"""Which tokens of each sample go through the middle layers."""

from __future__ import annotations

import torch
from torch import Tensor

from maskwright import randomness
from maskwright.hf.compute.row import Row
from maskwright.torch_randomness import GAMMA, mix, shift, signed


def kept_tokens(
    row: Row, scores: Tensor, always: Tensor, draws: Tensor, share: float
) -> tuple[Tensor, Tensor]:
    """The most important ones, and all that are always kept.

    Of a sample of ``n`` tokens, ``share · n`` (to the nearest whole number, at least 1) are kept;
    more only where more are always kept. Where scores tie, the smaller draw is kept.

    Args:
        row: of ``T`` tokens.
        scores: ``(T,)``, more is more important; NaN counts as more than any number.
        always: ``(T,)`` Boolean.
        draws: ``(T,)`` int64.
        share: 0 to 1.

    Returns:
        ``(K,)`` int64, rising: places in the row; and ``(T,)`` Boolean, True at them.
    """
    samples, first = row.samples, first_of(row)
    sizes = torch.zeros(row.shape[0], dtype=torch.int64, device=samples.device)
    sizes = sizes.index_add(0, samples, torch.ones_like(samples))
    budget = (sizes.double() * share + 0.5).floor().clamp(min=1).to(torch.int64)
    scores = torch.where(scores.isnan(), torch.inf, scores.float())
    order = draws.argsort(stable=True)
    for key in (-scores, ~always, samples):
        order = order[key[order].argsort(stable=True)]
    ranks = torch.empty_like(order)
    ranks[order] = torch.arange(len(order), device=order.device)
    # samples lie behind each other in the row, and so they do in the order
    kept = always | (ranks - first < budget[samples])
    return kept.nonzero().squeeze(1), kept


def first_of(row: Row) -> Tensor:
    """``(T,)`` int64: the place in the row of the first token of each token's sample."""
    places = torch.arange(len(row), device=row.places.device)
    begins = torch.ones_like(places, dtype=torch.bool)
    begins[1:] = row.samples.diff() != 0
    return torch.where(begins, places, 0).cummax(0).values


def draws_of(row: Row, seed: int, clock: Tensor | None, sample_ids: Tensor) -> Tensor:
    """``(T,)`` int64, 0 to 2⁵³ - 1: of (seed, epoch, step, sample, position), and of nothing else.

    Args:
        clock: ``(B, 2)`` int64: epoch and step, -1 where not known.
        sample_ids: ``(B,)`` int64.
    """
    if clock is None:
        clock = sample_ids.new_full((len(sample_ids), 2), -1)
    run = signed(randomness.run_key(seed, 0, randomness.DROP))
    keys = torch.full_like(sample_ids, run)
    for words in (clock[:, 0], clock[:, 1], sample_ids):
        keys = mix(keys ^ mix(words + GAMMA))
    # counted from the first token of the sample, not of its row of the batch
    positions = torch.arange(len(row), device=row.places.device) - first_of(row)
    return shift(mix(keys[row.samples] + (positions + 1) * GAMMA), 11)
