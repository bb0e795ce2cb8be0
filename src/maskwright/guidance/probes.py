"""Scores of tokens that a training step gives away: from its attention, its logits, its gradient.

Each takes tensors of the step as they are, detaches them, and gives ``(B, S)`` float32 on their
device, NaN where nothing is known. `Ragged.from_padded` turns that into the rows of the store.

Shapes: B samples, S positions, V vocabulary, P predicted positions, D size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from maskwright.errors import BatchError
from maskwright.guidance.received import attention_received

__all__ = [
    "attention_received",
    "embedding_gradient_norm",
    "entropy",
    "margin",
    "token_losses",
]

_IGNORED = -100


@torch.no_grad()
def token_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """The cross-entropy of each predicted position, in nats.

    Args:
        logits: ``(B, S, V)``, or of the predicted positions only, row after row: ``(P, V)`` or
            ``(1, P, V)``, as under `maskwright.hf.predicted_only`. For a causal model shift labels
            and logits first.
        labels: ``(B, S)`` int64, -100 where nothing is predicted.

    Raises:
        BatchError: the shapes do not fit.
    """
    chosen, where = _predicted(logits, labels)
    target = labels[where]
    return _placed(-chosen.log_softmax(-1).gather(-1, target[:, None])[:, 0], where)


@torch.no_grad()
def entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The entropy of the prediction at each predicted position, in nats: 0 (sure) to ``log V``.

    Arguments and errors as of `token_losses`.
    """
    chosen, where = _predicted(logits, labels)
    return _placed(torch.special.entr(chosen.softmax(-1)).sum(-1), where)


@torch.no_grad()
def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """How much likelier the likeliest token is than the next, 0 (undecided) to 1.

    Of probabilities; the label plays no part but to say where. Arguments and errors as of
    `token_losses`.

    Source: Scheffer, Decomain and Wrobel 2001, "Active hidden Markov models".
    """
    chosen, where = _predicted(logits, labels)
    best = chosen.softmax(-1).topk(2, dim=-1).values
    return _placed(best[:, 0] - best[:, 1], where)


@torch.no_grad()
def embedding_gradient_norm(gradient: Tensor, mask: Tensor | None = None) -> Tensor:
    """The Euclidean norm of the loss's gradient by each input embedding.

    It grows with the scale of the loss (gradient scaling, accumulation), which is the same for
    every token of a sample: compare within samples.

    Args:
        gradient: ``(B, S, D)``, the ``.grad`` of the embeddings of the batch, or what a hook on
            them was given.
        mask: ``(B, S)``, 0 at padding, which gets NaN.

    Raises:
        BatchError: the shapes do not fit.
    """
    if gradient.ndim != 3 or (mask is not None and mask.shape != gradient.shape[:2]):
        other = None if mask is None else tuple(mask.shape)
        raise BatchError(
            f"embedding_gradient_norm takes a gradient (B, S, D) and a mask (B, S), got "
            f"{tuple(gradient.shape)} and {other}."
        )
    norms = torch.linalg.vector_norm(gradient.detach().float(), dim=-1)
    return norms if mask is None else norms.masked_fill(mask == 0, torch.nan)


def _predicted(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of predicted positions, ``(P, V)`` float32, and where these are, ``(B, S)`` bool."""
    where = labels != _IGNORED
    if labels.ndim == 2 and logits.ndim >= 2:
        flat = logits.detach().flatten(0, -2)
        if logits.shape[:-1] == labels.shape:
            return flat[where.flatten()].float(), where
        if len(flat) == int(where.sum()):
            return flat.float(), where
    raise BatchError(
        f"Logits of shape {tuple(logits.shape)} fit neither the labels {tuple(labels.shape)} nor "
        f"their {int(where.sum())} predicted positions. Give logits (B, S, V) or (P, V), and "
        "labels (B, S)."
    )


def _placed(values: Tensor, where: Tensor) -> Tensor:
    out = torch.full(where.shape, torch.nan, dtype=torch.float32, device=where.device)
    out[where] = values
    return out
