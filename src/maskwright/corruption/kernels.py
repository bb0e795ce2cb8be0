"""The fast primitives, compiled by numba. `reference.py` says the same slowly.

All work on flat values and offsets and write into arrays that the caller made. The compiled code
is cached on disk, beside this file or in numba's cache directory.
"""

from __future__ import annotations

import numpy as np
from numba import njit, uint64

from maskwright.randomness import ACT, GAMMA, MULTIPLIER_1, MULTIPLIER_2, REPLACE, ROUND, SELECT

_GAMMA = np.uint64(GAMMA)
_M1 = np.uint64(MULTIPLIER_1)
_M2 = np.uint64(MULTIPLIER_2)
_BLOCK = 256

# Stands for "no token is protected" (numba wants an array of one type).
NOTHING = np.empty(0, np.uint8)
# Stands for "each token is a unit", and for "nothing is put in".
NO_UNITS = np.empty(0, np.int64)


@njit(uint64(uint64), inline="always", cache=True)
def mix(word):
    """`randomness.mix`."""
    word = (word ^ (word >> np.uint64(30))) * _M1
    word = (word ^ (word >> np.uint64(27))) * _M2
    return word ^ (word >> np.uint64(31))


@njit(uint64(uint64, uint64), inline="always", cache=True)
def draw(key, counter):
    """`randomness.draw`."""
    return mix(key + (counter + np.uint64(1)) * _GAMMA)


@njit(uint64(uint64, uint64, uint64), inline="always", cache=True)
def sample_key(run_key, sample_id, purpose):
    """`randomness.sample_keys`, of one sample."""
    return mix(mix(run_key ^ mix(sample_id + _GAMMA)) ^ mix(purpose + _GAMMA))


@njit(cache=True, nogil=True)
def select_independent(
    values, offsets, sample_ids, run_key, low, high, _at_least, maskable, protected, out
):
    """Each maskable token where ``low <= draw >> 11 < high``; returns how many, or -1 if they are
    more than ``out`` holds.

    Draws go a block at a time, which the compiler turns into vector instructions; only the hits
    are looked up in ``maskable``.
    """
    count = 0
    block = np.empty(_BLOCK, np.uint64)
    guarded = len(protected) > 0
    for row in range(len(offsets) - 1):
        key = sample_key(run_key, np.uint64(sample_ids[row]), np.uint64(SELECT))
        start, stop = offsets[row], offsets[row + 1]
        lowest, width = low[row], high[row] - low[row]
        for first in range(start, stop, _BLOCK):
            size = min(_BLOCK, stop - first)
            base = np.uint64(first - start)
            for i in range(size):
                block[i] = draw(key, base + np.uint64(i)) >> np.uint64(11)
            for i in range(size):
                if block[i] - lowest < width:  # unsigned: what is below wraps round
                    position = first + i
                    if maskable[values[position]] and not (guarded and protected[position]):
                        if count == len(out):
                            return -1
                        out[count] = position
                        count += 1
    return count


@njit(cache=True, nogil=True)
def select_exact(
    values, offsets, sample_ids, run_key, low, high, at_least, maskable, protected, out
):
    """An exact number of each sample's maskable tokens; returns how many in all.

    Of the ``m`` maskable tokens in the order of their draws, those from ``floor(low * m + u)`` (0
    where ``low`` is 0) to ``floor(high * m + u)``, with one uniform ``u`` a sample; at least
    ``min(at_least, m)`` where ``low`` is 0. Equal draws are taken from the left.
    """
    count = 0
    guarded = len(protected) > 0
    longest = 0
    for row in range(len(offsets) - 1):
        longest = max(longest, offsets[row + 1] - offsets[row])
    draws = np.empty(longest, np.uint64)
    places = np.empty(longest, np.int64)
    for row in range(len(offsets) - 1):
        start = offsets[row]
        sample_id = np.uint64(sample_ids[row])
        key = sample_key(run_key, sample_id, np.uint64(SELECT))
        m = 0
        for position in range(start, offsets[row + 1]):
            if maskable[values[position]] and not (guarded and protected[position]):
                draws[m] = draw(key, np.uint64(position - start))
                places[m] = position
                m += 1
        rounding = sample_key(run_key, sample_id, np.uint64(ROUND))
        u = np.float64(draw(rounding, np.uint64(0)) >> np.uint64(11)) * 2.0**-53
        k = min(m, int(np.floor(high[row] * m + u)))
        skipped = 0
        if low[row] > 0:
            # where the turn before ended
            skipped = min(m, max(at_least, int(np.floor(low[row] * m + u))))
        else:
            k = max(k, min(at_least, m))
        if k <= skipped:
            continue
        last = np.partition(draws[:m], k - 1)[k - 1]
        if skipped:
            taken = np.partition(draws[:m], skipped - 1)[skipped - 1]
            for i in range(m):
                if taken < draws[i] <= last:
                    out[count] = places[i]
                    count += 1
            continue
        below = 0
        for i in range(m):
            below += draws[i] < last
        ties = k - below
        for i in range(m):
            if draws[i] < last:
                out[count] = places[i]
                count += 1
            elif draws[i] == last and ties > 0:
                out[count] = places[i]
                count += 1
                ties -= 1
    return count


@njit(cache=True, nogil=True)
def act(
    values, offsets, sample_ids, run_key, positions, units, codes, limits, mask_id, replacements,
    sentinels, actions, out,
):  # fmt: skip
    """Draws an act for each unit, and what stands at each of its tokens then.

    ``units`` is empty where each token is a unit. ``limits`` are the cumulated shares as
    thresholds; ``codes`` the `Action` of each. A token that disappears gets -1: every token of a
    deleted unit, and all but the first of one that a sentinel or a single mask stands for. A random
    token is the high half of a 32 × 32 bit product, so that no division is needed; its bias is
    below ``len(replacements) / 2**32``.

    Returns the row that needs more sentinels than there are, or -1.
    """
    row = -1
    stop = np.int64(0)
    act_key = replace_key = np.uint64(0)
    many = np.uint64(len(replacements))
    whole = len(units) > 0
    code = codes[0]
    several = len(codes) > 1
    used = 0
    for i in range(len(positions)):
        position = positions[i]
        if position >= stop:
            while stop <= position:
                row += 1
                stop = offsets[row + 1]
            sample_id = np.uint64(sample_ids[row])
            act_key = sample_key(run_key, sample_id, np.uint64(ACT))
            replace_key = sample_key(run_key, sample_id, np.uint64(REPLACE))
            used = 0
        counter = np.uint64(position - offsets[row])
        first = not (whole and i > 0 and units[i] == units[i - 1])
        if first and several:
            u = draw(act_key, counter) >> np.uint64(11)
            choice = 0
            while choice < len(codes) - 1 and u >= limits[choice]:
                choice += 1
            code = codes[choice]
        actions[i] = code
        if code == 1:
            out[i] = mask_id
        elif code == 2:
            u = draw(replace_key, counter) >> np.uint64(32)
            out[i] = replacements[np.int64((u * many) >> np.uint64(32))]
        elif code == 3:
            out[i] = values[position]
        elif code == 5 and first:
            if used >= len(sentinels):
                return row
            out[i] = sentinels[used]
            used += 1
        elif code == 6 and first:
            out[i] = mask_id
        else:
            out[i] = -1
    return -1


@njit(cache=True, nogil=True)
def act_in_place(
    values, offsets, sample_ids, run_key, positions, codes, limits, mask_id, replacements,
    actions, out,
):  # fmt: skip
    """`act`, where each token is a unit and there are at most three acts, all in place.

    The acts of a sample are drawn at once, in vector instructions and without a branch.
    """
    many = np.uint64(len(replacements))
    last = len(codes) - 1
    first_limit = limits[0]
    second_limit = limits[min(1, last)]
    first_code, second_code, third_code = codes[0], codes[min(1, last)], codes[last]
    i = 0
    for row in range(len(offsets) - 1):
        start, stop = offsets[row], offsets[row + 1]
        end = i
        while end < len(positions) and positions[end] < stop:
            end += 1
        sample_id = np.uint64(sample_ids[row])
        act_key = sample_key(run_key, sample_id, np.uint64(ACT))
        replace_key = sample_key(run_key, sample_id, np.uint64(REPLACE))
        places, drawn, written = positions[i:end], actions[i:end], out[i:end]
        for j in range(len(places)):
            u = draw(act_key, np.uint64(places[j] - start)) >> np.uint64(11)
            later = second_code if u < second_limit else third_code
            drawn[j] = first_code if u < first_limit else later
        for j in range(len(places)):
            if drawn[j] == 1:
                written[j] = mask_id
            elif drawn[j] == 2:
                u = draw(replace_key, np.uint64(places[j] - start)) >> np.uint64(32)
                written[j] = replacements[np.int64((u * many) >> np.uint64(32))]
            else:
                written[j] = values[places[j]]
        i = end


@njit(cache=True, nogil=True)
def corrupt(
    values, offsets, order, positions, replacements, inserts, inserted, out, origin, out_offsets
):
    """Writes the corrupted tokens, and the place in its sample that each came from.

    Walks through each sample in ``order`` (as it stands where that is empty). A replacement of -1
    leaves its token out; ``inserted`` ids come before the tokens at ``inserts``, from nowhere (-1).
    """
    which = np.full(len(values), -1, np.int64)
    for i in range(len(positions)):
        which[positions[i]] = i
    arranged = len(order) > 0
    k = 0
    out_offsets[0] = 0
    for row in range(len(offsets) - 1):
        start = offsets[row]
        for place in range(start, offsets[row + 1]):
            position = order[place] if arranged else place
            if len(inserts):
                # inserts rise, but an arranged walk does not: search
                i = np.searchsorted(inserts, position)
                while i < len(inserts) and inserts[i] == position:
                    out[k] = inserted[i]
                    origin[k] = -1
                    k += 1
                    i += 1
            i = which[position]
            if i < 0 or replacements[i] >= 0:
                out[k] = values[position] if i < 0 else replacements[i]
                origin[k] = position - start
                k += 1
        out_offsets[row + 1] = k
    return k


@njit(cache=True, nogil=True)
def emit_mlm(
    values, offsets, positions, replacements, targets, left, fill, ignore,
    input_ids, attended, labels,
):  # fmt: skip
    """Pads rows into ``(B, S)`` arrays and writes the plan over them.

    ``fill`` and ``ignore`` stand where nothing else does; ``targets`` holds a label for each value
    of the batch. A row is finished while it is in the cache. Plain loops over slices that start at
    0 become vector stores; indexing ``(row, first + i)`` does not.
    """
    length = input_ids.shape[1]
    k = 0
    for row in range(len(offsets) - 1):
        start, stop = offsets[row], offsets[row + 1]
        size = stop - start
        first = length - size if left else 0
        ids, ones, ignored = input_ids[row], attended[row], labels[row]
        source, wanted = values[start:stop], targets[start:stop]
        target, present, label = ids[first:], ones[first:], ignored[first:]
        for i in range(length):
            ignored[i] = ignore
        for i in range(first):
            ids[i] = fill
            ones[i] = 0
        for i in range(size):
            target[i] = source[i]
        for i in range(size):
            present[i] = 1
        for i in range(first + size, length):
            ids[i] = fill
            ones[i] = 0
        while k < len(positions) and positions[k] < stop:
            place = np.uint64(positions[k] - start)  # unsigned: it is not counted from the end
            target[place] = replacements[k]
            label[place] = wanted[place]
            k += 1
