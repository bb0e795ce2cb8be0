"""Which tokens of the vocabulary may be said."""

from __future__ import annotations

import torch
from torch import Tensor

from maskwright.corruption.emit import IGNORE
from maskwright.errors import ModelError


def masked_logits(logits: Tensor, allowed: Tensor | None) -> Tensor:
    """Logits whose softmax is over the allowed tokens alone.

    Args:
        logits: ``(B, T, V)``.
        allowed: ``(V,)``, ``(B, V)`` or ``(B, T, V)`` Boolean, True = may be said; None: all may.

    Raises:
        ModelError: the mask has another shape or type, or leaves nothing to say somewhere.
    """
    if allowed is None:
        return logits
    found = allowed.unsqueeze(1) if allowed.ndim == 2 else allowed
    batch, length, size = logits.shape
    shapes = [(size,), (batch, 1, size), (batch, length, size)]
    if allowed.dtype != torch.bool or tuple(found.shape) not in shapes:
        raise ModelError(
            f"output_mask has the shape {tuple(allowed.shape)} and the type {allowed.dtype}. It is "
            f"Boolean, True = may be said, of the shape {(size,)}, {(batch, size)} or "
            f"{(batch, length, size)}. In generate(), which makes a row for each beam, give one "
            "row for each sample."
        )
    if not bool(found.any(-1).all()):
        raise ModelError("output_mask forbids every token of the vocabulary somewhere.")
    return logits.masked_fill(~found, float("-inf"))


def refuse_forbidden(labels: Tensor, logits: Tensor) -> None:
    """Labels must be allowed, or their loss would be infinite.

    Raises:
        ModelError: one is not.
    """
    wanted = labels.clamp(min=0).unsqueeze(-1)
    never = torch.isneginf(logits.detach().gather(-1, wanted).squeeze(-1)) & (labels != IGNORE)
    if bool(never.any()):
        row, place = (int(one) for one in never.nonzero()[0])
        raise ModelError(
            f"output_mask forbids the label {int(labels[row, place])} of sample {row}, token "
            f"{place}: its loss would be infinite. Allow it, or set the label to {IGNORE}."
        )
