"""Scores on their way from a step to the store: over all ranks, and a few steps at a time.

Nothing reads a sample's new scores before the next epoch, so they may wait on the device that
made them: one copy to the host, and one exchange between ranks, for several steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from maskwright.corruption.emit import IGNORE
from maskwright.errors import SampleIdError
from maskwright.guidance import ScoreStore
from maskwright.hf.guided.coverage import Coverage
from maskwright.hf.guided.ranks import barrier, of_all_ranks
from maskwright.ragged import Ragged, offsets_of


@dataclass(frozen=True, eq=False)
class _Waiting:
    """The scores of one batch of this rank, on its device."""

    step: int
    sample_ids: Tensor
    scores: Tensor
    mask: Tensor
    loss: Tensor | None
    chosen: Tensor
    words: Tensor


@dataclass(frozen=True, eq=False)
class _Part:
    """The same on the host, to be sent."""

    step: int
    sample_ids: np.ndarray
    lengths: np.ndarray
    values: np.ndarray
    loss: float | None
    chosen: np.ndarray  # (N,) bool, which tokens were predicted
    words: np.ndarray  # their ids


@dataclass(frozen=True)
class SeenStep:
    """A step whose scores were written.

    Args:
        loss: of micro-batches the sum, over ranks the mean; None where it is not known.
        entropy: of the vocabulary ids among all that it predicted, nats; None of nothing.
    """

    step: int
    loss: float | None
    entropy: float | None


class ScoreQueue:
    """Collects the scores of batches, and gives them to a store.

    Args:
        store: of this rank, or of the first and read by the others.

    Attributes:
        coverage: is told which tokens the batches of all ranks predicted.
    """

    def __init__(self, store: ScoreStore) -> None:
        self.store = store
        self.coverage: Coverage | None = None
        self._waiting: list[_Waiting] = []

    def put(
        self,
        step: int,
        sample_ids: Tensor,
        scores: Tensor,
        mask: Tensor,
        loss: Tensor | None,
        chosen: Tensor,
        words: Tensor,
    ) -> None:
        """Scores ``(B, S)`` of a batch, with its mask: nothing is copied or waited for.

        Args:
            chosen: ``(B, S)`` bool, which tokens it predicts.
            words: labels of any shape, -100 where there is none.
        """
        self._waiting.append(_Waiting(step, sample_ids, scores, mask, loss, chosen, words))

    def drain(self, epoch: int) -> list[SeenStep]:
        """Write everything that waits; all ranks call it at the same step.

        Args:
            epoch: of all that waits: the queue is empty when an epoch ends.

        Returns:
            The steps, in order.
        """
        waiting, self._waiting = self._waiting, []
        ranks = of_all_ranks([_on_host(one) for one in waiting])
        if len({len(parts) for parts in ranks}) > 1:
            raise SampleIdError(
                f"The ranks trained on different numbers of batches ({[len(p) for p in ranks]}). "
                "Guided runs need dataloader_drop_last=True."
            )
        losses: dict[int, float] = {}
        words: dict[int, list[np.ndarray]] = {}
        for parts in zip(*ranks, strict=True):
            step = parts[0].step
            offsets = offsets_of(np.concatenate([part.lengths for part in parts]))
            ids = np.concatenate([part.sample_ids for part in parts])
            words.setdefault(step, []).extend(part.words for part in parts)
            if self.coverage is not None:
                chosen = np.concatenate([part.chosen for part in parts])
                self.coverage.see(ids, Ragged(chosen, offsets))
            if self.store.writable:
                values = np.concatenate([part.values for part in parts])
                self.store.update(ids, Ragged(values, offsets), step, epoch)
            known = [part.loss for part in parts if part.loss is not None]
            if known:
                losses[step] = losses.get(step, 0.0) + sum(known) / len(known)
        return [
            SeenStep(step, losses.get(step), _entropy(np.concatenate(words[step])))
            for step in sorted(words)
        ]

    def settle(self) -> None:
        """Wait until all ranks can read what was drained."""
        if self.store.writable:
            self.store.flush()
        barrier()

    def clear(self) -> None:
        """Forget what waits, of a run that was broken off."""
        self._waiting = []


def _on_host(one: _Waiting) -> _Part:
    mask = one.mask.cpu().numpy() != 0
    rows = Ragged.from_padded(one.scores.cpu().numpy(), mask)
    loss = None if one.loss is None else float(one.loss)
    chosen = Ragged.from_padded(one.chosen.cpu().numpy(), mask)
    words = one.words[one.words != IGNORE].cpu().numpy()
    ids = one.sample_ids.cpu().numpy()
    return _Part(one.step, ids, rows.lengths, rows.values, loss, chosen.values, words)


def _entropy(words: np.ndarray) -> float | None:
    if not len(words):
        return None
    shares = np.unique(words, return_counts=True)[1] / len(words)
    return float(np.abs(np.sum(shares * np.log(shares))))
