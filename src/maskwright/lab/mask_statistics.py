"""What the masks of a run were like: how varied, how changed since the last visit, how scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from maskwright.corruption.emit import IGNORE
from maskwright.guidance import ScoreStore
from maskwright.hf.guided.observer import BatchObserver, SeenBatch
from maskwright.ragged import Ragged
from maskwright.vocabulary import Vocabulary

FILE = "masks.npz"
_SUMS = ("overlap", "visits", "selected", "maskable", "score", "scored", "score_all", "scored_all")
_KEPT = ("last", "visited", "sums", "counts", "logged")


class MaskStatistics(BatchObserver):
    """Counts over the batches between two points of a learning curve.

    Args:
        ids: ``(n,)`` sample ids of the run, which its batches bring.
        tokens: their rows.
        vocabulary: which tokens are maskable.
        store: the scores that masks go by; None for a policy that goes by none.
    """

    def __init__(
        self,
        ids: np.ndarray,
        tokens: Ragged,
        vocabulary: Vocabulary,
        store: ScoreStore | None = None,
    ) -> None:
        order = np.argsort(ids)
        tokens = tokens.take(order)
        self.ids, self.offsets = np.asarray(ids)[order], tokens.offsets
        self.maskable = vocabulary.maskable[tokens.values]
        self.store = store
        self.last = np.zeros(len(tokens.values), np.bool_)  # what the last visit selected
        self.visited = np.zeros(len(self.ids), np.bool_)
        self.sums = np.zeros(len(_SUMS))
        self.counts = np.zeros(vocabulary.size, np.int64)  # of selected tokens, by vocabulary id
        self.logged = np.zeros(2)  # selected and maskable, since the last line of the log

    def observe(self, seen: SeenBatch) -> None:
        """Takes a batch whose labels stand at their own tokens."""
        ids = seen.sample_ids.cpu().numpy()
        mask = seen.attention_mask.cpu().numpy() != 0
        labels = Ragged.from_padded(seen.labels.cpu().numpy(), mask)
        chosen = labels.values != IGNORE
        self.counts += np.bincount(labels.values[chosen], minlength=len(self.counts))
        rows = np.searchsorted(self.ids, ids)
        index = np.repeat(self.offsets[rows] - labels.offsets[:-1], labels.lengths)
        index += np.arange(len(index))
        allowed = self.maskable[index]
        known, overlap = self._overlaps(rows, index, labels, chosen)
        counted = [overlap, known, chosen.sum(), allowed.sum()]
        self.logged += counted[2:]
        self.sums += [*counted, *self._scores(ids, chosen, allowed)]
        self.last[index] = chosen
        self.visited[rows] = True

    def _overlaps(
        self, rows: np.ndarray, index: np.ndarray, labels: Ragged, chosen: np.ndarray
    ) -> tuple[int, float]:
        """Samples with a visit before, and the sum of their Jaccard overlaps with it."""
        before = self.last[index]

        def many(which: np.ndarray) -> np.ndarray:
            return np.bincount(labels.rows[which], minlength=len(labels))

        both, either = many(before & chosen), many(before | chosen)
        known = self.visited[rows] & (either > 0)
        return int(known.sum()), float((both[known] / either[known]).sum())

    def _scores(
        self, ids: np.ndarray, chosen: np.ndarray, allowed: np.ndarray
    ) -> tuple[float, int, float, int]:
        """Sum and number of the scores that the selected tokens had, and of all maskable ones."""
        if self.store is None:
            return 0.0, 0, 0.0, 0
        scores = self.store.read(ids).values  # of the visit before: this step's come after it
        there = allowed & ~np.isnan(scores)
        own = there & chosen
        return scores[own].sum(), own.sum(), scores[there].sum(), there.sum()

    def rate(self) -> float | None:
        """The share of maskable tokens selected since the last call."""
        (selected, maskable), self.logged = self.logged, np.zeros(2)
        return float(selected / maskable) if maskable else None

    def take(self, step: int) -> dict[str, float | None]:
        """The figures since the last call; None where there is nothing to count.

        ``overlap``: mean Jaccard overlap of a sample's selected tokens with those of its previous
        visit. ``entropy``: of the vocabulary ids among selected tokens, nats. ``score`` and
        ``score_all``: mean score of selected and of all maskable tokens, as the masks went by it.
        ``scored`` and ``age``: at this step, the share of maskable tokens with a score and the mean
        age of samples in steps.
        """
        sums = dict(zip(_SUMS, self.sums.tolist(), strict=True))
        counts = self.counts[self.counts > 0]
        shares = counts / counts.sum()
        found: dict[str, float | None] = {
            "overlap": _mean(sums["overlap"], sums["visits"]),
            "entropy": float(-(shares * np.log(shares)).sum()) if len(counts) else None,
        }
        if self.store is not None:
            ages = self.store.ages(self.ids, step)
            there = ~np.isnan(self.store.read(self.ids).values[self.maskable])
            found |= {
                "score": _mean(sums["score"], sums["scored"]),
                "score_all": _mean(sums["score_all"], sums["scored_all"]),
                "scored": float(there.mean()),
                "age": float(ages[ages >= 0].mean()) if (ages >= 0).any() else None,
            }
        self.sums[:], self.counts[:] = 0, 0
        return found

    def save(self, checkpoint: Path) -> None:
        np.savez(checkpoint / FILE, allow_pickle=False, **{k: getattr(self, k) for k in _KEPT})

    def restore(self, checkpoint: Path) -> None:
        with np.load(checkpoint / FILE, allow_pickle=False) as file:
            for name in _KEPT:
                setattr(self, name, file[name])


def statistics_of(
    subset: Any, vocabulary: Vocabulary, store: ScoreStore | None = None
) -> MaskStatistics:
    """For a run on a `Subset` of a token table."""
    tokens = subset.batch(np.arange(len(subset))).tokens
    return MaskStatistics(np.asarray(subset.ids), tokens, vocabulary, store)


def _mean(total: float, many: float) -> float | None:
    return total / many if many else None
