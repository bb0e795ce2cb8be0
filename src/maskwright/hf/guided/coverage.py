"""How much of the text guidance has asked about: which tokens were predicted at least once."""

from __future__ import annotations

from typing import Any

import numpy as np

from maskwright.guidance import ScoreStore
from maskwright.ragged import Ragged, offsets_of

_LOOKED_AT = 512


def looked_at(store: ScoreStore) -> np.ndarray:
    """Sample ids that logged numbers are of: up to 512, spread evenly over the store."""
    return np.unique(np.linspace(0, len(store) - 1, min(len(store), _LOOKED_AT)).astype(int))


class Coverage:
    """Which tokens of some samples were predicted since the run began.

    Args:
        store: whose samples are looked at, and how long they are.

    Attributes:
        predicted: ``(N,)`` bool, their tokens.
    """

    def __init__(self, store: ScoreStore) -> None:
        self._ids = looked_at(store) if len(store) else np.empty(0, int)
        self._offsets = offsets_of(store.read(self._ids).lengths)
        self.predicted = np.zeros(self._offsets[-1], np.bool_)

    def see(self, sample_ids: np.ndarray, chosen: Ragged) -> None:
        """Take a batch: which tokens of its samples were predicted."""
        places = np.searchsorted(self._ids, sample_ids)
        for row, (sample, place) in enumerate(zip(sample_ids, places, strict=True)):
            if place < len(self._ids) and self._ids[place] == sample:
                self.predicted[self._offsets[place] : self._offsets[place + 1]] |= chosen[row] != 0

    def share(self) -> float:
        """Of their tokens, special tokens included, from 0 to 1."""
        return float(self.predicted.mean()) if len(self.predicted) else 0.0

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"covered": np.packbits(self.predicted).tobytes().hex()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint; one of an older version begins anew."""
        bits = np.frombuffer(bytes.fromhex(state.get("covered", "")), np.uint8)
        found = np.unpackbits(bits, count=len(self.predicted)).astype(np.bool_)
        self.predicted[: len(found)] = found
