"""What the sparse and structural selects compute, said slowly. Tests compare; nothing imports it.

Each function takes one `Sample` and gives its units: lists of positions in the sample.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from math import floor

from maskwright import randomness
from maskwright.batch import TokenBatch
from maskwright.corruption.selection import Draw
from maskwright.vocabulary import Vocabulary

Units = list[list[int]]


@dataclass(frozen=True)
class Sample:
    """One sample, and how it is drawn."""

    tokens: list[int]
    allowed: list[int]
    special: list[bool]
    words: list[int] | None
    marks: list[int] | None
    sample_id: int
    low: float
    high: float
    draw: Draw

    def key(self, purpose: int) -> int:
        run_key = self.draw.run_key
        return randomness.absorb(randomness.absorb(run_key, self.sample_id), purpose)

    def u(self, counter: int, purpose: int = randomness.SELECT) -> int:
        return randomness.draw(self.key(purpose), counter)

    def budget(self, many: int) -> int:
        u = (self.u(0, randomness.ROUND) >> 11) * 2.0**-53
        wanted = floor((self.high - self.low) * many + u)
        return min(max(wanted, self.draw.at_least), many)

    def turn(self, many: int) -> tuple[int, int]:
        u = (self.u(0, randomness.ROUND) >> 11) * 2.0**-53
        first, last = (
            min(many, max(floor(bound * many + u), self.draw.at_least))
            for bound in (self.low, self.high)
        )
        return (first if self.low else 0), last


def samples(batch: TokenBatch, vocabulary: Vocabulary, draw: Draw) -> list[Sample]:
    """The samples of a batch."""
    out = []
    for row, sample_id in enumerate(batch.sample_ids.tolist()):
        tokens = batch.tokens[row].tolist()
        special = [token in vocabulary.special_ids for token in tokens]
        guarded = batch.protected[row].tolist() if batch.protected else [0] * len(tokens)
        allowed = [p for p in range(len(tokens)) if not special[p] and not guarded[p]]
        words = batch.word_starts[row].tolist() if batch.word_starts else None
        marks = batch.marks[row].tolist() if batch.marks else None
        low, high = float(draw.low[row]), float(draw.high[row])
        out.append(Sample(tokens, allowed, special, words, marks, sample_id, low, high, draw))
    return out


def every_nth(sample: Sample, n: int) -> Units:
    phase = ((sample.u(0, randomness.START) >> 32) * n >> 32) + round(sample.low * n)
    phase %= n
    if sample.draw.at_least and 0 < len(sample.allowed) <= phase:
        phase %= len(sample.allowed)
    return [[p] for p in sample.allowed[phase::n]]


def min_distance(sample: Sample, distance: int) -> Units:
    taken: list[int] = []
    for p in sorted(sample.allowed, key=lambda p: (sample.u(p), p)):
        room = len(taken) < sample.budget(len(sample.allowed))
        if room and all(abs(p - other) >= distance for other in taken):
            taken.append(p)
    return [[p] for p in sorted(taken)]


def stratified(sample: Sample) -> Units:
    m = len(sample.allowed)
    k = sample.budget(m)
    units = []
    for j in range(k):
        part = sample.allowed[j * m // k : (j + 1) * m // k]
        units.append([part[(sample.u(j) >> 32) * len(part) >> 32]])
    return units


def edge(sample: Sample, last: bool) -> Units:
    m = len(sample.allowed)
    k = sample.budget(m)
    return pieces([sample.allowed[m - k :] if last else sample.allowed[:k]])


def sentence_list(sample: Sample, ends: tuple[int, ...], *, all_tokens: bool = False) -> Units:
    """Each sentence, as its maskable tokens."""
    groups: Units = [[]]
    for p, token in enumerate(sample.tokens):
        if p:
            before = sample.tokens[p - 1]
            if sample.special[p - 1] or (before in ends and token not in ends):
                groups.append([])
        if p in sample.allowed:
            groups[-1].append(p)
    return [group for group in groups if group]


def sentences(sample: Sample, ends: tuple[int, ...]) -> Units:
    return choose(sample, sentence_list(sample, ends), len(sample.allowed))


def marked(sample: Sample) -> Units:
    assert sample.marks is not None
    groups: Units = []
    for p, value in enumerate(sample.marks):
        if p == 0 or value != sample.marks[p - 1]:
            groups.append([])
        if value and p in sample.allowed:
            groups[-1].append(p)
    return choose(sample, [group for group in groups if group], sum(map(len, groups)))


def recurring(sample: Sample, longest: int, shortest: int) -> Units:
    free = set(sample.allowed)
    candidates: Units = []
    for n in range(longest, shortest - 1, -1):
        found = defaultdict(list)
        for i in range(len(sample.tokens) - n + 1):
            if not all(p in free for p in range(i, i + n)):
                continue
            if sample.words is not None:
                goes_on = i + n in sample.allowed and not sample.words[i + n]
                if not sample.words[i] or goes_on:
                    continue
            found[tuple(sample.tokens[i : i + n])].append(i)
        starts = sorted(i for places in found.values() if len(places) > 1 for i in places)
        taken: list[int] = []
        for i in starts:
            if not taken or i >= taken[-1] + n:
                taken.append(i)
        clusters = defaultdict(list)
        for i in taken:
            clusters[tuple(sample.tokens[i : i + n])].append(i)
        for places in clusters.values():
            if len(places) < 2:
                continue
            stays = min(places, key=lambda i: (sample.u(i, randomness.START), i))
            for i in places:
                free.difference_update(range(i, i + n))
                if i != stays:
                    candidates.append(list(range(i, i + n)))
    return choose(sample, sorted(candidates), len(sample.allowed), budget=True)


def sliding(sample: Sample, size: int, stride: int, epoch: int) -> Units:
    length = len(sample.tokens)
    inside = {(epoch * stride + i) % length for i in range(size)} if length else set()
    return [[p] for p in sample.allowed if p in inside]


def gaps(sample: Sample) -> list[int]:
    """The places before which something is put."""
    allowed = sample.allowed
    places = [p for p in range(len(sample.tokens)) if p in allowed or p - 1 in allowed]
    if not sample.draw.exact:
        low, high = randomness.threshold(sample.low), randomness.threshold(sample.high)
        return [p for p in places if low <= sample.u(p) >> 11 < high]
    first, last = sample.turn(len(places))
    return sorted(sorted(places, key=sample.u)[first:last])


def choose(sample: Sample, units: Units, many: int, *, budget: bool = False) -> Units:
    """Draws among units."""
    if not sample.draw.exact and not budget:
        low, high = randomness.threshold(sample.low), randomness.threshold(sample.high)
        return pieces([unit for unit in units if low <= sample.u(unit[0]) >> 11 < high])
    order = sorted(units, key=lambda unit: (sample.u(unit[0]), unit[0]))
    taken: Units = []
    if sample.draw.covering and not budget:
        first, last = sample.turn(many)
        before = 0
        for unit in order:
            if first <= before + len(unit) // 2 < last:
                taken.append(unit)
            before += len(unit)
        return pieces(sorted(taken))
    left = sample.budget(many)
    for unit in order:
        if len(unit) <= left:
            taken.append(unit)
            left -= len(unit)
    if not taken and sample.draw.at_least:
        taken = order[:1]
    return pieces(sorted(taken))


def pieces(units: Units) -> Units:
    """The units, each cut where it misses a token."""
    out: Units = []
    for unit in units:
        for i, p in enumerate(unit):
            if i == 0 or p != unit[i - 1] + 1:
                out.append([])
            out[-1].append(p)
    return out


# -- arrangements: the order in which the positions of a sample are read ---------------------


def stretches(sample: Sample) -> Units:
    return pieces([sample.allowed])


def shuffle_sentences(sample: Sample, ends: tuple[int, ...]) -> list[int]:
    sentence = sentence_list(sample, ends)

    def blocks(stretch: list[int]) -> Units:
        parts = pieces([[p for p in group if p in stretch] for group in sentence])
        return sorted(parts, key=lambda part: sample.u(part[0], randomness.ARRANGE))

    return _arranged(sample, [blocks(stretch) for stretch in stretches(sample)])


def shuffle_window(sample: Sample, size: int, words: bool) -> list[int]:
    out = []
    for stretch in stretches(sample):
        blocks: Units = []
        for p in stretch:
            assert not words or sample.words is not None
            if not blocks or not words or (sample.words and sample.words[p]):
                blocks.append([])
            blocks[-1].append(p)
        rank = {
            block[0]: i + (sample.u(block[0], randomness.ARRANGE) >> 11) * 2.0**-53 * size
            for i, block in enumerate(blocks)
        }
        out.append(sorted(blocks, key=lambda block: rank[block[0]]))
    return _arranged(sample, out)


def rotate(sample: Sample) -> list[int]:
    out = []
    for stretch in stretches(sample):
        shift = (sample.u(stretch[0], randomness.ARRANGE) >> 32) * len(stretch) >> 32
        out.append([stretch[shift:], stretch[:shift]])
    return _arranged(sample, out)


def _arranged(sample: Sample, moved: list[Units]) -> list[int]:
    order = list(range(len(sample.tokens)))
    for stretch, blocks in zip(stretches(sample), moved, strict=True):
        for place, p in zip(stretch, (p for block in blocks for p in block), strict=True):
            order[place] = p
    return order
