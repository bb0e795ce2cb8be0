"""Filling in masks pass by pass, whatever predicts them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from maskwright.hf.conditional.remasking import least_certain, repeated, still_masked

Remask = Literal["least-certain", "easy-first"]
Repeats = Literal["keep", "remask", "drop"]


class Predict(Protocol):
    """What says which tokens stand at masks."""

    def __call__(self, rows: Tensor, tokens: Tensor, masked: Tensor) -> tuple[Tensor, Tensor]:
        """The likeliest token at each mask, and its logarithmic probability.

        Args:
            rows: ``(R,)`` numbers of the targets, rising.
            tokens: ``(R, L)`` of these targets, with masks.
            masked: ``(R, L)`` Boolean: where to predict. There may be masks elsewhere.

        Returns:
            ``(P,)`` ids and ``(P,)`` float32, in the order of ``masked.nonzero()``.
        """
        ...


@dataclass(frozen=True)
class Passes:
    """How masks are filled in.

    Attributes:
        number: passes of each block.
        remask: ``"least-certain"``: any token may be masked again; ``"easy-first"``: a token that
            was once left standing stays.
        repeats: what is done about equal neighbours.
        stop: whether a target is left alone after a pass that changed none of its tokens.
    """

    number: int
    remask: Remask = "least-certain"
    repeats: Repeats = "keep"
    stop: bool = False


def fill(
    tokens: Tensor,
    confidence: Tensor,
    block: Tensor,
    mask_id: int,
    passes: Passes,
    predict: Predict,
) -> int:
    """Fills a block in, in place: all of it is masked at first, and less in each pass.

    Args:
        tokens: ``(T, L)`` targets; what is not in the block stays.
        confidence: ``(T, L)`` float32, logarithmic probabilities, written where tokens are.
        block: ``(T, L)`` Boolean: what to fill in.
        mask_id: of the mask.
        passes: how.
        predict: what says what stands at masks.

    Returns:
        How often it was asked.
    """
    lengths = block.sum(1)
    settled = ~block
    going = lengths > 0
    masked = block
    for done in range(passes.number):
        if done:
            certain = confidence
            if passes.repeats == "remask":
                certain = confidence - 1e4 * repeated(tokens, confidence, block)
            counts = still_masked(lengths, done, passes.number) * going
            masked = least_certain(certain, ~settled, counts)
        if passes.remask == "easy-first":
            settled = ~masked
        rows = masked.any(1).nonzero().squeeze(1)
        if not len(rows):
            return done
        every = len(rows) == len(tokens)
        where = masked if every else masked[rows]
        before = tokens if every else tokens[rows]
        ids, scores = predict(rows, before.masked_fill(where, mask_id), where)
        after = before.masked_scatter(where, ids)
        if passes.stop and done:
            going[rows] = (after != before).any(1)
        if every:
            tokens.copy_(after)
            confidence.masked_scatter_(where, scores)
        else:
            tokens[rows] = after
            confidence[rows] = confidence[rows].masked_scatter(where, scores)
    return passes.number


def without_repeats(tokens: Tensor, words: Tensor, pad_id: int) -> tuple[Tensor, Tensor]:
    """Targets without words that are equal to the word before.

    Args:
        tokens: ``(B, L)``, padded on the right.
        words: ``(B, L)`` Boolean: what is no frame and no padding.
        pad_id: what fills the end.

    Returns:
        ``(B, L)`` tokens, and ``(B,)`` how many words are left.
    """
    again = torch.zeros_like(words)
    again[:, 1:] = (tokens[:, 1:] == tokens[:, :-1]) & words[:, 1:] & words[:, :-1]
    order = again.to(torch.uint8).argsort(dim=1, stable=True)
    return (
        tokens.masked_fill(again, pad_id).gather(1, order),
        (words & ~again).sum(1),
    )
