"""What the emits make, said slowly with lists. Tests compare; nothing imports it."""

from __future__ import annotations

from maskwright import randomness
from maskwright.clock import Clock
from maskwright.corruption.mixture import MixedMasking
from maskwright.corruption.plan import Action, MaskPlan

Placed = tuple[int, int]  # an id, and its place in the sample before (-1: put in)


def tokens_of(plan: MaskPlan, row: int) -> list[int]:
    return plan.batch.tokens[row].tolist()


def targets_of(plan: MaskPlan, row: int) -> list[int]:
    return (plan.batch.labels or plan.batch.tokens)[row].tolist()


def units_of(plan: MaskPlan, row: int) -> list[list[int]]:
    """The units of a sample, each the places of its tokens."""
    start, stop = plan.batch.tokens.offsets[row : row + 2].tolist()
    units: list[list[int]] = []
    last = None
    for i, position in enumerate(plan.positions.tolist()):
        if start <= position < stop:
            unit = i if plan.units is None else int(plan.units[i])
            if unit != last:
                units.append([])
            units[-1].append(position - start)
            last = unit
    return units


def replacement(plan: MaskPlan, row: int, place: int) -> int:
    """What stands at a selected place; -1: nothing."""
    position = int(plan.batch.tokens.offsets[row]) + place
    return int(plan.replacements[plan.positions.tolist().index(position)])


def corrupted(plan: MaskPlan, row: int) -> list[Placed]:
    """A sample after corruption."""
    tokens, start = tokens_of(plan, row), int(plan.batch.tokens.offsets[row])
    selected = {place for unit in units_of(plan, row) for place in unit}
    out: list[Placed] = []
    for number in range(len(tokens)):
        place = number if plan.order is None else int(plan.order[start + number]) - start
        for before, token in zip(plan.inserts.tolist(), plan.inserted.tolist(), strict=True):
            if before == start + place:
                out.append((token, -1))
        token = replacement(plan, row, place) if place in selected else tokens[place]
        if token >= 0:
            out.append((token, place))
    return out


def spans(plan: MaskPlan, row: int, *, closing: bool, eos: bool) -> list[int]:
    """T5's labels."""
    vocabulary, targets, out = plan.masking.bound, targets_of(plan, row), []
    units = units_of(plan, row)
    for unit in units:
        out.append(replacement(plan, row, unit[0]))
        out += [targets[place] for place in unit]
    if closing:
        out.append(vocabulary.sentinel_ids[len(units)])
    tokens = tokens_of(plan, row)
    if eos and tokens:
        last = tokens[-1]
        if last in vocabulary.special_ids and last not in vocabulary.sentinel_ids:
            out.append(last)
    return out


def input_places(plan: MaskPlan, row: int, placed: list[Placed]) -> list[int]:
    """For each id of an input, the place of the one token that it stands for."""
    joined = set()
    for unit in units_of(plan, row):
        for place in unit:
            position = int(plan.batch.tokens.offsets[row]) + place
            action = plan.actions[plan.positions.tolist().index(position)]
            if action in (Action.SENTINEL, Action.INFILL):
                joined.add(place)
    return [-1 if place in joined else place for _, place in placed]


def span_places(plan: MaskPlan, row: int, *, closing: bool, eos: bool) -> list[int]:
    """For each of T5's labels, the place of its token; -1 at sentinels."""
    out: list[int] = []
    for unit in units_of(plan, row):
        out += [-1, *unit]
    out += [-1] * closing
    labels = spans(plan, row, closing=closing, eos=eos)
    return out + [len(tokens_of(plan, row)) - 1] * (len(labels) - len(out))


def shifted(plan: MaskPlan, row: int, start_id: int) -> list[Placed]:
    """What a decoder reads: a start token, then each token but the last."""
    tokens = corrupted(plan, row)
    return [(start_id, -1), *tokens[:-1]] if tokens else []


def fill_in_the_middle(
    plan: MaskPlan, row: int, pre: int, suf: int, mid: int, *, spm: bool
) -> list[Placed]:
    """The middle of a sample at its end."""
    placed = list(zip(tokens_of(plan, row), range(10**9), strict=False))
    units = units_of(plan, row)
    if not units:
        return placed
    # what may not be selected cuts the middle into several units, and goes with it
    middle = range(units[0][0], units[-1][-1] + 1)
    special = plan.masking.bound.special_ids
    head, tail = 0, len(placed)
    while placed[head][0] in special:
        head += 1
    while placed[tail - 1][0] in special:
        tail -= 1
    prefix, suffix = placed[head : middle[0]], placed[middle[-1] + 1 : tail]
    body = [placed[place] for place in middle]
    if spm:
        moved = [(pre, -1), (suf, -1), *suffix, (mid, -1), *prefix, *body]
    else:
        moved = [(pre, -1), *prefix, (suf, -1), *suffix, (mid, -1), *body]
    return placed[:head] + moved + placed[tail:]


def next_token_targets(plan: MaskPlan, row: int) -> list[int]:
    """Every token but protected ones, and special ones of a protected text."""
    batch, special = plan.batch, plan.masking.bound.special_ids
    special = {*special, plan.masking.bound.mask_id, *plan.masking.bound.sentinel_ids}
    tokens, targets = tokens_of(plan, row), targets_of(plan, row)
    protected = [0] * len(tokens) if batch.protected is None else batch.protected[row].tolist()
    ordinary = [place for place, token in enumerate(tokens) if token not in special]
    for place, token in enumerate(tokens):
        if place in ordinary:
            silent = protected[place]
        elif batch.labels is not None:
            silent = False
        else:
            before = [other for other in ordinary if other < place]
            text = before[-1:] or ordinary[:1]
            silent = any(protected[other] for other in text)
            silent = silent or (token == plan.masking.bound.pad_id and place - 1 not in ordinary)
        if silent:
            targets[place] = -100
    return targets


def prefix_labels(plan: MaskPlan, row: int) -> list[int]:
    """Labels from the first selected token on."""
    units, targets = units_of(plan, row), next_token_targets(plan, row)
    first = units[0][0] if units else len(targets)
    return [-100 if place < first else target for place, target in enumerate(targets)]


def new_places(origin: list[int], length: int) -> list[int]:
    """For each of ``length`` tokens before, its place among ``origin``; -1: gone."""
    return [origin.index(place) if place in origin else -1 for place in range(length)]


def choose(masking: MixedMasking, sample_id: int, clock: Clock) -> int:
    """The part of a mixture that a sample draws."""
    assert not isinstance(masking.refresh, str)
    key = randomness.run_key(clock.seed, masking.stream, masking.refresh.key(clock))
    key = randomness.absorb(randomness.absorb(key, sample_id), randomness.MIXTURE)
    u, sum_ = randomness.draw(key, 0) >> 11, 0.0
    total = sum(weight for weight, _ in masking.parts)
    for number, (weight, _) in enumerate(masking.parts[:-1]):
        sum_ += weight
        if u < randomness.threshold(sum_ / total):
            return number
    return len(masking.parts) - 1
