"""Arithmetic on ranges leaves out nothing that may occur: by trying every integer."""

from __future__ import annotations

import itertools
import operator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maskwright.attention.interval import Certainty, Interval

ENDS = st.tuples(st.integers(-12, 12), st.integers(0, 7)).map(lambda one: (one[0], sum(one)))
NUMBERS = st.integers(-9, 9)
ABOVE_0 = st.integers(1, 9)


def interval(ends):
    return Interval(torch.tensor(ends[0]), torch.tensor(ends[1]))


def whole(ends):
    return range(ends[0], ends[1] + 1)


def ends_of(found):
    return int(found.low), int(found.high)


def answers(found):
    return bool(found.may), bool(found.must)


def truth(values):
    values = list(values)
    return any(values), all(values)


@given(ENDS, ENDS)
def test_sums_and_differences_are_exact(a, b):
    for combine in (operator.add, operator.sub):
        values = [combine(x, y) for x in whole(a) for y in whole(b)]
        found = combine(interval(a), interval(b))
        assert ends_of(found) == (min(values), max(values))


@given(ENDS, NUMBERS)
def test_arithmetic_with_a_number_is_exact(a, number):
    for combine in (
        lambda x: x + number,
        lambda x: number + x,
        lambda x: x - number,
        lambda x: number - x,
        lambda x: x * number,
        lambda x: number * x,
        lambda x: -x,
        abs,
    ):
        values = [combine(x) for x in whole(a)]
        assert ends_of(combine(interval(a))) == (min(values), max(values))


@given(ENDS, ABOVE_0)
def test_quotients_are_exact_and_remainders_lose_nothing(a, divisor):
    quotients = [x // divisor for x in whole(a)]
    assert ends_of(interval(a) // divisor) == (min(quotients), max(quotients))
    assert ends_of(interval(a) // torch.tensor(divisor)) == (min(quotients), max(quotients))
    remainders = {x % divisor for x in whole(a)}
    low, high = ends_of(interval(a) % divisor)
    assert low <= min(remainders) <= max(remainders) <= high
    # exact about 0, which is what strides ask of it
    assert bool((interval(a) % divisor == 0).may) == (0 in remainders)


COMPARISONS = [operator.le, operator.lt, operator.ge, operator.gt, operator.eq, operator.ne]


@pytest.mark.parametrize("compare", COMPARISONS, ids=lambda one: one.__name__)
@given(ENDS, ENDS, NUMBERS)
def test_comparisons_are_exact(compare, a, b, number):
    pairs = (compare(x, y) for x in whole(a) for y in whole(b))
    assert answers(compare(interval(a), interval(b))) == truth(pairs)
    assert answers(compare(interval(a), number)) == truth(compare(x, number) for x in whole(a))
    assert answers(compare(number, interval(a))) == truth(compare(number, x) for x in whole(a))


STATES = [(True, True), (True, False), (False, False)]


@pytest.mark.parametrize("a", STATES)
@pytest.mark.parametrize("b", STATES)
def test_certainties_combine_conservatively(a, b):
    def values_of(state):
        return {(True, True): [[True]], (False, False): [[False]]}.get(
            state, [[True, False], [False, True], [True], [False]]
        )

    left, right = (Certainty(*map(torch.tensor, one)) for one in (a, b))
    for combine in (operator.and_, operator.or_):
        may, must = answers(combine(left, right))
        seen = [
            combine(x, y)
            for xs in values_of(a)
            for ys in values_of(b)
            for x, y in itertools.product(xs, ys)
        ]
        assert may or not any(seen)
        assert not must or all(seen)
    assert answers(~left) == (not a[1], not a[0])
