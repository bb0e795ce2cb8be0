"""What a guided run logs of its scores and its selection."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from maskwright.corruption.emit import IGNORE
from maskwright.guidance import ScoreStore
from maskwright.hf.guided.coverage import Coverage, looked_at


def measures_of(
    store: ScoreStore, step: int, labels: Tensor | None, coverage: Coverage | None
) -> dict[str, float]:
    """``scored`` and ``coverage`` (shares of tokens), ``age`` (steps), ``entropy`` (nats).

    Of up to 512 samples, spread evenly over the store.

    Args:
        labels: of the last batch, whose selection's entropy is taken.
    """
    ids = looked_at(store)
    ages = store.ages(ids, step)
    there = ~np.isnan(store.read(ids).values)  # samples that are not trained on may be empty
    found = {"scored": float(there.mean()) if len(there) else 0.0}
    if coverage is not None:
        found["coverage"] = coverage.share()
    if (ages >= 0).any():
        found["age"] = float(ages[ages >= 0].mean())
    if labels is not None:
        chosen = labels[labels != IGNORE]
        counts = torch.unique(chosen, return_counts=True)[1]
        found["entropy"] = float(torch.special.entr(counts / counts.sum()).sum())
    return found
