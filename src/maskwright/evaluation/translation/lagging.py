"""average_lagging: how far behind the speaker a simultaneous translator is, in source tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from maskwright.errors import DataError


def average_lagging(
    delays: Sequence[Sequence[int]] | Sequence[np.ndarray],
    source_lengths: Sequence[int] | np.ndarray,
    target_lengths: Sequence[int] | np.ndarray | None = None,
) -> np.ndarray:
    """Average lagging (AL) of each sentence; the mean over sentences is what is reported.

    ``AL = 1/τ Σ_{t=1}^{τ} g(t) − (t − 1)/r``, where ``g(t)`` is how many source tokens had been
    read when target token ``t`` was written, ``r = |y|/|x|``, and ``τ`` is the first ``t`` with
    ``g(t) = |x|``: what is written after all was read costs no more waiting. A translation that
    ends before all was read counts to its end. wait-k on equal lengths gives ``k``.

    Source: Ma et al. 2019 ("STACL", 1810.08398), section on average lagging.

    Args:
        delays: of each sentence ``g(1) … g(|y|)``; may not fall.
        source_lengths: ``|x|`` of each sentence.
        target_lengths: ``|y|`` of each; the number of its delays unless given. The length of a
            reference keeps a system from looking fast by writing too much.

    Returns:
        ``(n,)`` float64, in source tokens. A translation without any token has no delay: NaN.

    Raises:
        DataError: the three are not of the same sentences, a length is below 1, or delays fall or
            leave 0 … ``|x|``.

    >>> average_lagging([[2, 3, 4, 4]], [4])
    array([2.])
    """
    sources = np.asarray(source_lengths)
    targets = [len(row) for row in delays] if target_lengths is None else target_lengths
    targets = np.asarray(targets)
    if not len(delays) == len(sources) == len(targets):
        raise DataError(
            f"Delays of {len(delays)} sentences, with {len(sources)} source lengths and "
            f"{len(targets)} target lengths. Give one of each for every sentence."
        )
    return np.array(
        [
            _lagging(number, np.asarray(row, np.int64), int(source), int(target))
            for number, (row, source, target) in enumerate(
                zip(delays, sources, targets, strict=True)
            )
        ],
        np.float64,
    )


def _lagging(number: int, delays: np.ndarray, source: int, target: int) -> float:
    if not len(delays):
        return float("nan")
    if source < 1 or target < 1:
        raise DataError(
            f"Sentence {number} has {source} source and {target} target tokens; each must be at "
            "least 1."
        )
    if delays.min() < 0 or delays.max() > source or (np.diff(delays) < 0).any():
        raise DataError(
            f"The delays of sentence {number} are {delays.tolist()}: they count the source tokens "
            f"that had been read, so they run from 0 to its {source} and never fall."
        )
    all_read = np.flatnonzero(delays == source)
    last = int(all_read[0]) + 1 if len(all_read) else len(delays)
    return float((delays[:last] - np.arange(last) * source / target).mean())
