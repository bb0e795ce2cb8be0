"""TokenBatch: one batch as a masking policy sees it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from maskwright.errors import BatchError, SampleIdError
from maskwright.ragged import Ragged


@dataclass(frozen=True, eq=False)
class TokenBatch:
    """Tokens, and what is known of them, aligned value by value.

    Args:
        tokens: ``B`` rows of token ids.
        sample_ids: ``(B,)`` int64, at least 0: which sample of the data set each row is. They
            key the randomness, so a mask follows its sample wherever the sample goes.
        word_starts: same rows as ``tokens``, 1 where a word begins; needed by policies that
            select whole words.
        protected: same rows as ``tokens``, 1 where nothing may be selected (prompts, positions
            whose label the user set to -100). Special tokens need not be listed: the
            vocabulary knows them.
        labels: same rows as ``tokens``: what to predict where it is not the token itself.
        marks: same rows as ``tokens``: a run of equal values that are not 0 is a span of interest
            (an entity, a date), which `Marked` selects among.
        scores: same rows as ``tokens``, floating point: how much is to be expected of masking each
            (the attention it received, its last loss), NaN where nothing is known yet; what guided
            selects go by.

    Raises:
        SampleIdError: the ids are missing, negative, or not one per row.
        BatchError: a field is not aligned with the tokens, or the scores are no floats.
    """

    tokens: Ragged
    sample_ids: np.ndarray
    word_starts: Ragged | None = None
    protected: Ragged | None = None
    labels: Ragged | None = None
    marks: Ragged | None = None
    scores: Ragged | None = None

    def __post_init__(self) -> None:
        ids = np.asarray(self.sample_ids)
        if ids.shape != (len(self.tokens),) or ids.dtype.kind not in "iu":
            raise SampleIdError(
                f"sample_ids must be {len(self.tokens)} integers, one per row; got "
                f"{ids.dtype} of shape {ids.shape}."
            )
        if len(ids) and ids.min() < 0:
            raise SampleIdError(f"sample_ids must be at least 0, got {ids.min()}.")
        object.__setattr__(self, "sample_ids", ids.astype(np.int64))
        for name in ("word_starts", "protected", "labels", "marks", "scores"):
            other: Ragged | None = getattr(self, name)
            if other is not None and not np.array_equal(other.offsets, self.tokens.offsets):
                raise BatchError(
                    f"{name} must have the rows of tokens (lengths {self.tokens.lengths}), "
                    f"got lengths {other.lengths}."
                )
        if self.scores is not None and self.scores.values.dtype.kind != "f":
            raise BatchError(
                f"scores must be floats, NaN where a token has none; got "
                f"{self.scores.values.dtype}. Convert them: scores.astype(np.float32)."
            )

    def __len__(self) -> int:
        return len(self.tokens)
