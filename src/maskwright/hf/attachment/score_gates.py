"""Choices among keys that need the scores of the very attention: the best few, the large ones.

A pattern says from positions and columns who may attend to whom; these look at what a query and its
keys hold. They narrow the pattern, in training and in each step of a generation alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from maskwright.errors import ConfigError


class ScoreGate(Protocol):
    """What may narrow an attention once its queries and keys are there."""

    def __call__(
        self, query: Tensor, key: Tensor, allowed: Tensor, scores: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Who may attend to whom, and what is added to the scores.

        Args:
            query: ``(batch, heads, q, size)``.
            key: ``(batch, heads, kv, size)``.
            allowed: ``(batch or 1, heads or 1, q, kv)`` Boolean, of the pattern and the model.
            scores: ``(batch, heads, q, kv)`` before the softmax, bias included.

        Returns:
            ``allowed``, narrowed, and None or a bias that broadcasts to the scores.
        """
        ...


@dataclass(frozen=True)
class TopScores:
    """For each query and head, the ``k`` allowed keys of the highest scores.

    Of equal scores the key of lower index comes first. Which keys are kept has no gradient; the
    scores of those that are have theirs.

    Args:
        k: how many, 1 or more; a query with fewer allowed keys keeps them all.

    Raises:
        ConfigError: ``k`` is no whole number above 0.

    Source: Gupta et al., "Memory-efficient Transformers via Top-k Attention", 2021
    (arXiv:2106.06899).
    """

    k: int

    def __post_init__(self) -> None:
        if isinstance(self.k, bool) or not isinstance(self.k, int) or self.k < 1:
            raise ConfigError(f"k={self.k!r} of TopScores: it is a whole number, 1 or more.")

    def __call__(
        self, query: Tensor, key: Tensor, allowed: Tensor, scores: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        found = scores.detach().masked_fill(~allowed, -torch.inf)
        if self.k >= found.shape[-1]:
            return allowed, None
        order = found.argsort(dim=-1, descending=True, stable=True)[..., : self.k]
        best = torch.zeros_like(found, dtype=torch.bool).scatter_(-1, order, True)
        return allowed & best, None


@dataclass(frozen=True)
class ScoreThreshold:
    """For each query and head, the allowed keys whose attention weight is at least ``tau``.

    The weight is that of the whole softmax; those that stay are normalised anew. The key of the
    largest weight always stays (of equal ones the first), so that no row becomes empty.

    Args:
        tau: above 0, at most 1.

    Raises:
        ConfigError: ``tau`` is outside its range.
    """

    tau: float

    def __post_init__(self) -> None:
        number = isinstance(self.tau, int | float) and not isinstance(self.tau, bool)
        if not number or not 0 < self.tau <= 1:
            raise ConfigError(
                f"tau={self.tau!r} of ScoreThreshold: it is an attention weight, above 0 and at "
                "most 1."
            )

    def __call__(
        self, query: Tensor, key: Tensor, allowed: Tensor, scores: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        # a row without any key is left as it is: it stays empty
        found = scores.detach().masked_fill(~(allowed | ~allowed.any(-1, keepdim=True)), -torch.inf)
        large = found.softmax(-1) >= self.tau
        large.scatter_(-1, found.argmax(-1, keepdim=True), True)
        return allowed & large, None
