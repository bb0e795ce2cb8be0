"""What a model that predicts the next token is to predict of a sample."""

from __future__ import annotations

import numpy as np

from maskwright.corruption.emit.batch import IGNORE, targets_of
from maskwright.corruption.plan import MaskPlan
from maskwright.ragged import Ragged


def next_token_targets(plan: MaskPlan) -> Ragged:
    """The label of each token where tokens are predicted one after another; int64.

    A protected token (a prompt) is never a label, whatever the user's labels say. Every other
    ordinary token is one. A special token is one where the text before it is, since a model must
    learn to stop: the end of an answer is predicted, that of a prompt is not. (Before the first
    ordinary token, the one after it counts.) That it is protected too makes no difference, since
    tokenizers flag every special token so. Padding that stands in the sample is not a label; right
    behind an ordinary token it is the end token of a tokenizer that pads with it.

    Where the user gave labels they stand for special tokens, and -100 is left as it is.
    """
    targets, batch, vocabulary = targets_of(plan), plan.batch, plan.masking.bound
    ids = batch.tokens.values
    ordinary = vocabulary.maskable[ids]
    silent = np.zeros(len(ids), np.bool_)
    if batch.protected is not None:
        silent |= ordinary & (batch.protected.values != 0)
    if batch.labels is None:
        text = _text_of(batch.tokens, ordinary)
        silent |= silent[text]
        silent |= (ids == vocabulary.pad_id) & ~_right_behind(batch.tokens, ordinary)
    targets.values[silent] = IGNORE
    return targets


def _text_of(tokens: Ragged, ordinary: np.ndarray) -> np.ndarray:
    """For each token the ordinary one that it is or follows, or else the first of its sample, or
    else itself; ``(N,)`` int64, counted through the whole batch."""
    every, many = np.arange(len(ordinary)), len(ordinary)
    last = np.maximum.accumulate(np.where(ordinary, every, -1))
    following = np.minimum.accumulate(np.where(ordinary, every, many)[::-1])[::-1]
    starts = np.repeat(tokens.offsets[:-1], tokens.lengths)
    stops = np.repeat(tokens.offsets[1:], tokens.lengths)
    return np.where(last >= starts, last, np.where(following < stops, following, every))


def _right_behind(tokens: Ragged, ordinary: np.ndarray) -> np.ndarray:
    """Which tokens follow an ordinary one of their sample, ``(N,)`` bool."""
    behind = np.zeros(len(ordinary), np.bool_)
    behind[1:] = ordinary[:-1]
    return behind & (tokens.positions > 0)
