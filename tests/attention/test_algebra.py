"""Patterns combine as truth does, are values, and print as they are written."""

from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import maskwright.attention as library
from maskwright.attention import (
    Axis,
    causal,
    documents,
    full,
    nothing,
    padding,
    per_head,
    random_blocks,
    window,
)
from maskwright.attention.pattern import And, Not, Or, atoms
from maskwright.attention.table import Table
from maskwright.errors import AxisError, PatternError
from tests.attention.matrices import shown
from tests.attention.strategies import attentions, axes, pairs, patterns

SHORT = settings(max_examples=60)


@st.composite
def two(draw):
    """Two patterns, and axes that fit both."""
    q, kv = draw(pairs())
    return draw(patterns(q, kv, 4)), draw(patterns(q, kv, 4)), q, kv


def same(left, right, q, kv):
    """Whether two patterns allow the same; one may know of heads or samples that the other lost."""
    return torch.equal(*torch.broadcast_tensors(left.dense(q, kv), right.dense(q, kv)))


@SHORT
@given(two())
def test_combinations_are_those_of_the_masks(drawn):
    a, b, q, kv = drawn
    left, right = a.dense(q, kv), b.dense(q, kv)
    assert torch.equal(*torch.broadcast_tensors((a & b).dense(q, kv), left & right))
    assert torch.equal(*torch.broadcast_tensors((a | b).dense(q, kv), left | right))
    assert torch.equal((~a).dense(q, kv), ~left)
    heads = per_head([a, b]).dense(q, kv)
    assert heads.shape[1] == 2
    # a pattern that knows heads itself gives its first to the first, its second to the second
    assert torch.equal(*torch.broadcast_tensors(heads[:, 0], left[:, 0]))
    assert torch.equal(*torch.broadcast_tensors(heads[:, 1], right[:, -1]))


@SHORT
@given(two())
def test_de_morgan(drawn):
    a, b, q, kv = drawn
    assert same(~(a & b), ~a | ~b, q, kv)
    assert same(~(a | b), ~a & ~b, q, kv)


@SHORT
@given(attentions())
def test_what_is_simplified_means_the_same(drawn):
    a, q, kv = drawn
    assert a & full == a == full & a
    assert a | nothing == a == nothing | a
    assert a & nothing == nothing == nothing & a
    assert a | full == full == full | a
    assert a & a == a == a | a
    assert ~~a == a
    # and without simplification
    assert same(And((a, full, a)), a, q, kv)
    assert same(Or((nothing, a, a)), a, q, kv)
    assert same(Not(Not(a)), a, q, kv)
    assert same(And((a, nothing)), nothing, q, kv)
    assert same(Or((a, full)), full, q, kv)


def test_terms_of_one_kind_stand_side_by_side():
    pattern = causal & (window(4) & (documents & causal))
    assert isinstance(pattern, And)
    assert pattern.terms == (causal, window(4), documents)
    assert (causal | window(4)) | documents == causal | (window(4) | documents)


@pytest.mark.parametrize(
    "combine",
    [
        lambda a, b: a and b,
        lambda a, b: a or b,
        lambda a, b: not a,
        lambda a, b: b if a else None,
    ],
)
def test_python_words_do_not_combine(combine):
    with pytest.raises(PatternError) as caught:
        combine(causal, window(2))
    assert "The pattern `causal` is not true or false" in str(caught.value)
    assert "Write & for and, | for or, ~ for not" in str(caught.value)


@pytest.mark.parametrize("other", [True, None, 3, "causal"])
def test_only_patterns_combine(other):
    for combine in (lambda: causal & other, lambda: causal | other, lambda: other & causal):
        with pytest.raises(TypeError):
            combine()


def test_patterns_never_change():
    for pattern, field in ((window(2), "left"), (causal, "align"), (causal & window(2), "terms")):
        with pytest.raises(FrozenInstanceError):
            setattr(pattern, field, 1)


def test_equal_where_written_alike():
    assert window(2) == window(2, 2)
    assert window(2) != window(2, 1)
    assert causal & window(2) != window(2) & causal
    assert causal & window(2) != causal | window(2)
    assert causal != "causal"
    assert len({window(2), window(2), causal, causal("bottom-right"), ~causal}) == 3
    assert {causal & window(2): 1}[causal & window(2)] == 1


@given(attentions())
def test_copies_are_equal(drawn):
    pattern, *_ = drawn
    for again in (copy.deepcopy(pattern), pickle.loads(pickle.dumps(pattern))):
        assert again == pattern
        assert hash(again) == hash(pattern)


PRINTED = [
    (causal & window(2) | documents, "causal & window(2) | documents"),
    (causal & (window(2) | documents), "causal & (window(2) | documents)"),
    ((window(2) | documents) & causal, "(window(2) | documents) & causal"),
    (~causal & window(2), "~causal & window(2)"),
    (~(causal & window(2)), "~(causal & window(2))"),
    (~(causal | window(2)), "~(causal | window(2))"),
    (causal & ~(window(2) | ~documents), "causal & ~(window(2) | ~documents)"),
    (per_head([causal | padding, ~full]), "per_head([causal | padding, ~full])"),
    (~per_head([causal]) & causal, "~per_head([causal]) & causal"),
]


@pytest.mark.parametrize("pattern, source", PRINTED, ids=[source for _, source in PRINTED])
def test_printed_with_the_parentheses_it_needs(pattern, source):
    assert str(pattern) == source


@settings(max_examples=120)
@given(attentions(leaves=8))
def test_what_is_printed_is_what_was_written(drawn):
    pattern, *_ = drawn
    names = {name: getattr(library, name) for name in library.__all__}
    # the contents of a table are not written out: its name finds them
    tables = {
        value.name: value
        for atom in atoms(pattern)
        for value in vars(atom).values()
        if isinstance(value, Table)
    }
    names["table"] = tables.__getitem__
    again = eval(str(pattern), {"__builtins__": {}}, names)
    assert again == pattern
    assert str(again) == str(pattern)


def test_heads_must_agree():
    axis = Axis(3)
    assert shown(per_head([causal, full]), axis) == "100/110/111 111/111/111"
    with pytest.raises(AxisError, match="heads of an attention must be one number"):
        (per_head([causal, full]) & per_head([causal, full, causal])).dense(axis)
    with pytest.raises(AxisError, match=r"has 2, `random_blocks\(1, 2, heads=3\)` has 3"):
        (per_head([causal, full]) | random_blocks(1, 2, heads=3)).dense(axis)


def test_batches_must_agree():
    q, kv = Axis(2, valid=[[True, True]] * 2), Axis(2, valid=[[True, True]] * 3)
    with pytest.raises(AxisError, match="the q axis has 2, the kv axis has 3"):
        padding.dense(q, kv)
    one = Axis(2, valid=[[True, False]])
    assert padding.dense(q, one).shape == (2, 1, 2, 2)


@given(attentions())
def test_atoms_from_left_to_right(drawn):
    pattern, *_ = drawn
    source, place = str(pattern), 0
    for atom in atoms(pattern):
        found = source.find(str(atom), place)
        assert found >= 0
        # patterns of a per_head stand inside it
        place = found if atom.spelled == "per_head" else found + len(str(atom))


@given(axes(), axes())
def test_shapes(q, kv):
    assert causal.dense(q, kv).shape == (1, 1, q.length, kv.length)
    assert padding.dense(q, kv).dtype == torch.bool


@given(attentions())
def test_global_random_state_is_left_alone(drawn):
    pattern, q, kv = drawn
    before = torch.random.get_rng_state()
    pattern.dense(q, kv)
    pattern.blocks(q, kv, 4)
    assert torch.equal(torch.random.get_rng_state(), before)
