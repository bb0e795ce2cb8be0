"""Compiled loops of the guided selects. `reference_scored.py` says the same slowly.

Candidates of a sample are its maskable tokens that have a score. Random choices compare sums of
logarithms, and mathematics libraries differ in the last bit of one; so `logs` is made of sums,
products and quotients only, which are the same on every machine.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from maskwright.corruption.kernels import draw

_0, _1, _2 = np.uint64(0), np.uint64(1), np.uint64(2)
_11, _12, _32 = np.uint64(11), np.uint64(12), np.uint64(32)
_LN2 = 0.6931471805599453
_ROOT_HALF = np.int64(0x3FE6A09E667F3BCD)  # the bits of sqrt(1/2)
_52 = np.int64(52)
_LEAST = 2.2250738585072014e-308  # the smallest float64 with all its bits; less counts as 0


@njit(cache=True, nogil=True)
def logs(numbers, out):
    """Natural logarithms of float64 from `_LEAST` on, to about 1e-15 of the larger of 1 and them.

    ``x = m * 2**e`` with ``m`` from sqrt(1/2) to sqrt(2), and ``ln m`` is twice the artanh of
    ``(m - 1) / (m + 1)``, whose eleventh term is below 1e-17.
    """
    bits = numbers.view(np.int64)
    mantissas = np.empty(len(numbers), np.int64)
    for i in range(len(numbers)):
        exponent = (bits[i] - _ROOT_HALF) >> _52
        mantissas[i] = bits[i] - (exponent << _52)
        out[i] = exponent * _LN2
    reduced = mantissas.view(np.float64)
    for i in range(len(numbers)):
        t = (reduced[i] - 1.0) / (reduced[i] + 1.0)
        square = t * t
        total = 1 / 21
        total = total * square + 1 / 19
        total = total * square + 1 / 17
        total = total * square + 1 / 15
        total = total * square + 1 / 13
        total = total * square + 1 / 11
        total = total * square + 1 / 9
        total = total * square + 1 / 7
        total = total * square + 1 / 5
        total = total * square + 1 / 3
        total = total * square + 1.0
        out[i] += 2.0 * t * total


@njit(cache=True, nogil=True)
def ordered(numbers, which):
    """The number that would be at place ``which`` if they were sorted; reorders them.

    Quickselect whose passes have no branch to mispredict: half the time of ``np.partition``.
    Pivots are taken at hashed places, since sorted numbers would make it quadratic otherwise.
    """
    first, last = 0, len(numbers)
    step = np.uint64(0)
    while True:
        size = np.uint64(last - first)
        one = numbers[first + np.int64(((draw(step, _0) >> _32) * size) >> _32)]
        two = numbers[first + np.int64(((draw(step, _1) >> _32) * size) >> _32)]
        three = numbers[first + np.int64(((draw(step, _2) >> _32) * size) >> _32)]
        step += _1
        pivot = max(min(one, two), min(max(one, two), three))
        middle = first
        for i in range(first, last):
            number = numbers[i]
            numbers[i] = numbers[middle]
            numbers[middle] = number
            middle += number < pivot
        if which < middle:
            last = middle
            continue
        first = middle
        # equal ones too, or many of them would take a pass each
        for i in range(first, last):
            number = numbers[i]
            numbers[i] = numbers[middle]
            numbers[middle] = number
            middle += number <= pivot
        if which < middle:
            return pivot
        first = middle


@njit(cache=True, nogil=True)
def smallest(keys, ties, many, work, taken):
    """Flags the ``many`` smallest keys; equal ones by the smaller tie, then from the left."""
    if many <= 0 or many >= len(keys):
        taken[:] = many > 0
        return
    work[: len(keys)] = keys
    last = ordered(work[: len(keys)], many - 1)
    reached = 0
    for i in range(len(keys)):
        taken[i] = keys[i] <= last
        reached += keys[i] <= last
    if reached == many:
        return
    left, equal = many, 0
    for i in range(len(keys)):
        left -= keys[i] < last
        if keys[i] == last:
            work[equal] = ties[i]
            equal += 1
    bound = ordered(work[:equal], left - 1)
    for i in range(equal):
        left -= work[i] < bound
    for i in range(len(keys)):
        if keys[i] == last:
            taken[i] = ties[i] < bound
            if ties[i] == bound and left > 0:
                taken[i] = True
                left -= 1


@njit(cache=True, nogil=True)
def candidates(values, start, stop, maskable, protected, scores, places, own):
    """Writes the places in the batch, and the scores, of one sample's candidates; how many."""
    guarded = len(protected) > 0
    many = 0
    for position in range(start, stop):
        score = scores[position]
        places[many] = position
        own[many] = score
        hidden = guarded and protected[position] != 0
        many += (score == score) & maskable[values[position]] & (not hidden)
    return many


@njit(cache=True, nogil=True)
def take_weighted(
    values, offsets, maskable, protected, scores, keys, chance_keys, hint_keys, roundings, rates,
    chances, at_least, hints, temperature, low, out,
):  # fmt: skip
    """An exact number of each sample's candidates: some by chance, the rest by score.

    Args:
        keys, chance_keys, hint_keys: one uint64 per sample, for draws that are independent.
        roundings: one uniform per sample, ``u``: of ``m`` candidates ``floor(rate * m + u)`` are
            taken, ``floor(chance * m + u)`` of them by chance.
        chances: the share of the candidates that is drawn by chance, at most the rate.
        hints: the share of the highest that is never taken.
        low: whether weights fall with the score.

    Returns how many in all, or ``-1 - row`` of a sample with a score that is no weight.
    """
    longest = _longest(offsets)
    places, flags = np.empty(longest, np.int64), np.empty(longest, np.bool_)
    own, first, second, work = np.empty((4, longest))
    chosen = np.zeros(longest, np.bool_)
    count = 0
    for row in range(len(offsets) - 1):
        start, stop = offsets[row], offsets[row + 1]
        many = candidates(values, start, stop, maskable, protected, scores, places, own)
        good = True
        for i in range(many):
            good &= 0 <= own[i] < np.inf
        if not good:
            return -1 - row
        wanted = max(np.int64(np.floor(rates[row] * many + roundings[row])), at_least)
        by_chance = np.int64(np.floor(chances[row] * many + roundings[row]))
        kept = np.int64(np.floor(hints * many))
        if kept > 0:
            for i in range(many):
                first[i] = -own[i]
                second[i] = draw(hint_keys[row], np.uint64(places[i] - start)) >> _11
            smallest(first[:many], second[:many], kept, work, flags[:many])
            left = 0
            for i in range(many):
                places[left] = places[i]
                own[left] = own[i]
                left += not flags[i]
            many = left
        wanted = min(wanted, many)
        by_chance = min(by_chance, wanted)
        for i in range(by_chance):
            # the first steps of a shuffle; the bias is below many / 2**32
            u = draw(chance_keys[row], np.uint64(i)) >> _32
            other = i + np.int64((u * np.uint64(many - i)) >> _32)
            chosen[places[other] - start] = True
            places[other], own[other] = places[i], own[i]
        left = many - by_chance
        if wanted > by_chance:
            here, weights = places[by_chance:many], own[by_chance:many]
            for i in range(left):
                # 52 bits, so that the half is exact, and no draw is 0 or 1
                u = draw(keys[row], np.uint64(here[i] - start)) >> _12
                work[i] = (np.float64(u) + 0.5) * 2.0**-52
            _weigh(weights, work[:left], temperature, low, first[:left], second[:left])
            smallest(first[:left], second[:left], wanted - by_chance, work, flags[:left])
            for i in range(left):
                chosen[here[i] - start] = flags[i]
        for i in range(stop - start):
            if chosen[i]:
                out[count] = start + i
                count += 1
            chosen[i] = False
    return count


@njit(cache=True, nogil=True)
def _longest(offsets):
    longest = 0
    for row in range(len(offsets) - 1):
        longest = max(longest, offsets[row + 1] - offsets[row])
    return longest + 1  # a loop without branches writes one place further


@njit(cache=True, nogil=True, error_model="numpy")  # a weight of 0 has an infinite key
def _weigh(scores, uniforms, temperature, low, keys, ties):
    """Keys whose smallest are a draw by weight, and what decides between equal ones.

    ``e = -ln u`` is exponential, and the smallest of ``e / w`` has each ``w``'s share of the
    chances. Where ``w`` is a power, logarithms of that are compared.
    """
    if temperature == 0:
        for i in range(len(scores)):
            keys[i] = scores[i] if low else -scores[i]
            ties[i] = -uniforms[i]
        return
    logs(uniforms, ties)
    for i in range(len(scores)):
        ties[i] = -ties[i]
    if temperature == 1:
        for i in range(len(scores)):
            keys[i] = ties[i] * scores[i] if low else ties[i] / scores[i]
        return
    logs(ties, keys)
    sign = 1.0 if low else -1.0
    for i in range(len(scores)):
        uniforms[i] = max(scores[i], _LEAST)
    powers = np.empty(len(scores))
    logs(uniforms, powers)
    for i in range(len(scores)):
        key = keys[i] + sign * powers[i] / temperature
        keys[i] = key if scores[i] >= _LEAST else -sign * np.inf


@njit(cache=True, nogil=True)
def hide_below(
    values, offsets, maskable, protected, scores, thresholds, standard, hidden
):  # fmt: skip
    """Flags all but the candidates whose normalised score is above the sample's threshold.

    Args:
        standard: by standard scores; otherwise by mean ranks from 0 to 1.

    Returns the row of a sample with an infinite score, or -1.
    """
    longest = _longest(offsets)
    places, (own, work) = np.empty(longest, np.int64), np.empty((2, longest))
    hidden[:] = True
    for row in range(len(offsets) - 1):
        many = candidates(
            values, offsets[row], offsets[row + 1], maskable, protected, scores, places, own
        )
        if many == 0:
            continue
        if standard:
            for i in range(many):
                if not np.isfinite(own[i]):
                    return row
            bound, reached = _standard_bound(own[:many], thresholds[row])
        else:
            bound, reached = _rank_bound(own[:many], thresholds[row], work)
        for i in range(many):
            if own[i] > bound or (reached and own[i] == bound):
                hidden[places[i]] = False
    return -1


@njit(cache=True, nogil=True)
def _rank_bound(scores, threshold, work):
    """The score above which ranks are above the threshold, and whether its own rank is.

    Of ``n`` scores, those equal to ``v`` have the rank ``(below + (equal - 1) / 2) / (n - 1)``.
    """
    last = len(scores) - 1
    if last == 0:
        return scores[0], threshold < 0.5
    place = threshold * last
    if place < 0:
        return -np.inf, False
    if place >= last:
        return np.inf, False
    work[: len(scores)] = scores
    bound = ordered(work[: len(scores)], np.int64(place))
    below = equal = 0
    for i in range(len(scores)):
        below += scores[i] < bound
        equal += scores[i] == bound
    return bound, below + 0.5 * (equal - 1) > place


@njit(cache=True, nogil=True)
def _standard_bound(scores, threshold):
    """The score whose standard score is the threshold, and whether that itself is above it."""
    many = len(scores)
    # from the first score, so that equal scores differ from their mean by exactly 0
    mean = 0.0
    for i in range(many):
        mean += scores[i] - scores[0]
    mean /= many
    variance = 0.0
    for i in range(many):
        variance += (scores[i] - scores[0] - mean) ** 2
    if variance == 0:  # all standard scores are 0
        return scores[0], threshold < 0.0
    return scores[0] + mean + threshold * np.sqrt(variance / many), False
