"""What a stack is given, looked over: its tokens, and which of them are padding."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from maskwright.errors import ModelError


def embedded(name: str, table: nn.Module, ids: Tensor | None, vectors: Tensor | None) -> Tensor:
    """``(B, T, E)``, of token ids or as they were given.

    Raises:
        ModelError: neither or both are given, or there is no position in them.
    """
    if (ids is None) == (vectors is None):
        raise ModelError(f"The {name} takes either token ids or embeddings, and one of the two.")
    found: Any = table(ids) if vectors is None else vectors
    if found.ndim != 3 or found.shape[1] == 0:
        shape = tuple((found if ids is None else ids).shape)
        raise ModelError(
            f"The {name} has the shape {shape}; it is (batch, tokens), with one token or more. "
            "Leave empty sentences out of the data."
        )
    return found


def tokens_of(name: str, mask: Tensor | None, batch: int, length: int) -> Tensor | None:
    """``(B, length)`` Boolean, True at tokens; None: there is no padding.

    Raises:
        ModelError: the mask has another shape.
    """
    if mask is None:
        return None
    if mask.shape != (batch, length):
        raise ModelError(
            f"{name} has the shape {tuple(mask.shape)}, its tokens {(batch, length)}. It is 1 at "
            "each token and 0 at padding."
        )
    tokens = mask != 0
    return None if bool(tokens.all()) else tokens


def allowed_of(mask: Tensor | None, batch: int, start: int, stop: int, keys: int) -> Tensor | None:
    """Rows ``start`` to ``stop`` of a mask of cross-attention, ``(B, stop - start, S)`` Boolean.

    Args:
        mask: ``(B or 1, T, S)`` or ``(B or 1, 1, T, S)`` Boolean, True = may attend, for all
            tokens of the decoder from its first one on; more rows than there are tokens are for
            those to come. None: there is none.

    Raises:
        ModelError: it is none of these.
    """
    if mask is None:
        return None
    found = mask.squeeze(1) if mask.ndim == 4 and mask.shape[1] == 1 else mask
    fits = found.ndim == 3 and found.shape[0] in (1, batch) and found.shape[2] == keys
    if mask.dtype != torch.bool or not fits or found.shape[1] < stop:
        raise ModelError(
            f"cross_attention_mask has the shape {tuple(mask.shape)} and the type {mask.dtype}. It "
            f"is Boolean, True = may attend, of the shape {(batch, stop, keys)}: samples, tokens "
            "of the decoder, tokens of the source. While generating it needs a row for every token "
            "that will be."
        )
    return found[:, start:stop].expand(batch, stop - start, keys)
