"""The attention that each token receives, from a few queries of one layer.

Shapes: B samples, H heads, Hkv heads of keys, Q queries, K keys, D size, n chosen queries.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from maskwright import randomness
from maskwright.errors import BatchError, ConfigError


@torch.no_grad()
def attention_received(
    query: Tensor,
    key: Tensor,
    *,
    queries: int | None = 16,
    seed: int = 0,
    step: int = 0,
    mask: Tensor | None = None,
    causal: bool = False,
    valid: Tensor | None = None,
    scale: float | None = None,
    heads: Sequence[int] | None = None,
) -> Tensor:
    """The mean probability with which a few queries attend to each key, ``(B, K)`` float32.

    For key ``j``: the mean of ``softmax(q_i · k)_j`` over the heads and over those of the chosen
    queries ``i`` that may see it. (Under a causal mask later keys are seen by fewer queries; the
    sum would fall with the position whatever the model does.) NaN where none of them may: padding,
    and under a causal mask the keys after the last chosen query. Without dropout, apart from the
    graph. It costs about n / Q of the layer's attention.

    Which queries are chosen is a hash of (seed, step) and of the number of the query among the
    valid ones of its sample: whatever else is in the batch, and however it is padded, a sample of
    the same length has the same.

    Args:
        query: ``(B, H, Q, D)``, as the layer's attention gets it (after rotary embedding).
        key: ``(B, Hkv, K, D)``; ``Hkv`` divides ``H``.
        queries: how many to choose of each sample, all where it has no more; ``None``: all.
        mask: ``(B, K)``, nonzero where a key is no padding; or Boolean ``(B | 1, H | 1, Q, K)``,
            True where a query may see a key; or the same in floating point, added to the scores
            (the half of the dtype's range and below is taken as *not*).
        causal: no query sees a later key; the last query is beside the last key.
        valid: ``(B, Q)``, nonzero where a query is no padding. Unless given: ``mask``, if that is
            ``(B, K)`` and there are as many queries as keys; else all. In cross-attention give it:
            the lengths may be equal by chance.
        scale: factor of the scores, ``D ** -0.5`` unless given.
        heads: which heads to average, all unless given.

    Raises:
        BatchError: the shapes do not fit.
        ConfigError: ``queries`` is less than 1, or a head does not exist.
    """
    query, key = query.detach(), key.detach()
    _check(query, key, mask, valid)
    batch, count, q_length, size = query.shape
    kv_count, k_length = key.shape[1:3]
    if queries is not None and queries < 1:
        raise ConfigError(f"attention_received: queries must be at least 1, got {queries}.")
    if valid is None:
        flat = mask is not None and mask.ndim == 2 and q_length == k_length
        valid = mask if flat else None
    # chosen (B, n) positions; real (B, n): a short sample has fewer than n
    chosen, real = _choose(batch, q_length, queries, valid, seed, step, query.device)
    many = chosen.shape[1]
    index = chosen[:, None, :, None]
    group = count // kv_count
    if heads is not None:
        query, key, mask = _take_heads(query, key, mask, heads, group)
        count, kv_count, group = len(heads), len(heads), 1
    picked = query.gather(2, index.expand(batch, count, many, size))
    # heads that share keys go side by side, so that the keys are not repeated
    picked = picked.reshape(batch, kv_count, group * many, size)
    scores = (picked @ key.transpose(-1, -2)).float()
    scores = scores.view(batch, count, many, k_length)
    scores *= size**-0.5 if scale is None else scale
    seen = real[:, None, :, None]
    if mask is not None and mask.ndim == 2:
        seen = seen & (mask != 0)[:, None, None, :]
    elif mask is not None:
        rows = mask.expand(batch, *mask.shape[1:])
        rows = rows.gather(2, index.expand(batch, mask.shape[1], many, k_length))
        if mask.dtype != torch.bool:
            scores += rows.float()
            rows = rows > torch.finfo(mask.dtype).min / 2
        seen = seen & rows
    if causal:
        keys = torch.arange(k_length, device=key.device)
        seen = seen & (keys <= index + (k_length - q_length))
    seen = seen.expand(batch, seen.shape[1], many, k_length)
    scores.masked_fill_(~seen, -torch.inf)
    # a query that sees nothing has a softmax of NaN, and attends to nothing
    weights = scores.softmax(-1).masked_fill_(~seen, 0.0)
    pairs = seen.sum((1, 2)) * (count // seen.shape[1])
    return weights.sum((1, 2)) / pairs  # 0 / 0 is the NaN of a key that nobody may see


def _choose(
    batch: int,
    length: int,
    queries: int | None,
    valid: Tensor | None,
    seed: int,
    step: int,
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """Chosen positions ``(B, n)`` int64, and ``(B, n)`` bool: which are of the sample at all."""
    many = length if queries is None else min(queries, length)
    counters = np.arange(length)
    if many < length:
        key = randomness.run_key(seed, randomness.PROBE, step)
        draws = randomness.draw_array(np.full(length, key, np.uint64), counters)
        counters = np.argsort(draws, kind="stable")
    # of a shorter sample, the first n of this order that it has: the same for any padding
    order = torch.from_numpy(counters).to(device)
    if valid is None:
        chosen = order[:many].expand(batch, many)
        return chosen, torch.ones_like(chosen, dtype=torch.bool)
    valid = valid != 0
    inside = order < valid.sum(1, keepdim=True)
    first = (~inside).to(torch.uint8).argsort(dim=1, stable=True)[:, :many]
    numbers, real = order[first], inside.gather(1, first)
    # the numbers count valid positions: where those are, whatever the side of the padding
    places = (~valid).to(torch.uint8).argsort(dim=1, stable=True)
    return places.gather(1, numbers), real


def _take_heads(
    query: Tensor, key: Tensor, mask: Tensor | None, heads: Sequence[int], group: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Those heads alone, with keys of their own."""
    if not heads or not 0 <= min(heads) <= max(heads) < query.shape[1]:
        raise ConfigError(
            f"attention_received: heads must be among 0 … {query.shape[1] - 1}, got {heads}."
        )
    which = torch.tensor(heads, device=query.device)
    if mask is not None and mask.ndim == 4 and mask.shape[1] > 1:
        mask = mask[:, which]
    return query[:, which], key[:, which // group], mask


def _check(query: Tensor, key: Tensor, mask: Tensor | None, valid: Tensor | None) -> None:
    shapes = f"query {tuple(query.shape)}, key {tuple(key.shape)}"
    if (
        query.ndim != 4
        or key.ndim != 4
        or query.shape[0] != key.shape[0]
        or query.shape[3] != key.shape[3]
        or query.shape[1] % max(1, key.shape[1])
    ):
        raise BatchError(
            f"attention_received: {shapes}; they are (B, H, Q, D) and (B, Hkv, K, D), and Hkv "
            "divides H."
        )
    batch, heads, queries = query.shape[:3]
    keys = key.shape[2]
    if mask is not None and mask.shape != (batch, keys):
        fits = mask.ndim == 4 and mask.shape[2:] == (queries, keys)
        fits = fits and mask.shape[0] in (1, batch) and mask.shape[1] in (1, heads)
        if not fits or not (mask.dtype == torch.bool or mask.is_floating_point()):
            raise BatchError(
                f"attention_received: mask is {mask.dtype} of shape {tuple(mask.shape)} for "
                f"{shapes}; it is (B, K), or Boolean or floating (B | 1, H | 1, Q, K)."
            )
    if valid is not None and valid.shape != (batch, queries):
        raise BatchError(
            f"attention_received: valid has shape {tuple(valid.shape)} for {shapes}; it is (B, Q)."
        )
