"""What a pattern is recognised as on its axes, and that the simpler pattern is the same mask."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given

from maskwright.attention import (
    Axis,
    causal,
    documents,
    full,
    marked,
    nothing,
    padding,
    per_head,
    same,
    window,
)
from maskwright.attention.backends.problem import Problem
from maskwright.attention.backends.recognise import normalise, recognise
from maskwright.attention.backends.rectangles import find
from maskwright.errors import AxisError
from tests.attention.strategies import attentions

plain = Axis(6)
packed = Axis.packed([2, 3, 1])
right_padded = Axis(4, valid=[[True, True, True, False], [True, False, False, False]])
all_valid = Axis(4, valid=[[True] * 4, [True] * 4])


@given(attentions())
def test_the_normal_form_is_the_same_mask(attention):
    pattern, q, kv = attention
    found = normalise(pattern, q, kv)
    wanted = pattern.dense(q, kv)
    assert torch.equal(found.dense(q, kv).expand(wanted.shape), wanted)


@pytest.mark.parametrize(
    "pattern, q, kv, simplest",
    [
        (padding, plain, plain, full),
        (padding, all_valid, all_valid, full),
        (padding, right_padded, right_padded, padding),
        (documents, Axis.packed([6]), Axis.packed([6]), full),
        (documents, Axis.packed([3, 3]), Axis.packed([3, 3]), documents),
        (documents, Axis(2, segments=[0, 0]), Axis(2, segments=[1, 1]), nothing),
        (causal & padding, all_valid, all_valid, causal),
        (window(5), plain, plain, full),
        (window(4), plain, plain, window(4)),
        (window(5, 0), plain, plain, causal),
        (window(4, 0), plain, plain, window(4, 0)),
        (window(9, 0, "upper-left"), plain, Axis(4), causal("upper-left")),
        (window(1) & padding & nothing, right_padded, right_padded, nothing),
        (causal, Axis(1), Axis(6), full),
        (causal("upper-left"), Axis(1), Axis(6), causal("upper-left")),
        (causal, Axis(2, positions=[7, 8]), Axis(2, positions=[5, 6]), full),
        (full | window(1), plain, plain, full),
        (full, Axis(0), plain, nothing),
        (full, plain, Axis(0), nothing),
    ],
    ids=str,
)
def test_the_simplest_terms(pattern, q, kv, simplest):
    assert normalise(pattern, q, kv) == simplest


@pytest.mark.parametrize(
    "pattern, q, kv, agrees",
    [
        (causal, plain, plain, True),
        (causal, Axis(3), Axis(6), False),
        (causal("upper-left"), Axis(3), Axis(6), True),
        (causal("upper-left"), Axis(6), Axis(3), True),
        (causal, Axis(3, positions=[4, 5, 6]), Axis(3, positions=[4, 5, 6]), True),
        (causal, Axis(3, positions=[0, 1, 0]), Axis(3, positions=[0, 1, 0]), False),
        (causal, Axis(3, positions=[4, 5, 6]), Axis(3, positions=[5, 6, 7]), False),
        (causal, Axis(3, positions=[0, 1, 2]), Axis(3), False),
        (causal & window(1), plain, plain, False),
        (causal & padding, right_padded, right_padded, False),
        (full, plain, plain, False),
    ],
    ids=str,
)
def test_the_flag_of_the_kernels_only_where_it_agrees(pattern, q, kv, agrees):
    assert recognise(pattern, q, kv).causal is agrees
    if agrees:
        upper_left = torch.ones(q.length, kv.length, dtype=torch.bool).tril()
        assert torch.equal(pattern.dense(q, kv)[0, 0], upper_left)


def test_documents_and_padding_and_the_rest_are_told_apart():
    axis = Axis(4, valid=[True, True, True, False], segments=[0, 0, 1, 1], tag=[0, 1, 1, 1])
    known = recognise(causal & documents & padding("both") & same("tag"), axis, axis)
    assert known.alike == ("segments", "tag")
    assert known.q_marks == known.kv_marks == ("valid",)
    assert known.rest == (causal,)
    assert known.flag
    assert not known.causal


def rectangles(pattern, q, kv=None):
    found = find(Problem(pattern, q, q if kv is None else kv))
    return (
        found
        if isinstance(found, str)
        else [
            (one.sample, (one.top, one.bottom), (one.left, one.right), one.inside) for one in found
        ]
    )


def test_rectangles_of_documents():
    assert rectangles(documents, packed) == [
        (0, (0, 2), (0, 2), "whole"),
        (0, (2, 5), (2, 5), "whole"),
        (0, (5, 6), (5, 6), "whole"),
    ]


def test_rectangles_of_a_cross_attention_have_lengths_of_their_own():
    q, kv = Axis(4, segments=[7, 7, 3, 9]), Axis(5, segments=[3, 3, 3, 7, 5])
    assert rectangles(documents, q, kv) == [
        (0, (0, 2), (3, 4), "whole"),
        (0, (2, 3), (0, 3), "whole"),
    ]


def test_rectangles_of_padding_at_either_end():
    left = Axis(4, valid=[[False, True, True, True], [True, True, True, True]])
    assert rectangles(padding, left) == [
        (0, (0, 4), (1, 4), "whole"),
        (1, (0, 4), (0, 4), "whole"),
    ]
    assert rectangles(padding("both"), left) == [
        (0, (1, 4), (1, 4), "whole"),
        (1, (0, 4), (0, 4), "whole"),
    ]


def test_causal_inside_documents_is_the_flag():
    inside = [one[3] for one in rectangles(causal & documents, packed)]
    assert inside == ["flag", "flag", "whole"]  # one query and one key: all of it
    restarting = Axis.packed([2, 3], positions=[0, 1, 0, 1, 2])
    assert [one[3] for one in rectangles(causal & documents, restarting)] == ["flag", "flag"]


@pytest.mark.parametrize(
    "q, kv, inside",
    [
        # the queries continue the keys: all of them are before
        ([10, 11], [3, 4, 5], ["whole"]),
        ([3, 4], [3, 4, 5], ["flag"]),
        ([4, 5], [3, 4, 5], ["masked"]),
        ([3, 5], [3, 4, 5], ["masked"]),
        # all keys are later: nothing is left, and so no rectangle
        ([0, 1], [3, 4, 5], []),
    ],
)
def test_causal_inside_a_rectangle_of_any_shape(q, kv, inside):
    # another document, so that neither everything nor nothing is allowed as a whole
    q_axis = Axis(3, segments=[1, 1, 2], positions=[*q, 50])
    kv_axis = Axis(4, segments=[1, 1, 1, 2], positions=[*kv, 50])
    found = rectangles(causal & documents, q_axis, kv_axis)
    assert [one[3] for one in found] == [*inside, "whole"]


@pytest.mark.parametrize(
    "pattern, axis, why",
    [
        (window(1), plain, "neither documents nor padding"),
        (documents | window(0), packed, "neither documents nor padding"),
        (documents, Axis(3, segments=[0, 1, 0]), "queries of one document of sample 0 are not"),
        (padding, Axis(3, valid=[True, False, True]), "keys of the tokens of sample 0 are not"),
        (marked("m"), Axis(3, m=[[1, 1, 0], [1, 0, 1]]), "sample 1"),
    ],
    ids=str,
)
def test_what_falls_into_no_rectangles(pattern, axis, why):
    if "m" in axis.columns:
        axis = Axis(3, m=axis.columns["m"].bool())
    assert why in rectangles(pattern, axis)


def test_a_pattern_for_each_head_is_no_reason_to_refuse():
    found = rectangles(documents & per_head([causal, window(1)]), packed)
    assert [one[3] for one in found] == ["masked"] * 3


def test_recognising_asks_for_the_columns_as_the_mask_does():
    with pytest.raises(AxisError, match="segments"):
        recognise(documents, plain, plain)


def test_recognising_documents_and_padding_never_looks_at_all_pairs():
    length = 200_000  # all pairs would be 40 gigabytes
    axis = Axis.packed([1000] * 200, valid=torch.arange(length) < length - 5)
    assert len(find(Problem(causal & documents & padding, axis, axis))) == 200
