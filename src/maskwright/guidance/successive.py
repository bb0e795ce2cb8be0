"""How likely a set is under successive sampling without replacement, for gradients of its weights.

`Weighted` draws one token after another, each in proportion to the weights of those that are left
(Plackett–Luce); a batch shows only the set. Its probability is a sum over the orders in which the
set may have been drawn, and one integral: where each token arrives after an exponential time of
rate ``w_i``, the set ``S`` comes first if all of it arrives before the first of the rest ``R``,

    P(S) = ∫ Π_{i in S} (1 - exp(-w_i t)) · W_R exp(-W_R t) dt,     W_R = Σ_{j in R} w_j.

Source: Kool, van Hoof, Welling, "Estimating gradients for discrete random variables by sampling
without replacement" (2002.06043). In ``x = log t`` the logarithm of the integrand is concave and
smooth, so equal steps around its peak are exact to about 1e-7 of ``P`` (the trapezoid rule).

Shapes: B samples, S positions, K the most tokens chosen of a sample.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from maskwright.errors import BatchError

_BISECTIONS = 24
# of the peak's width: two points a width, as far as exp(-20) on the flatter side
_STEP, _LEFT, _RIGHT = 0.5, 20.0, 9.0


def log_probability(logits: Tensor, candidates: Tensor, chosen: Tensor) -> Tensor:
    """``log P(chosen | its number)`` of each sample, ``(B,)`` float64, differentiable.

    Args:
        logits: ``(B, S)``, the logarithms of the weights, finite at candidates.
        candidates: ``(B, S)`` bool: what might have been drawn.
        chosen: ``(B, S)`` bool: what was drawn. Nothing or everything drawn is certain: 0.

    Raises:
        BatchError: the shapes differ, or something was drawn that is no candidate.
    """
    if not logits.shape == candidates.shape == chosen.shape or logits.ndim != 2:
        raise BatchError(
            "log_probability takes three tensors of one shape (B, S), got "
            f"{tuple(logits.shape)}, {tuple(candidates.shape)} and {tuple(chosen.shape)}."
        )
    if (chosen & ~candidates).any():
        row = int((chosen & ~candidates).any(1).nonzero()[0])
        raise BatchError(
            f"log_probability: row {row} has a chosen position that is no candidate. Give the "
            "tokens and the vocabulary that the mask was drawn with."
        )
    rest = candidates & ~chosen
    drawn = chosen.any(1) & rest.any(1)
    out = logits.new_zeros(len(logits), dtype=torch.float64)
    if drawn.any():
        out[drawn] = _drawn(logits[drawn].double(), rest[drawn], chosen[drawn])
    return out


def _drawn(logits: Tensor, rest: Tensor, chosen: Tensor) -> Tensor:
    total = logits.masked_fill(~rest, -math.inf).logsumexp(1)
    # the chosen ones first, in rows of the longest choice
    counts = chosen.sum(1)
    index = torch.argsort(chosen.long(), dim=1, descending=True, stable=True)[:, : counts.max()]
    is_there = torch.arange(index.shape[1]) < counts[:, None]
    weights = logits.gather(1, index) - total[:, None]  # in units of the rest's
    peak, width = _peak(weights.detach(), is_there)
    steps = torch.arange(-_LEFT, _RIGHT + _STEP, _STEP, dtype=torch.float64)
    x = peak[:, None] + width[:, None] * steps  # (B, G)
    arrival = (weights[:, :, None] + x[:, None, :]).exp()  # w_i t, (B, K, G)
    # where it is not there the argument is 1, so that no gradient becomes NaN
    arrival = arrival.masked_fill(~is_there[:, :, None], 1.0)
    come = (-torch.expm1(-arrival)).log().masked_fill(~is_there[:, :, None], 0.0).sum(1)
    return (come + x - x.exp()).logsumexp(1) + (_STEP * width).log()


def _peak(weights: Tensor, is_there: Tensor) -> tuple[Tensor, Tensor]:
    """Where the integrand is highest in ``log t``, and its width there, ``(B,)`` each."""
    low = torch.zeros(len(weights), dtype=torch.float64)
    high = torch.log1p(is_there.sum(1).double())
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        y = (weights + middle[:, None]).exp()
        slope = 1 + (y / torch.expm1(y)).nan_to_num(1.0).mul(is_there).sum(1) - middle.exp()
        low, high = torch.where(slope > 0, middle, low), torch.where(slope > 0, high, middle)
    y = (weights + low[:, None]).exp()
    share = (y / torch.expm1(y)).nan_to_num(1.0)
    bend = (share * (share + y - 1)).nan_to_num(0.0, posinf=0.0).mul(is_there).sum(1)
    return low, (low.exp() + bend).rsqrt()
