"""What a learned policy is told of one step: its masks and rewards, of all micro-batches and ranks.

Rows stand in the order of their sample ids. So what is learned of a step does not depend on how
its samples were shared out, up to the rounding of the rewards themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from maskwright.hf.guided.ranks import of_all_ranks
from maskwright.ragged import Ragged, offsets_of


@dataclass(frozen=True, eq=False)
class Look:
    """Masks that were drawn, and what they brought. B samples, N tokens in all.

    Args:
        sample_ids: ``(B,)``, each once.
        tokens: ``B`` rows.
        candidates: ``(N,)`` bool: what might have been drawn.
        chosen: ``(N,)`` bool: what was.
        rewards: ``(B,)`` float64; NaN where there is none.
        scores: rows of the tokens: what the policy read of them, where it reads any.
    """

    sample_ids: np.ndarray
    tokens: Ragged
    candidates: np.ndarray
    chosen: np.ndarray
    rewards: np.ndarray
    scores: Ragged | None


def of_step(own: Sequence[Look]) -> Look | None:
    """All looks of a step, of this rank and the others, as one; None where there are none."""
    looks = [look for looks in of_all_ranks(list(own)) for look in looks]
    if not looks:
        return None
    ids = np.concatenate([look.sample_ids for look in looks])
    order = np.argsort(ids, kind="stable")
    lengths = np.concatenate([look.tokens.lengths for look in looks])
    offsets = offsets_of(lengths)

    def sorted_rows(part: Callable[[Look], np.ndarray]) -> Ragged:
        return Ragged(np.concatenate([part(look) for look in looks]), offsets).take(order)

    def values_of_scores(look: Look) -> np.ndarray:
        assert look.scores is not None
        return look.scores.values

    return Look(
        ids[order],
        sorted_rows(lambda look: look.tokens.values),
        sorted_rows(lambda look: look.candidates).values,
        sorted_rows(lambda look: look.chosen).values,
        np.concatenate([look.rewards for look in looks])[order],
        None if looks[0].scores is None else sorted_rows(values_of_scores),
    )
