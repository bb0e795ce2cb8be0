"""What the kernels of words, spans and phrases compute, said slowly. Tests compare; nothing
imports it.

Everything is for one sample: ``tokens`` are its places 0, 1, …, and a key is of `key_of`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

from maskwright import randomness

Part = list[int]  # places of one unit


def key_of(run_key: int, sample_id: int, purpose: int) -> int:
    """`randomness.sample_keys`, for one sample."""
    return randomness.absorb(randomness.absorb(run_key, sample_id), purpose)


def below(key: int, counter: int, many: int) -> int:
    """A uniform integer below ``many``."""
    return ((randomness.draw(key, counter) >> 32) * many) >> 32


def budget(rate: float, many: int, run_key: int, sample_id: int, at_least: int) -> int:
    """`selection.budgets`, for one sample."""
    u = randomness.draw(key_of(run_key, sample_id, randomness.ROUND), 0) >> 11
    return min(many, max(math.floor(rate * many + float(Fraction(u, 1 << 53))), at_least))


def units(allowed: Sequence[bool], begins: Sequence[bool]) -> list[Part]:
    """Runs of allowed places, cut where a unit begins."""
    parts: list[Part] = []
    for place, fine in enumerate(allowed):
        if not fine:
            continue
        if begins[place] or not parts or parts[-1][-1] != place - 1:
            parts.append([])
        parts[-1].append(place)
    return parts


def independent(parts: list[Part], key: int, low: float, high: float) -> list[Part]:
    """Units whose first place has ``low <= u < high``."""
    lowest, highest = randomness.threshold(low), randomness.threshold(high)
    return [part for part in parts if lowest <= randomness.draw(key, part[0]) >> 11 < highest]


def fitting(parts: list[Part], key: int, wanted: int, at_least: int) -> list[Part]:
    """Units in the order of their draws, each that still fits."""
    order = sorted(parts, key=lambda part: randomness.draw(key, part[0]))
    chosen: list[Part] = []
    for part in order:
        if sum(map(len, chosen)) + len(part) <= wanted:
            chosen.append(part)
    if not chosen and wanted and at_least:
        chosen = order[:1]
    return sorted(chosen)


def turn(parts: list[Part], key: int, first: int, last: int) -> list[Part]:
    """Units in the order of their draws whose middle token is from ``first`` to ``last``."""
    chosen, before = [], 0
    for part in sorted(parts, key=lambda part: randomness.draw(key, part[0])):
        if first <= before + len(part) // 2 < last:
            chosen.append(part)
        before += len(part)
    return sorted(chosen)


def spans(
    parts: list[Part], lengths: int, starts: int, limits: Sequence[int], wanted: int, at_least: int
) -> tuple[list[Part], list[int]]:
    """Spans of drawn lengths at drawn starts, and the places of the empty ones.

    Args:
        parts: what lengths count.
        lengths, starts: the keys of either draw.
        limits: of `Lengths.limits`.
    """
    taken: dict[int, int] = {}  # unit -> span
    chosen: list[list[int]] = []
    left, drawn, tried, empty = wanted, 0, 0, 0
    most = 64 + 16 * len(parts)
    while left > 0 and tried < most and drawn < most:
        u = randomness.draw(lengths, drawn) >> 11
        drawn += 1
        length = next(n for n, limit in enumerate(limits) if u < limit)
        if length == 0:
            empty = min(empty + 1, len(parts))
            continue
        misses = 0
        while tried < most:
            first = below(starts, tried, len(parts))
            tried += 1
            span: list[int] = []
            obstacle = False
            for unit in range(first, first + length):
                obstacle = unit >= len(parts) or unit in taken
                if span and not obstacle:
                    obstacle = parts[unit][0] != parts[unit - 1][-1] + 1
                if obstacle or sum(len(parts[i]) for i in [*span, unit]) > left:
                    break
                span.append(unit)
            if not span or (obstacle and misses < 16):
                misses += 1
                continue
            taken |= dict.fromkeys(span, len(chosen))
            chosen.append(span)
            left -= sum(len(parts[i]) for i in span)
            break
    if not chosen and at_least and wanted:
        first = below(starts, 0, len(parts))
        taken[first] = 0
        chosen.append([first])
    inserts = []
    for _ in range(empty):
        offered = [below(starts, tried + i, len(parts)) for i in range(17)]
        number = next((i for i, unit in enumerate(offered) if unit not in taken), 16)
        tried += number + 1
        inserts.append(parts[offered[number]][0])
    return [[p for unit in span for p in parts[unit]] for span in sorted(chosen)], sorted(inserts)


def composition(key: int, items: int, parts: int) -> list[int]:
    """The lengths of ``parts`` parts of ``items``: cut after the items of smallest draws."""
    gaps = sorted(range(items - 1), key=lambda gap: randomness.draw(key, gap))[: parts - 1]
    edges = [0, *(gap + 1 for gap in sorted(gaps)), items]
    return [after - before for before, after in pairwise(edges)]


def noise_spans(
    places: list[int], rate: float, mean: float, noise_key: int, other_key: int
) -> list[Part]:
    """T5's spans over the allowed places, cut where these are not neighbours."""
    if len(places) < 2 or rate == 0:
        return []
    noise = min(max(round(len(places) * rate), 1), len(places) - 1)
    other = len(places) - noise
    parts = min(max(round(noise / mean), 1), noise, other)
    chosen: list[Part] = []
    item = 0
    for quiet, noisy in zip(
        composition(other_key, other, parts), composition(noise_key, noise, parts), strict=True
    ):
        item += quiet
        for i in range(item, item + noisy):
            if i == item or places[i] != places[i - 1] + 1:
                chosen.append([])
            chosen[-1].append(places[i])
        item += noisy
    return chosen


def word_hash(ids: Sequence[int]) -> int:
    """The hash of a word, of its ids; and that of a run of words, of their hashes."""
    word = 0
    for token in ids:
        word = randomness.absorb(word, token)
    return word


def join(parts: list[Part], tokens: Sequence[int], known: set[int], longest: int) -> list[Part]:
    """Units joined to known phrases, the longest first, from the left."""
    out: list[Part] = []
    unit = 0
    while unit < len(parts):
        size = 1
        for length in range(2, min(longest, len(parts) - unit) + 1):
            run = parts[unit : unit + length]
            places = [place for part in run for place in part]
            if places != list(range(places[0], places[-1] + 1)):
                break
            if word_hash([word_hash([tokens[place] for place in part]) for part in run]) in known:
                size = length
        out.append([place for part in parts[unit : unit + size] for place in part])
        unit += size
    return out
