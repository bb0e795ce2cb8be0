"""Cross-entropy of the output embedding, with logits of a few rows at a time.

With a large vocabulary the logits are the largest tensor of a step: 4,000 predicted tokens of
50,000 classes take 800 MB in single precision, and as much again for each of their gradients.
Here they exist for ``rows`` tokens at once. The gradients are worked out in the same pass,
while the logits are at hand, so nothing is computed twice; this is possible because the result is
a sum of losses whose weights are known beforehand (as in Liger kernels, 2410.10989). Nothing is
left out: up to rounding it is the plain loss.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from maskwright.errors import BatchError, ConfigError

# Logits that exist at once, unless the caller says how many rows. On a CPU measured (2 cores of
# an EPYC 9004, vocabulary 30,000, width 256): fewer spend their time adding up the weight's
# gradient, more go out to memory in every pass. On a GPU 1 GiB in single precision.
_AT_ONCE = {"cpu": 1 << 24}
_AT_ONCE_ELSEWHERE = 1 << 28


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    *,
    weights: Tensor | None = None,
    divisor: Tensor | float = 1.0,
    label_smoothing: float = 0.0,
    rows: int | None = None,
) -> tuple[Tensor, Tensor]:
    """The sum of weighed losses by a divisor, and each loss by itself.

    Under autocast, matrix products are done in its type and the softmax in single precision, as
    for a model's own head.

    Args:
        hidden: ``(P, H)`` at the positions that are predicted.
        weight: ``(V, H)`` of the output embedding.
        bias: ``(V,)`` added to the logits, or None.
        targets: ``(P,)`` int64, 0 to ``V - 1``.
        weights: ``(P,)`` of the losses, 1 unless given; no gradient goes to them.
        divisor: of the sum; no gradient goes to it.
        label_smoothing: share of a target that is spread over all classes, 0 to 1.
        rows: logits of so many positions at once; as many as are fast unless given.

    Returns:
        The sum, ``()`` float32 (float64 for such tensors), with a gradient; and ``(P,)`` losses
        without weights, without one. Gradients of gradients are not to be had.

    Raises:
        BatchError: the tensors do not fit each other.
        ConfigError: ``rows`` is not a whole number above 0, or the smoothing is not a share.

    >>> hidden, weight = torch.eye(3), torch.eye(3)
    >>> total, losses = linear_cross_entropy(hidden, weight, None, torch.tensor([0, 1, 2]))
    >>> round(total.item(), 3), losses.shape
    (1.654, torch.Size([3]))
    """
    _check(hidden, weight, bias, targets, weights)
    if rows is not None and (isinstance(rows, bool) or not isinstance(rows, int) or rows < 1):
        raise ConfigError(f"rows={rows!r} of logits at once: it is a whole number, 1 or more.")
    if not 0 <= label_smoothing <= 1:
        raise ConfigError(f"label_smoothing={label_smoothing!r}: it is a share from 0 to 1.")
    device = hidden.device.type
    if rows is None:
        at_once = _AT_ONCE.get(device, _AT_ONCE_ELSEWHERE)
        rows = max(1, at_once // max(1, len(weight)))
    dtype = torch.promote_types(hidden.dtype, weight.dtype)
    if torch.is_autocast_enabled(device) and dtype != torch.float64:
        dtype = torch.get_autocast_dtype(device)
    share = torch.as_tensor(1.0 / divisor, device=hidden.device)
    if weights is not None:
        share = share * weights.detach()
    with torch.autocast(device, enabled=False):
        return _LinearCrossEntropy.apply(
            hidden, weight, bias, targets, share, label_smoothing, rows, dtype
        )


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        share: Tensor,
        smoothing: float,
        rows: int,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        of_hidden, of_weight, of_bias = ctx.needs_input_grad[:3]
        share = share.to(wide).expand(len(targets))
        matrix = weight.to(dtype)
        offset = None if bias is None else bias.to(dtype)
        losses = torch.empty(len(targets), dtype=wide, device=hidden.device)
        grad_hidden = torch.empty_like(hidden) if of_hidden else None
        grad_weight: Tensor | None = None
        grad_bias = torch.zeros(len(weight), dtype=wide, device=hidden.device) if of_bias else None
        for start in range(0, len(targets), rows):
            part = slice(start, min(start + rows, len(targets)))
            inputs, chosen = hidden[part].to(dtype), targets[part].unsqueeze(1)
            logits = functional.linear(inputs, matrix, offset)
            scores = functional.log_softmax(logits, -1, dtype=wide)
            del logits
            picked = scores.gather(1, chosen).squeeze(1)
            losses[part] = -picked
            if smoothing:
                losses[part] = -(1 - smoothing) * picked - smoothing * scores.mean(1)
            if not (of_hidden or of_weight or of_bias):
                continue
            # of the loss by the logits: softmax less target
            slope = scores.exp_()
            if smoothing:
                slope -= smoothing / len(weight)
            slope.scatter_add_(1, chosen, slope.new_full((1, 1), smoothing - 1).expand_as(chosen))
            slope = slope.to(dtype)
            # shares go to the small factor of each product, not to the slope of V columns
            each = share[part].unsqueeze(1)
            if grad_hidden is not None:
                grad_hidden[part] = (slope @ matrix) * each
            if of_weight:
                factor = (inputs * each).to(dtype)
                if grad_weight is None:
                    grad_weight = slope.T @ factor
                elif dtype == wide:
                    grad_weight.addmm_(slope.T, factor)
                else:
                    # halves are added up in single precision
                    grad_weight = grad_weight.to(wide).add_(slope.T @ factor)
            if grad_bias is not None:
                grad_bias += share[part].to(dtype) @ slope
        if of_weight:
            grad_weight = (
                torch.zeros_like(weight) if grad_weight is None else grad_weight.to(weight.dtype)
            )
        ctx.save_for_backward(grad_hidden, grad_weight, grad_bias)
        ctx.mark_non_differentiable(losses)
        ctx.bias_dtype = None if bias is None else bias.dtype
        return (losses * share).sum(), losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _losses: Any) -> Any:  # type: ignore[override]
        grads = ctx.saved_tensors
        if grads[2] is not None:
            grads = (*grads[:2], grads[2].to(ctx.bias_dtype))
        # on a CPU looking costs nothing, and a factor of 1 is the rule
        if grad.device.type != "cpu" or grad.item() != 1.0:
            grads = [None if one is None else one * grad.to(one.dtype) for one in grads]
        return (*grads, None, None, None, None, None)


def _check(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, weights: Tensor | None
) -> None:
    """Raises `BatchError` where the tensors do not fit each other."""
    fits = (
        hidden.ndim == weight.ndim == 2
        and hidden.shape[1] == weight.shape[1]
        and targets.shape == hidden.shape[:1]
        and (bias is None or bias.shape == weight.shape[:1])
        and (weights is None or weights.shape == targets.shape)
    )
    if not fits:
        shapes = {
            name: tuple(one.shape)
            for name, one in {
                "hidden": hidden, "weight": weight, "bias": bias, "targets": targets,
                "weights": weights,
            }.items()
            if one is not None
        }  # fmt: skip
        raise BatchError(
            f"Shapes of linear_cross_entropy are {shapes}; they are hidden (P, H), weight (V, H), "
            "bias (V,), targets (P,), weights (P,)."
        )
