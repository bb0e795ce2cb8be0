"""Compiled loops of the sparse and structural selects, and of the arrangements.

`reference_structure.py` says the same slowly. ``allowed`` is ``(N,)`` bool, ``keys`` one uint64 per
sample; units are given by their first tokens, rising.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from maskwright.corruption.kernels import draw, mix

_11, _32 = np.uint64(11), np.uint64(32)
# The base of the rolling hash of n-grams: any odd constant; the tokens are mixed before.
_BASE = np.uint64(0x9E3779B97F4A7C15)


@njit(cache=True, nogil=True)
def choose_by_chance(starts, offsets, keys, low, high, chosen):
    """Each unit where ``low <= draw >> 11 < high``."""
    row = 0
    for i in range(len(starts)):
        while starts[i] >= offsets[row + 1]:
            row += 1
        u = draw(keys[row], np.uint64(starts[i] - offsets[row])) >> _11
        chosen[i] = low[row] <= u < high[row]


@njit(cache=True, nogil=True)
def choose_within(starts, sizes, offsets, keys, budgets, at_least, chosen):
    """Each unit that still fits its sample's budget, in the order of their draws.

    Where none fits and ``at_least`` asks for one, the first of them. Equal draws go from the left.
    """
    first = 0
    for row in range(len(offsets) - 1):
        last = first
        while last < len(starts) and starts[last] < offsets[row + 1]:
            last += 1
        draws = np.empty(last - first, np.uint64)
        for i in range(last - first):
            draws[i] = draw(keys[row], np.uint64(starts[first + i] - offsets[row]))
        order = np.argsort(draws, kind="mergesort")
        left = budgets[row]
        taken = 0
        for i in order:
            chosen[first + i] = sizes[first + i] <= left
            if chosen[first + i]:
                left -= sizes[first + i]
                taken += 1
        if taken == 0 and at_least > 0 and last > first:
            chosen[first + order[0]] = True
        first = last


@njit(cache=True, nogil=True)
def choose_in_turn(starts, sizes, offsets, keys, skipped, reached, chosen):
    """Each unit whose middle token, counted in the order of their draws, lies from ``skipped`` to
    ``reached``: over the turns of a cycle, each unit once."""
    first = 0
    for row in range(len(offsets) - 1):
        last = first
        while last < len(starts) and starts[last] < offsets[row + 1]:
            last += 1
        draws = np.empty(last - first, np.uint64)
        for i in range(last - first):
            draws[i] = draw(keys[row], np.uint64(starts[first + i] - offsets[row]))
        before = 0
        for i in np.argsort(draws, kind="mergesort"):
            size = sizes[first + i]
            chosen[first + i] = skipped[row] <= before + size // 2 < reached[row]
            before += size
        first = last


@njit(cache=True, nogil=True)
def take_every(allowed, offsets, phases, n, at_least, out):
    """Every ``n``-th allowed token from the ``phases[row]``-th on; returns how many."""
    count = 0
    for row in range(len(offsets) - 1):
        start, stop = offsets[row], offsets[row + 1]
        phase = phases[row]
        if at_least > 0:
            m = 0
            for position in range(start, stop):
                m += allowed[position]
            if 0 < m <= phase:
                phase %= m
        rank = -phase
        for position in range(start, stop):
            if allowed[position]:
                if rank >= 0 and rank % n == 0:
                    out[count] = position
                    count += 1
                rank += 1
    return count


@njit(cache=True, nogil=True)
def take_apart(allowed, offsets, keys, budgets, distance, out):
    """Tokens in the order of their draws, none closer than ``distance`` to one before."""
    count = 0
    for row in range(len(offsets) - 1):
        start, size = offsets[row], offsets[row + 1] - offsets[row]
        draws, places = np.empty(size, np.uint64), np.empty(size, np.int64)
        m = 0
        for place in range(size):
            if allowed[start + place]:
                draws[m] = draw(keys[row], np.uint64(place))
                places[m] = place
                m += 1
        blocked, taken = np.zeros(size, np.bool_), np.zeros(size, np.bool_)
        left = budgets[row]
        for i in np.argsort(draws[:m], kind="mergesort"):
            if left == 0:
                break
            place = places[i]
            if not blocked[place]:
                taken[place] = True
                blocked[max(0, place - distance + 1) : place + distance] = True
                left -= 1
        for place in range(size):
            if taken[place]:
                out[count] = start + place
                count += 1
    return count


@njit(cache=True, nogil=True)
def take_strata(allowed, offsets, keys, budgets, out):
    """One token in each of ``budgets[row]`` strata, the ``j``-th by draw ``j``."""
    count = 0
    for row in range(len(offsets) - 1):
        start = offsets[row]
        places = np.flatnonzero(allowed[start : offsets[row + 1]])
        m, k = len(places), budgets[row]
        for j in range(k):
            low, high = j * m // k, (j + 1) * m // k
            u = draw(keys[row], np.uint64(j)) >> _32
            out[count] = start + places[low + np.int64((u * np.uint64(high - low)) >> _32)]
            count += 1
    return count


@njit(cache=True, nogil=True)
def _same(values, one, two, size):
    same = 0
    while same < size and values[one + same] == values[two + same]:
        same += 1
    return same == size


@njit(cache=True, nogil=True)
def find_recurring(
    values, allowed, offsets, word_starts, keys, shortest, longest, begins, candidates
):
    """Marks the tokens of recurring spans in ``candidates``, and where spans begin in ``begins``.

    From the longest n-grams to the shortest; each round sorts the n-grams by a rolling hash, so a
    sample of n tokens costs O(longest · n log n), and much less where little recurs: only n-grams
    whose first ``shortest`` tokens recur are looked at.
    """
    by_words = len(word_starts) > 0
    for row in range(len(offsets) - 1):
        start, size = offsets[row], offsets[row + 1] - offsets[row]
        if size <= shortest:
            continue
        hashes = np.zeros(size + 1, np.uint64)
        free = np.zeros(size + 1, np.int64)  # how many free tokens follow from here on
        for i in range(size):
            hashes[i + 1] = hashes[i] * _BASE + mix(np.uint64(values[start + i]) + _BASE)
        power = np.uint64(1)
        for _ in range(shortest):
            power = power * _BASE
        used = ~allowed[start : start + size]
        for i in range(size - 1, -1, -1):
            free[i] = 0 if used[i] else free[i + 1] + 1
        # what recurs at all
        places = np.empty(size, np.int64)
        found = np.empty(size, np.uint64)
        m = 0
        for i in range(size - shortest + 1):
            if free[i] >= shortest:
                places[m] = i
                found[m] = hashes[i + shortest] - hashes[i] * power
                m += 1
        order = np.argsort(found[:m], kind="mergesort")
        again = np.zeros(size, np.bool_)
        for j in range(1, m):
            if found[order[j]] == found[order[j - 1]]:
                again[places[order[j]]] = again[places[order[j - 1]]] = True
        m = again.sum()
        if m == 0:
            continue
        repeated = np.flatnonzero(again)
        cluster = np.empty(size, np.int64)
        many = np.empty(size, np.int64)
        best = np.empty(size, np.int64)
        taken = np.empty(size, np.int64)
        for n in range(min(longest, size), shortest - 1, -1):
            power = np.uint64(1)
            for _ in range(n):
                power = power * _BASE
            m = 0
            for i in repeated:
                end = i + n
                if free[i] < n or (by_words and not word_starts[start + i]):
                    continue
                inside = end < size and allowed[start + end]
                if by_words and inside and not word_starts[start + end]:
                    continue
                places[m] = i
                found[m] = hashes[end] - hashes[i] * power
                m += 1
            if m < 2:
                continue
            order = np.argsort(found[:m], kind="mergesort")
            cluster[:] = -1
            head = 0
            for j in range(1, m + 1):
                if j < m and found[order[j]] == found[order[head]]:
                    one, two = places[order[head]], places[order[j]]
                    # a collision of the hash: leave it alone
                    if _same(values, start + one, start + two, n):
                        cluster[one] = cluster[two] = one
                else:
                    head = j
            many[:] = 0
            t, end = 0, 0
            for j in range(m):
                i = places[j]
                if cluster[i] >= 0 and i >= end:
                    taken[t] = i
                    t += 1
                    end = i + n
                    many[cluster[i]] += 1
            best[:] = -1
            for j in range(t):
                i = taken[j]
                c = cluster[i]
                if many[c] < 2:
                    continue
                begins[start + i] = True
                candidates[start + i : start + i + n] = True
                used[i : i + n] = True
                if best[c] < 0 or draw(keys[row], np.uint64(i)) < draw(
                    keys[row], np.uint64(best[c])
                ):
                    best[c] = i
            for c in range(size):
                if best[c] >= 0:
                    candidates[start + best[c] : start + best[c] + n] = False
            for i in range(size - 1, -1, -1):
                free[i] = 0 if used[i] else free[i + 1] + 1


@njit(cache=True, nogil=True)
def order_blocks(starts, stops, stretches, ranks, order):
    """Writes the blocks of each stretch into its places, by rising ``ranks``."""
    first = 0
    while first < len(starts):
        last = first
        while last < len(starts) and stretches[last] == stretches[first]:
            last += 1
        place = starts[first]
        for i in np.argsort(ranks[first:last], kind="mergesort"):
            for position in range(starts[first + i], stops[first + i]):
                order[place] = position
                place += 1
        first = last
