"""Which target tokens stand for which source tokens, and the marks that follow from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from maskwright.corruption.plan import Action, MaskPlan
from maskwright.errors import BatchError
from maskwright.ragged import Ragged


def hidden_in(plan: MaskPlan) -> np.ndarray:
    """Which source tokens a plan selected and does not show as they are, ``(N,)`` bool."""
    hidden = np.zeros(len(plan.batch.tokens.values), np.bool_)
    hidden[plan.positions[plan.actions != Action.KEEP]] = True
    return hidden


def target_marks(
    alignments: Sequence[Any], chosen: np.ndarray, source: Ragged, target: Ragged, ids: np.ndarray
) -> Ragged:
    """Marks of the target tokens that are aligned with chosen source tokens; int64.

    A target token has the number of the first of them, from 1 on, and 0 where it has none: so
    neighbours that stand for one source token are one span.

    Args:
        alignments: for each sample its links ``(source token, target token)``, counted from 0
            without padding.
        chosen: ``(N,)`` bool, of the source tokens.
        source, target: the tokens of both sides, ``B`` rows each.
        ids: ``(B,)`` sample ids, for errors.

    Raises:
        BatchError: links are no pairs of integers, or outside their sentences.
    """
    marks = np.zeros(len(target.values), np.int64)
    for row, links in enumerate(alignments):
        pairs = np.asarray(links)
        if not pairs.size:
            continue
        if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu":
            raise BatchError(
                f"Sample {ids[row]}: alignments are links (source token, target token), such as "
                f"[[0, 0], [1, 2]]; got {pairs.dtype} of shape {pairs.shape}."
            )
        limits = np.array([source.lengths[row], target.lengths[row]])
        outside = ((pairs < 0) | (pairs >= limits)).any(1)
        if outside.any():
            one, other = pairs[int(outside.argmax())].tolist()
            raise BatchError(
                f"Sample {ids[row]}: the link {one}-{other} of alignments is outside its "
                f"{limits[0]} source and {limits[1]} target tokens. They are counted from 0, in "
                "tokens and not in words, without padding."
            )
        pairs = pairs[np.lexsort((pairs[:, 0], pairs[:, 1]))]
        pairs = pairs[chosen[source.offsets[row] + pairs[:, 0]]]
        targets, first = np.unique(pairs[:, 1], return_index=True)
        marks[target.offsets[row] + targets] = pairs[first, 0] + 1
    return target.like(marks)
