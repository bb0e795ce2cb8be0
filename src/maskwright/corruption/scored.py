"""Guided selects: tokens by their scores, above a threshold or by weight.

Scores are numbers in the batch (`TokenBatch.scores`): the attention that a token received, its last
loss, what a corpus says of it. Where they come from is no matter of this room. A token whose score
is NaN has none, and is never selected here; `Cautious` draws such tokens by chance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from maskwright import randomness
from maskwright.batch import TokenBatch
from maskwright.corruption.select import Select, Tokens
from maskwright.corruption.selection import Draw, Selection
from maskwright.corruption.structure import require_one_turn
from maskwright.errors import BatchError, PolicyError, unknown
from maskwright.schedule import Constant, Schedule, value_at
from maskwright.vocabulary import Vocabulary

Normalise = Literal["rank", "z", "none"]
End = Literal["high", "low"]


@dataclass(frozen=True)
class Above(Select):
    """The rule of guided masking: position ``i`` where ``score_i > threshold and u_i < rate``.

    ``u_i`` is the draw that `Tokens` compares with the rate, so this is `Tokens` among those above
    the threshold: ``Above(0.7)`` at ``rate=0.5`` selects about half of the highest 30% of a
    sample. The probability of the rule is the policy's rate, a number or a schedule. With ``exact``
    the budget is ``rate`` times the sample's tokens above the threshold. For a floor under every
    token's chance, whatever its score: ``Above(0.7) | Tokens().at(0.02)``. Without normalisation
    and with independent draws, `mask_on_device` does the same on a GPU.

    Args:
        threshold: a number, or a schedule of it.
        normalise: what is compared with it, within each sample over its maskable tokens that have
            a score: ``"rank"``, from 0 (lowest) to 1 (highest), equal scores at the mean of their
            ranks, a single token at 0.5; ``"z"``, standard scores (0 where all are equal); or
            ``"none"``, the scores as they are.

    Raises:
        PolicyError: the threshold is no number, or not from 0 to 1 for ranks.
        BatchError: when called: the batch has no scores, or one is infinite and has no standard
            score.
    """

    threshold: float | Schedule
    normalise: Normalise = "rank"

    @property
    def reads_scores(self) -> bool:
        return True

    def __post_init__(self) -> None:
        if self.normalise not in ("rank", "z", "none"):
            raise PolicyError(unknown("normalise of Above", self.normalise, ["rank", "z", "none"]))
        threshold = self.threshold
        if isinstance(threshold, Constant):
            threshold = threshold.value
        if not isinstance(threshold, Schedule):
            self._check(threshold)

    def _check(self, threshold: object) -> float:
        ranks = self.normalise == "rank"
        low, high = (0.0, 1.0) if ranks else (-math.inf, math.inf)
        if isinstance(threshold, int | float) and low <= threshold <= high:
            return threshold
        rule = "from 0 to 1 for ranks" if ranks else "a number"
        raise PolicyError(
            f"Above: the threshold must be {rule}, got {threshold!r}. Scores are compared as they "
            'are with normalise="none".'
        )

    def __call__(self, batch: TokenBatch, vocabulary: Vocabulary, draw: Draw) -> Selection:
        from maskwright.corruption import kernels, scored_kernels

        require_one_turn(draw, self)
        scores = scores_of(batch, self)
        threshold = self._check(value_at(self.threshold, draw.clock))
        tokens, guarded = batch.tokens, batch.protected
        hidden = np.empty(len(scores), np.bool_)
        if self.normalise == "none":
            # in the type of the scores, as a GPU compares; nothing is above NaN
            np.logical_not(scores > threshold, out=hidden)
            if guarded is not None:
                hidden |= guarded.values != 0
        else:
            row = scored_kernels.hide_below(
                tokens.values, tokens.offsets, vocabulary.maskable,
                kernels.NOTHING if guarded is None else guarded.values,
                scores.astype(np.float64, copy=False), np.full(len(batch), float(threshold)),
                self.normalise == "z", hidden,
            )  # fmt: skip
            if row >= 0:
                raise BatchError(
                    f"{self}: sample {batch.sample_ids[row]} has an infinite score, so it has no "
                    'deviation to measure by. Use finite scores, or normalise="rank".'
                )
        return Tokens()(
            replace(batch, protected=tokens.like(hidden.view(np.uint8))), vocabulary, draw
        )

    def __str__(self) -> str:
        name = {"rank": "rank", "z": "standard score", "none": "score"}[self.normalise]
        return f"tokens of {name} above {self.threshold}"


@dataclass(frozen=True)
class Weighted(Select):
    """An exact number of tokens, drawn without replacement with weights ``score ** (1 / T)``.

    The number is ``rate`` times the sample's ``m`` candidates, its maskable tokens that have a
    score, rounded up or down by chance (with ``exact`` or without). One after another they are
    drawn with probabilities in proportion to the weights of those that are left: successive
    sampling, by the keys ``u ** (1 / weight)`` of Efraimidis and Spirakis, "Weighted random
    sampling with a reservoir", Information Processing Letters 97 (2006). A score of 0 has no
    weight, and is drawn when nothing else is left (first, at the low end).

    Guided masks that always fall on the same tokens teach nothing of the others. So a share of the
    candidates is drawn uniformly before: ``p = max(chance * rate, floor)`` of them, within the
    number above. Every candidate is then selected with a probability of at least ``p`` at each
    visit, whatever its score and that of the others; but hints are never selected.

    Args:
        temperature: ``T``, at least 0. At 1 weights are scores; at 0 the highest are taken, equal
            ones by chance (AttMask-High, 2203.12719); a high one comes near to chance.
        end: "high", or "low": weights ``score ** (-1 / T)``.
        chance: share of the number that is drawn uniformly.
        floor: the same as a probability of each token, at most the rate.
        hints: share of the candidates, rounded down, with the highest scores that is never
            selected. AttMask-Hint (2203.12719) shows a part of the most attended tokens that is
            drawn by chance; here they are the very highest.

    Raises:
        PolicyError: a setting is outside its rule; when called: the floor is above the rate.
        BatchError: when called: the batch has no scores, or one of them is negative or infinite.
    """

    temperature: float = 1.0
    end: End = "high"
    chance: float = 0.0
    floor: float = 0.0
    hints: float = 0.0

    @property
    def reads_scores(self) -> bool:
        return True

    def __post_init__(self) -> None:
        if self.end not in ("high", "low"):
            raise PolicyError(unknown("end of Weighted", self.end, ["high", "low"]))
        if not 0 <= self.temperature < math.inf:
            raise PolicyError(
                "Weighted: temperature must be a finite number, at least 0 (0: the highest are "
                f"taken); got {self.temperature!r}."
            )
        for name in ("chance", "floor", "hints"):
            if not 0 <= getattr(self, name) <= 1:
                raise PolicyError(
                    f"Weighted: {name} is a share from 0 to 1, got {getattr(self, name)!r}."
                )

    def __call__(self, batch: TokenBatch, vocabulary: Vocabulary, draw: Draw) -> Selection:
        from maskwright.corruption import kernels, scored_kernels

        require_one_turn(draw, self)
        scores = scores_of(batch, self)
        rates, tokens = draw.rates, batch.tokens
        if (rates < self.floor).any():
            raise PolicyError(
                f"Weighted: floor={self.floor} cannot be the least probability of a token at a "
                f"rate of {rates.min():g}. Set it to the lowest rate or less, or use chance=…, a "
                "share of the rate."
            )
        out = np.empty(len(scores), np.int64)
        count = scored_kernels.take_weighted(
            tokens.values, tokens.offsets, vocabulary.maskable,
            kernels.NOTHING if batch.protected is None else batch.protected.values,
            scores.astype(np.float64, copy=False), draw.keys(batch, randomness.SELECT),
            draw.keys(batch, randomness.CHANCE), draw.keys(batch, randomness.HINTS),
            draw.uniforms(batch, randomness.ROUND), rates,
            np.maximum(self.chance * rates, self.floor), draw.at_least, float(self.hints),
            float(self.temperature), self.end == "low", out,
        )  # fmt: skip
        if count < 0:
            row = -1 - count
            own = batch.scores[row] if batch.scores is not None else scores
            raise BatchError(
                f"{self}: scores are weights, finite and at least 0 (or NaN); sample "
                f"{batch.sample_ids[row]} has scores from {np.nanmin(own):g} to "
                f"{np.nanmax(own):g}. Give others, or select by rank: Above(threshold)."
            )
        return Selection(out[:count])

    def __str__(self) -> str:
        parts = [f"tokens weighted by {self.end} scores"]
        if self.temperature != 1:
            parts.append(f"temperature {self.temperature:g}")
        shares = ("chance", "floor", "hints")
        parts += [f"{name} {getattr(self, name):g}" for name in shares if getattr(self, name)]
        return ", ".join(parts)


def scores_of(batch: TokenBatch, select: Select) -> np.ndarray:
    """The scores of a batch, ``(N,)``.

    Raises:
        BatchError: it has none.
    """
    if batch.scores is None:
        raise BatchError(
            f"The select {select} goes by scores, but the batch has none. Give them: "
            "MaskingCollator(…, scores=store) or a column scores of each sample; or let tokens "
            "without a score be drawn by chance: Cautious(select)."
        )
    return batch.scores.values
