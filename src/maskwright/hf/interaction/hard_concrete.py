"""The hard concrete distribution: gates that are exactly 0 or 1 and can be learned by gradients.

Source: Louizos, Welling, Kingma, "Learning Sparse Neural Networks through L0 Regularization", 2018
(arXiv:1712.01312), and its constants β = 2/3, γ = -0.1, ζ = 1.1. With u uniform in (0, 1)::

    s = sigmoid((log u - log(1 - u) + log α) / β)
    s̄ = s (ζ - γ) + γ
    z = min(1, max(0, s̄))
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

BETA, GAMMA, ZETA = 2 / 3, -0.1, 1.1


def sampled(log_alpha: Tensor, noise: Tensor) -> Tensor:
    """Gates z in [0, 1], of any shape.

    Args:
        log_alpha: the distribution's location.
        noise: ``log u - log(1 - u)``, of a shape that broadcasts to it.
    """
    return _stretched(torch.sigmoid((noise + log_alpha) / BETA))


def expected(log_alpha: Tensor) -> Tensor:
    """The gates of evaluation, without chance: ``min(1, max(0, sigmoid(log α) (ζ - γ) + γ))``."""
    return _stretched(torch.sigmoid(log_alpha))


def chance_open(log_alpha: Tensor) -> Tensor:
    """The chance that a gate is not 0: ``sigmoid(log α - β log(-γ / ζ))``.

    Its sum over gates is the expected L0 norm.
    """
    return torch.sigmoid(log_alpha - BETA * math.log(-GAMMA / ZETA))


def _stretched(s: Tensor) -> Tensor:
    return (s * (ZETA - GAMMA) + GAMMA).clamp(0, 1)
