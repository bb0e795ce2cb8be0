"""The likeliest token at each place, a few rows of logits at a time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from maskwright.errors import ModelError
from maskwright.hf.compute.head import PredictedHead
from maskwright.hf.head import predicted_only

# Logits that exist at once: they are read three times, so they had better stay in the cache.
_AT_ONCE = 1 << 19


class BestTokens:
    """A model's head, asked for its likeliest tokens only.

    Where the output embedding is a plain linear layer, whose logits the model changes by adding
    numbers at most, they are computed a few rows at a time. Otherwise the model computes them.

    Args:
        model: a `ConditionalMaskedLM`.
        never: ids that are not to be predicted.
        size: ids from this on are not predicted either.
    """

    def __init__(self, model: Any, never: tuple[int, ...], size: int) -> None:
        self.model, self.never, self.size = model, never, size
        try:
            self._head: _BareHead | None = _BareHead(model)
        except ModelError:
            self._head = None
        self._offset: Tensor | None = None

    def __call__(
        self, places: Tensor, shape: tuple[int, int], inputs: dict[str, Any]
    ) -> tuple[Tensor, Tensor]:
        """``(P,)`` ids and ``(P,)`` float32 logarithmic probabilities, among the allowed ids.

        Args:
            places: ``(P,)`` int64 into the flattened ``(R, L)`` of the decoder.
            shape: ``(R, L)``.
            inputs: what the model is called with.
        """
        if self._head is not None:
            try:
                hidden, added = self._head.hidden(places, shape, inputs)
            except ModelError:
                self._head = None  # it scales or caps its logits
            else:
                return self._of_hidden(self._head.embedding, hidden, added)
        with predicted_only(self.model, places, shape):
            logits = self.model(**inputs).logits.squeeze(0).float()
        return likeliest(logits + self._forbidden(logits))

    def _of_hidden(self, embedding: Any, hidden: Tensor, added: Tensor | None) -> Any:
        weight = embedding.weight
        if self._offset is None:
            offset = self._forbidden(weight.T)
            for one in (embedding.bias, added):
                offset = offset if one is None else offset + one
            self._offset = offset.to(weight.dtype)
        rows = max(16, _AT_ONCE // len(weight))
        found = [
            likeliest(functional.linear(part, weight, self._offset).float())
            for part in hidden.to(weight.dtype).split(rows)
        ]
        return torch.cat([ids for ids, _ in found]), torch.cat([scores for _, scores in found])

    def _forbidden(self, logits: Tensor) -> Tensor:
        """``(V,)`` float32: minus infinity at ids that are never predicted."""
        classes = logits.shape[-1]
        added = torch.zeros(classes, device=logits.device)
        added[[one for one in self.never if one < classes]] = float("-inf")
        added[self.size :] = float("-inf")
        return added


def likeliest(logits: Tensor) -> tuple[Tensor, Tensor]:
    """``(P,)`` ids and their logarithmic probabilities; ``logits`` ``(P, V)`` are written over."""
    top, ids = logits.max(-1)
    return ids, -logits.sub_(top.unsqueeze(1)).exp_().sum(-1).log()


class _BareHead(PredictedHead):
    """A head whose hidden states are wanted, and no loss."""

    def hidden(
        self, places: Tensor, shape: tuple[int, int], inputs: dict[str, Any]
    ) -> tuple[Tensor, Tensor | None]:
        """``(P, H)`` that the output embedding is asked for, and ``(V,)`` added to its logits."""
        name = type(self.model).__name__
        with self.open(places, shape):
            logits = self.model(**inputs).logits
        if len(self._seen) != 1:
            raise ModelError(f"{name} used its output embedding {len(self._seen)} times in a pass.")
        return self._seen.pop().flatten(0, -2), self._added(logits, name)
