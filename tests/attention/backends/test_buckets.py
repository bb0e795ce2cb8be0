"""Short documents of many lengths in a few calls, against the plain mask and one call for each."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maskwright.attention import Axis, attend, causal, documents
from maskwright.attention.backends import buckets, document
from maskwright.attention.backends.problem import Problem
from maskwright.attention.backends.rectangles import FLAG, MASKED, WHOLE, Rectangle, find

HEADS, SIZE = 2, 8


def row(lengths):
    """Documents side by side: the rectangles of attention within them."""
    ends = np.cumsum(lengths).tolist()
    return [
        Rectangle(0, end - length, end, end - length, end, WHOLE)
        for end, length in zip(ends, lengths, strict=True)
    ]


def grouped(found, *, inside=WHOLE, lengths=None, heads=1, call=10_000, short=48):
    found = [Rectangle(*list(vars(one).values())[:5], inside) for one in found]
    total = sum(one.shape[0] for one in found), sum(one.shape[1] for one in found)
    groups = buckets.group(found, lengths or total, heads, call, short)
    return groups and sorted(sorted(one.shape[1] for one in group) for group in groups)


def test_short_documents_share_calls():
    lengths = [3, 9, 5, 4, 7, 6, 200, 8]
    assert grouped(row(lengths)) == [[3, 4, 5, 6, 7, 8, 9], [200]]
    assert grouped(row(lengths), call=0) is None  # calls for nothing
    assert grouped(row(lengths), heads=32) is None  # much to move
    assert grouped(row([300, 600, 900])) is None  # work enough for a call each


def test_documents_of_one_length_share_a_call_where_it_costs_more_than_the_copies():
    assert buckets.joins((8, 8), 3, copies=16, call=20_000)
    assert not buckets.joins((8, 8), 3, copies=32, call=20_000)
    assert not buckets.joins((8, 8), 1, copies=1, call=20_000)


def test_what_cannot_be_filled_up():
    found = row([3, 4, 5, 6])
    assert grouped(found, inside=FLAG) == [[3, 4, 5, 6]]
    assert grouped(found, inside=MASKED) is None
    assert grouped(found, lengths=(19, 18)) is None  # a token is in no document
    tall = [Rectangle(0, one.top * 2, one.bottom * 2, one.left, one.right, FLAG) for one in found]
    assert grouped(tall, inside=FLAG) is None
    assert grouped(tall) == [[3, 4, 5, 6]]


@pytest.fixture(scope="module")
def sides():
    return row([2, 5, 3]), buckets.prepare([row([2, 5, 3])], torch.device("cpu"))


def test_copies_fill_up_and_are_dropped(sides):
    _, made = sides
    assert made.shapes == ((3, 5, 5),)
    assert made.q.tokens.tolist() == [0, 1, 1, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9]
    assert made.q.places.tolist() == [0, 1, 5, 6, 7, 8, 9, 10, 11, 12]
    assert made.q.filling.tolist() == [2, 3, 4, 13, 14]
    assert made.calls[0].mask.squeeze().tolist() == [
        [True, True, False, False, False],
        [True] * 5,
        [True, True, True, False, False],
    ]


def test_a_move_and_its_gradient(sides):
    _, made = sides
    x = torch.arange(10.0)[None, :, None].requires_grad_()
    spread = made.q.spread(x)
    assert torch.equal(made.q.gathered(spread), x)
    (grad,) = torch.autograd.grad(made.q.gathered(spread * 3).sum(), x)
    assert torch.equal(grad, torch.full_like(x, 3))
    places = torch.arange(15.0)[None, :, None].requires_grad_()
    (grad,) = torch.autograd.grad(made.q.gathered(places).sum(), places)
    assert grad.flatten().nonzero().flatten().tolist() == made.q.places.tolist()


@st.composite
def rows(draw):
    lengths = st.lists(st.integers(1, 12), min_size=3, max_size=12)
    q = draw(lengths)
    kv = draw(st.lists(st.integers(1, 12), min_size=len(q), max_size=len(q)))
    rule = draw(st.sampled_from([documents, causal & documents]))
    return rule, q, (q if rule != documents or draw(st.booleans()) else kv)


@given(rows(), st.integers(0, 2**16), st.sampled_from([10_000, 2_000, 0]))
def test_equal_to_the_mask_itself(row_, seed, call):
    """At the price of calls that there is, and at those that let documents have calls alone."""
    with patch.dict(document.CALL, cpu=call):
        require_equal(row_, seed, call)


def require_equal(row_, seed, call):
    rule, q_lengths, kv_lengths = row_
    q, kv = Axis.packed(q_lengths), Axis.packed(kv_lengths)
    problem = Problem(rule, q, kv, heads=HEADS, kv_heads=1)
    found = find(problem)
    groups = buckets.group(found, (q.length, kv.length), HEADS, call, 48)
    made = document.prepare(problem)
    # one bucket for all, or several, or each length by itself, as they are
    assert (made.shared is None) == (groups is None or made.equal > 0)
    if made.shared is None and not made.equal and call == 0:
        assert len(made.calls) == len(found)
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(1, HEADS, q.length, SIZE, generator=generator)
    key, value = (torch.randn(1, 1, kv.length, SIZE, generator=generator) for _ in range(2))
    sent = torch.randn(query.shape, generator=generator)
    results = []
    for backend in ("document", "dense"):
        inputs = [x.clone().requires_grad_() for x in (query, key, value)]
        out = attend(*inputs, rule, q=q, kv=kv, backend=backend)
        results.append([out, *torch.autograd.grad(out, inputs, sent)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
