"""How much of a source has been read: from a batch that is there, or from a stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

import torch
from torch import Tensor

from maskwright.errors import BatchError


class Source(Protocol):
    """Sources that are read from their beginning, all alike."""

    rows: int

    def read(self, count: int) -> tuple[Tensor, Tensor]:
        """The first ``count`` tokens of each: ids and mask, ``(rows, at most count)`` int64.

        No token behind them is looked at.
        """
        ...

    def ended(self, count: int) -> bool:
        """Whether no source has more than ``count`` tokens, as far as that is known by then."""
        ...

    def lengths(self, count: int) -> list[int]:
        """How many of the first ``count`` tokens each has."""
        ...


class BatchSource:
    """Sources that are there, ``(rows, S)``, padded on the right."""

    def __init__(self, ids: Tensor, mask: Tensor | None) -> None:
        if ids.ndim == 1:
            ids, mask = ids[None], None if mask is None else mask[None]
        if ids.ndim != 2 or ids.is_floating_point():
            raise BatchError(
                f"input_ids are {ids.dtype} of shape {tuple(ids.shape)}; they are token ids, (S,) "
                "or (batch, S)."
            )
        mask = torch.ones_like(ids) if mask is None else mask.long()
        if mask.shape != ids.shape:
            raise BatchError(
                f"attention_mask has shape {tuple(mask.shape)}, input_ids {tuple(ids.shape)}."
            )
        empty = (mask.sum(1) == 0).nonzero()
        if len(empty) or not ids.shape[1]:
            raise BatchError(
                f"Source {int(empty[0]) if len(empty) else 0} of the batch has no tokens, so there "
                "is nothing to write a target from."
            )
        if bool((mask[:, 1:] > mask[:, :-1]).any()):
            raise BatchError(
                "A source is padded on its left or inside: what is read first would be padding. "
                'Tokenize with padding_side="right".'
            )
        self.ids, self.mask = ids, mask
        self.rows = len(ids)

    def read(self, count: int) -> tuple[Tensor, Tensor]:
        return self.ids[:, :count], self.mask[:, :count]

    def ended(self, count: int) -> bool:
        return count >= self.ids.shape[1]

    def lengths(self, count: int) -> list[int]:
        return self.mask[:, :count].sum(1).tolist()


class StreamSource:
    """One source whose tokens come one after another; no more are taken than are asked for."""

    rows = 1

    def __init__(self, tokens: Iterable[int], device: torch.device) -> None:
        self._tokens: Iterator[int] = iter(tokens)
        self._device = device
        self._read: list[int] = []
        self._over = False

    def read(self, count: int) -> tuple[Tensor, Tensor]:
        while not self._over and len(self._read) < count:
            try:
                token = next(self._tokens)
            except StopIteration:
                self._over = True
                break
            if isinstance(token, bool) or not isinstance(token, int) or token < 0:
                raise BatchError(
                    f"Token {len(self._read)} of the stream is {token!r}; it is a token id."
                )
            self._read.append(token)
        if not self._read:
            raise BatchError("The stream has no tokens, so there is nothing to write from.")
        ids = torch.tensor([self._read[:count]], device=self._device)
        return ids, torch.ones_like(ids)

    def ended(self, count: int) -> bool:
        return self._over and count >= len(self._read)

    def lengths(self, count: int) -> list[int]:
        return [min(count, len(self._read))]
