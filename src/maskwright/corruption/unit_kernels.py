"""Units of several tokens (words, phrases): where they are, and which are drawn. Compiled by numba.

A mark says what each token is: 0 not eligible, 1 goes on with the unit before it, 2 begins a unit.
So a unit never contains an ineligible token, and never leaves its sample.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from maskwright.corruption.kernels import draw, sample_key
from maskwright.randomness import ROUND, SELECT

NO, GOES_ON, BEGINS = 0, 1, 2
# More eligible tokens than this in a sample without one word start: nobody marked the words.
LONGEST_WORD = 32


@njit(cache=True, nogil=True)
def mark(values, offsets, maskable, protected, flags, table, every, marks):
    """Marks the tokens. A unit begins where ``flags`` say so, or ``table`` where they are empty, or
    everywhere; and after whatever is not eligible.

    Returns the first row whose words are not marked, or -1.
    """
    lost = -1
    guarded, flagged = len(protected) > 0, len(flags) > 0
    if every:
        for position in range(len(marks)):
            free = maskable[values[position]] and not (guarded and protected[position])
            marks[position] = BEGINS if free else NO
        return lost
    for row in range(len(offsets) - 1):
        apart = True
        seen = many = 0
        for position in range(offsets[row], offsets[row + 1]):
            token = values[position]
            if flagged:
                begins = flags[position] != 0
            else:
                begins = table[token] != 0
            seen += begins
            if maskable[token] and not (guarded and protected[position]):
                marks[position] = BEGINS if begins or apart else GOES_ON
                apart = False
                many += 1
            else:
                marks[position] = NO
                apart = True
        if lost < 0 and seen == 0 and many > LONGEST_WORD:
            lost = row
    return lost


@njit(cache=True, nogil=True)
def select_independent(marks, offsets, sample_ids, run_key, low, high, out, units):
    """Each unit whose first token has ``low <= draw >> 11 < high``; returns how many tokens."""
    count = 0
    unit = -1
    for row in range(len(offsets) - 1):
        key = sample_key(run_key, np.uint64(sample_ids[row]), np.uint64(SELECT))
        start = offsets[row]
        lowest, width = low[row], high[row] - low[row]
        taken = False
        for position in range(start, offsets[row + 1]):
            mark = marks[position]
            if mark == BEGINS:
                u = draw(key, np.uint64(position - start)) >> np.uint64(11)
                taken = u - lowest < width  # unsigned: what is below wraps round
                unit += taken
            elif mark == NO:
                taken = False
            if taken:
                out[count] = position
                units[count] = unit
                count += 1
    return count


@njit(cache=True, nogil=True)
def bound(rate, many, u, at_least):
    """`selection.budgets`, of one sample."""
    return min(many, max(int(np.floor(rate * many + u)), at_least))


@njit(cache=True, nogil=True)
def units_of(marks, first, last, begins, ends):
    """First and one-past-last positions of the units; returns (units, tokens)."""
    count = tokens = 0
    for position in range(first, last):
        mark = marks[position]
        if mark == BEGINS:
            begins[count] = position
            count += 1
        if mark != NO:
            ends[count - 1] = position + 1
            tokens += 1
    return count, tokens


@njit(cache=True, nogil=True)
def select_exact(
    marks, offsets, sample_ids, run_key, low, high, at_least, covering, out, units
):  # fmt: skip
    """Units in the order of their draws as far as the budget goes; returns how many tokens.

    Not ``covering``: each that still fits. ``covering``: each whose middle token, counted in that
    order, lies between the budgets of ``low`` and ``high``.
    """
    count = 0
    unit = -1
    longest = 0
    for row in range(len(offsets) - 1):
        longest = max(longest, offsets[row + 1] - offsets[row])
    begins, ends = np.empty(longest, np.int64), np.empty(longest, np.int64)
    draws, near = np.empty(longest, np.uint64), np.empty(longest, np.int64)
    chosen = np.empty(longest, np.bool_)
    for row in range(len(offsets) - 1):
        start = offsets[row]
        many, tokens = units_of(marks, start, offsets[row + 1], begins, ends)
        sample_id = np.uint64(sample_ids[row])
        rounding = sample_key(run_key, sample_id, np.uint64(ROUND))
        u = np.float64(draw(rounding, np.uint64(0)) >> np.uint64(11)) * 2.0**-53
        budget = bound(high[row], tokens, u, at_least)
        skipped = bound(low[row], tokens, u, at_least) if low[row] > 0 else 0
        if budget <= skipped:
            continue
        key = sample_key(run_key, sample_id, np.uint64(SELECT))
        for i in range(many):
            draws[i] = draw(key, np.uint64(begins[i] - start))
        chosen[:many] = False
        if covering or skipped:
            before = 0
            for i in np.argsort(draws[:many], kind="mergesort"):
                size = ends[i] - begins[i]
                chosen[i] = skipped <= before + size // 2 < budget
                before += size
        else:
            # sorting is dear: first only the lowest draws, of which there are likely enough
            share = 1.5 * budget / tokens + 16.0 / many
            limit = np.uint64(min(share, 0.999) * 2.0**64)
            every = share >= 0.999
            left = budget
            while True:
                found = 0
                for i in range(many):
                    near[found] = i
                    found += every or draws[i] < limit
                order = np.argsort(draws[near[:found]], kind="mergesort")
                for place in order:
                    i = near[place]
                    size = ends[i] - begins[i]
                    if size <= left:
                        chosen[i] = True
                        left -= size
                        if left == 0:
                            break
                if left == 0 or every:
                    break
                every = True
                left = budget
                chosen[:many] = False
            if left == budget and at_least > 0:
                chosen[np.argmin(draws[:many])] = True
        for i in range(many):
            if chosen[i]:
                unit += 1
                for position in range(begins[i], ends[i]):
                    out[count] = position
                    units[count] = unit
                    count += 1
    return count
