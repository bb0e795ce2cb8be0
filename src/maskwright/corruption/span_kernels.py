"""Spans: by drawn lengths, by T5's random segmentation, and one in each sample. Compiled by numba.

`reference_spans.py` says the same slowly.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from maskwright.corruption.kernels import draw, sample_key
from maskwright.corruption.unit_kernels import bound, units_of
from maskwright.randomness import LENGTH, ROUND, START

# Starts that a span is offered before it is cut to the room there is.
TRIES = 16


@njit(cache=True, nogil=True)
def below(key, counter, many):
    """A uniform integer below ``many``: the high half of a 32 × 32 bit product."""
    u = draw(key, np.uint64(counter)) >> np.uint64(32)
    return np.int64((u * np.uint64(many)) >> np.uint64(32))


@njit(cache=True, nogil=True)
def uniform(run_key, sample_id):
    """The uniform that rounds the budget of a sample."""
    key = sample_key(run_key, sample_id, np.uint64(ROUND))
    return np.float64(draw(key, np.uint64(0)) >> np.uint64(11)) * 2.0**-53


@njit(cache=True, nogil=True)
def spans(marks, offsets, sample_ids, run_key, rates, at_least, limits, out, units, inserts):
    """Spans of drawn lengths (in units of ``marks``) at drawn starts until the budget is spent.

    Returns how many tokens, and how many places of empty spans.
    """
    count = empty = 0
    unit = -1
    longest = 0
    for row in range(len(offsets) - 1):
        longest = max(longest, offsets[row + 1] - offsets[row])
    begins, ends = np.empty(longest, np.int64), np.empty(longest, np.int64)
    label = np.empty(longest, np.int64)
    for row in range(len(offsets) - 1):
        many, tokens = units_of(marks, offsets[row], offsets[row + 1], begins, ends)
        sample_id = np.uint64(sample_ids[row])
        left = bound(rates[row], tokens, uniform(run_key, sample_id), at_least)
        if left == 0:
            continue
        lengths = sample_key(run_key, sample_id, np.uint64(LENGTH))
        starts = sample_key(run_key, sample_id, np.uint64(START))
        label[:many] = 0
        number = drawn = tried = zeros = 0
        most = 64 + 16 * many
        while left > 0 and tried < most and drawn < most:
            u = draw(lengths, np.uint64(drawn)) >> np.uint64(11)
            drawn += 1
            wanted = 0
            while u >= limits[wanted]:
                wanted += 1
            if wanted == 0:
                zeros += zeros < many
                continue
            misses = 0
            while tried < most:
                first = below(starts, tried, many)
                tried += 1
                last = first
                size = 0
                blocked = False
                while last - first < wanted:
                    if last == many or label[last] > 0:
                        blocked = True
                        break
                    if last > first and begins[last] != ends[last - 1]:
                        blocked = True
                        break
                    more = ends[last] - begins[last]
                    if size + more > left:
                        break
                    size += more
                    last += 1
                if last == first or (blocked and misses < TRIES):
                    misses += 1
                    continue
                number += 1
                label[first:last] = number
                left -= size
                break
        if number == 0 and at_least > 0:
            label[below(starts, 0, many)] = 1
        first_empty = empty
        for _ in range(zeros):
            place = below(starts, tried, many)
            tried += 1
            for _ in range(TRIES):
                if label[place] == 0:
                    break
                place = below(starts, tried, many)
                tried += 1
            inserts[empty] = begins[place]
            empty += 1
        inserts[first_empty:empty].sort()
        before = 0
        for i in range(many):
            if label[i] > 0:
                unit += label[i] != before
                for position in range(begins[i], ends[i]):
                    out[count] = position
                    units[count] = unit
                    count += 1
            before = label[i]
    return count, empty


@njit(cache=True, nogil=True)
def cut(key, items, parts, hashes, near, where, cuts):
    """Cuts ``items`` into ``parts``, each composition as likely: after the ``parts - 1`` items (but
    the last) of smallest hashes, rising, into ``cuts``. Hashes of one key never tie.
    """
    gaps, wanted = items - 1, parts - 1
    if wanted <= 0:
        return
    for i in range(gaps):
        hashes[i] = draw(key, np.uint64(i))
    # only hashes that are likely among the smallest are looked at closer
    share = (wanted + 6.0 * np.sqrt(wanted) + 8.0) / gaps
    every = share >= 0.999
    limit = np.uint64(min(share, 0.999) * 2.0**64)
    found = 0
    while True:
        found = 0
        for i in range(gaps):
            near[found] = hashes[i]
            where[found] = i
            found += every or hashes[i] < limit
        if found >= wanted:
            break
        every = True
    last = np.partition(near[:found], wanted - 1)[wanted - 1]
    k = 0
    for i in range(found):
        if near[i] <= last:
            cuts[k] = where[i]
            k += 1


@njit(cache=True, nogil=True)
def places_of(values, first, last, maskable, protected, places):
    """The eligible positions; returns how many."""
    count = 0
    guarded = len(protected) > 0
    for position in range(first, last):
        places[count] = position
        count += maskable[values[position]] and not (guarded and protected[position])
    return count


@njit(cache=True, nogil=True)
def noise(
    values, offsets, sample_ids, run_key, rates, mean, maskable, protected, out, units
):  # fmt: skip
    """T5's ``random_spans_noise_mask``, over the eligible tokens; returns how many tokens."""
    count = 0
    unit = -1
    longest = 1
    for row in range(len(offsets) - 1):
        longest = max(longest, offsets[row + 1] - offsets[row] + 1)
    places, where = np.empty(longest, np.int64), np.empty(longest, np.int64)
    hashes, near = np.empty(longest, np.uint64), np.empty(longest, np.uint64)
    cuts, others = np.empty(longest, np.int64), np.empty(longest, np.int64)
    for row in range(len(offsets) - 1):
        items = places_of(values, offsets[row], offsets[row + 1], maskable, protected, places)
        if items < 2 or rates[row] == 0:
            continue
        noisy = min(max(int(np.rint(items * rates[row])), 1), items - 1)
        quiet = items - noisy
        parts = min(max(int(np.rint(noisy / mean)), 1), noisy, quiet)
        sample_id = np.uint64(sample_ids[row])
        key = sample_key(run_key, sample_id, np.uint64(LENGTH))
        cut(key, noisy, parts, hashes, near, where, cuts)
        key = sample_key(run_key, sample_id, np.uint64(START))
        cut(key, quiet, parts, hashes, near, where, others)
        cuts[parts - 1], others[parts - 1] = noisy - 1, quiet - 1
        done = 0
        for part in range(parts):
            shift = others[part] + 1
            for item in range(done, cuts[part] + 1):
                position = places[shift + item]
                unit += item == done or position != out[count - 1] + 1
                out[count] = position
                units[count] = unit
                count += 1
            done = cuts[part] + 1
    return count


@njit(cache=True, nogil=True)
def one(values, offsets, sample_ids, run_key, rates, at_least, maskable, protected, out):
    """A single run of the eligible tokens of each sample; returns how many tokens."""
    count = 0
    longest = 1
    for row in range(len(offsets) - 1):
        longest = max(longest, offsets[row + 1] - offsets[row] + 1)
    places = np.empty(longest, np.int64)
    for row in range(len(offsets) - 1):
        items = places_of(values, offsets[row], offsets[row + 1], maskable, protected, places)
        sample_id = np.uint64(sample_ids[row])
        size = bound(rates[row], items, uniform(run_key, sample_id), at_least)
        key = sample_key(run_key, sample_id, np.uint64(START))
        first = below(key, 0, items - size + 1)
        for i in range(first, first + size):
            out[count] = places[i]
            count += 1
    return count
