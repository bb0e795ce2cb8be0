"""What the guided selects compute, said slowly. Tests compare; nothing imports it.

Each function takes one `Sample` of `reference_structure` and its scores, and gives the positions.
"""

from __future__ import annotations

import math
from fractions import Fraction

from maskwright import randomness
from maskwright.corruption.reference_structure import Sample


def is_above(scores: list[float], threshold: float, normalise: str) -> list[bool]:
    """Which mean ranks from 0 to 1, standard scores or scores are above the threshold."""
    many = len(scores)
    if normalise == "rank":
        below = [sum(other < score for other in scores) for score in scores]
        equal = [scores.count(score) for score in scores]
        ranks = [b + 0.5 * (e - 1) for b, e in zip(below, equal, strict=True)]
        return [r > threshold * (many - 1) if many > 1 else threshold < 0.5 for r in ranks]
    if normalise == "z" and many:
        exact = [Fraction(score) for score in scores]
        mean = sum(exact) / many
        deviation = math.sqrt(sum((score - mean) ** 2 for score in exact) / many)
        scores = [float(score - mean) / deviation if deviation else 0.0 for score in exact]
    return [score > threshold for score in scores]


def above(sample: Sample, scores: list[float], threshold: float, normalise: str) -> list[int]:
    """The rule, at independent draws: ``score > threshold and u < rate``."""
    known = [p for p in sample.allowed if not math.isnan(scores[p])]
    high = is_above([scores[p] for p in known], threshold, normalise)
    limit = randomness.threshold(sample.high)
    return [
        position
        for position, is_high in zip(known, high, strict=True)
        if is_high and sample.u(position) >> 11 < limit
    ]


def weighted(
    sample: Sample, scores: list[float], temperature: float, end: str, chance: float,
    floor: float, hints: float,
) -> list[int]:  # fmt: skip
    """Hints out, some by chance, the rest by the largest ``u ** (1 / weight)``, in logarithms."""
    left = [p for p in sample.allowed if not math.isnan(scores[p])]
    many = len(left)
    rounding = (sample.u(0, randomness.ROUND) >> 11) * 2.0**-53
    wanted = max(math.floor(sample.high * many + rounding), sample.draw.at_least)
    share = max(chance * sample.high, floor)
    by_chance = math.floor(share * many + rounding) if share else 0
    kept = sorted(left, key=lambda p: (-scores[p], sample.u(p, randomness.HINTS) >> 11, p))
    kept = kept[: math.floor(hints * many)]
    left = [p for p in left if p not in kept]
    wanted = min(wanted, len(left))
    found = []
    for number in range(min(by_chance, wanted)):
        u = sample.u(number, randomness.CHANCE) >> 32
        which = (u * len(left)) >> 32
        found.append(left[which])
        # as a shuffle does: what was at its front takes the free place
        left[which] = left[0]
        del left[0]
    sign = 1 if end == "low" else -1

    def key(p: int) -> tuple[float, float, int]:
        u = ((sample.u(p) >> 12) + 0.5) * 2.0**-52
        gumbel = math.log(-math.log(u))
        if temperature == 0:
            return sign * scores[p], gumbel, p
        if scores[p] < 2.2250738585072014e-308:
            return -sign * math.inf, gumbel, p
        return gumbel + sign * math.log(scores[p]) / temperature, gumbel, p

    return sorted(found + sorted(left, key=key)[: wanted - len(found)])


def inclusion(weights: list[float], many: int) -> list[float]:
    """The exact probability of each to be among ``many`` drawn one after another by weight."""
    if many == 0:
        return [0.0] * len(weights)
    total, out = sum(weights), [0.0] * len(weights)
    for first, weight in enumerate(weights):
        rest = inclusion([0 if i == first else w for i, w in enumerate(weights)], many - 1)
        for i, probability in enumerate(rest):
            out[i] += weight / total * (1.0 if i == first else probability)
    return out
