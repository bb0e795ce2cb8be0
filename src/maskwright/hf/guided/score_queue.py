"""Scores on their way from a step to the store: over all ranks, and a few steps at a time.

Nothing reads a sample's new scores before the next epoch, so they may wait on the device that
made them: one copy to the host, and one exchange between ranks, for several steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor, distributed

from maskwright.errors import SampleIdError
from maskwright.guidance import ScoreStore
from maskwright.ragged import Ragged, offsets_of


@dataclass(frozen=True, eq=False)
class _Waiting:
    """The scores of one batch of this rank, on its device."""

    step: int
    sample_ids: Tensor
    scores: Tensor
    mask: Tensor
    loss: Tensor | None


@dataclass(frozen=True, eq=False)
class _Part:
    """The same on the host, to be sent."""

    step: int
    sample_ids: np.ndarray
    lengths: np.ndarray
    values: np.ndarray
    loss: float | None


class ScoreQueue:
    """Collects the scores of batches, and gives them to a store.

    Args:
        store: of this rank, or of the first and read by the others.
    """

    def __init__(self, store: ScoreStore) -> None:
        self.store = store
        self._waiting: list[_Waiting] = []

    def put(
        self,
        step: int,
        sample_ids: Tensor,
        scores: Tensor,
        mask: Tensor,
        loss: Tensor | None,
    ) -> None:
        """Scores ``(B, S)`` of a batch, with its mask: nothing is copied or waited for."""
        self._waiting.append(_Waiting(step, sample_ids, scores, mask, loss))

    def drain(self) -> list[tuple[int, float]]:
        """Write everything that waits; all ranks call it at the same step.

        Returns:
            Steps with their losses: of micro-batches the sum, over ranks the mean.
        """
        waiting, self._waiting = self._waiting, []
        ranks = _together([_on_host(one) for one in waiting])
        if len({len(parts) for parts in ranks}) > 1:
            raise SampleIdError(
                f"The ranks trained on different numbers of batches ({[len(p) for p in ranks]}). "
                "Guided runs need dataloader_drop_last=True."
            )
        losses: dict[int, float] = {}
        for parts in zip(*ranks, strict=True):
            step = parts[0].step
            if self.store.writable:
                lengths = np.concatenate([part.lengths for part in parts])
                values = np.concatenate([part.values for part in parts])
                ids = np.concatenate([part.sample_ids for part in parts])
                self.store.update(ids, Ragged(values, offsets_of(lengths)), step)
            known = [part.loss for part in parts if part.loss is not None]
            if known:
                losses[step] = losses.get(step, 0.0) + sum(known) / len(known)
        return sorted(losses.items())

    def settle(self) -> None:
        """Wait until all ranks can read what was drained."""
        if self.store.writable:
            self.store.flush()
        barrier()

    def clear(self) -> None:
        """Forget what waits, of a run that was broken off."""
        self._waiting = []


def barrier() -> None:
    """Wait for the other ranks, where there are some."""
    if _world() > 1:
        distributed.barrier()


def _on_host(one: _Waiting) -> _Part:
    mask = one.mask.cpu().numpy() != 0
    rows = Ragged.from_padded(one.scores.cpu().numpy(), mask)
    loss = None if one.loss is None else float(one.loss)
    return _Part(one.step, one.sample_ids.cpu().numpy(), rows.lengths, rows.values, loss)


def _together(parts: list[_Part]) -> list[list[_Part]]:
    """Those of every rank, in the order of the ranks."""
    if _world() == 1:
        return [parts]
    found: list[list[_Part]] = [[] for _ in range(_world())]
    distributed.all_gather_object(found, parts)
    return found


def _world() -> int:
    on = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if on else 1
