"""Masks filled with tokens drawn from a softmax, and which of them are not the original."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from maskwright.hf.replaced.keyed_sampling import position_keys, sample_tokens


@dataclass(frozen=True, eq=False)
class Filled:
    """A text to be judged, token by token.

    Args:
        tokens: ``(B, S)`` int64, what the discriminator reads.
        replaced: ``(B, S)`` int64: 1 where the token is not the original, else 0.
    """

    tokens: Tensor
    replaced: Tensor


def fill_masks(
    input_ids: Tensor,
    labels: Tensor,
    places: Tensor,
    logits: Tensor,
    *,
    real: Tensor,
    sample_ids: Tensor,
    clock: Tensor | None,
    seed: int,
    temperature: float = 1.0,
) -> Filled:
    """Fills every predicted position, whatever a policy put there; no gradient passes.

    Args:
        input_ids, labels: ``(B, S)`` int64, of the masked batch.
        places: ``(P,)`` int64: the predicted positions in the flattened ``(B, S)``.
        logits: ``(P, V)``, the generator's there.
        real: ``(B, S)`` bool, False at padding.
        sample_ids: ``(B,)`` int64.
        clock: ``(B, 2)`` int64: epoch and step, -1 where not known.
        seed: of the draws, which `keyed_sampling` explains.
    """
    width = input_ids.shape[1]
    if clock is None:
        clock = input_ids.new_full((len(input_ids), 2), -1)
    rows = places // width
    positions = (real.long().cumsum(1) - 1).flatten().index_select(0, places)
    keys = position_keys(seed, clock[rows], sample_ids[rows], positions)
    drawn = sample_tokens(logits.detach(), keys, temperature)
    different = (drawn != labels.flatten().index_select(0, places)).long()
    tokens = input_ids.flatten().scatter(0, places, drawn)
    replaced = torch.zeros_like(labels).flatten().scatter(0, places, different)
    return Filled(tokens.view_as(input_ids), replaced.view_as(labels))


def judgement_loss(logits: Tensor, replaced: Tensor, real: Tensor) -> Tensor:
    """Binary cross-entropy summed over real tokens, in nats: ``()``.

    Args:
        logits: ``(B, S)``, at least float32; above 0 where a token is held for replaced.
    """
    each = functional.binary_cross_entropy_with_logits(
        logits, replaced.to(logits.dtype), reduction="none"
    )
    return each.where(real, 0.0).sum()


def at_least_float32(logits: Tensor) -> Tensor:
    """Logits of which a loss is computed, whatever autocast made."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
