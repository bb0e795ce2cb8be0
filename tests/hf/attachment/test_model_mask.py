"""Rules of transformers as patterns, and attention with a bias, against their own matrices."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import masking_utils as theirs

from maskwright.attention import Axis
from maskwright.hf.attachment.biased import biased_attention
from maskwright.hf.attachment.model_mask import ModelMask, from_tensor, read, restricted

PLACES = torch.tensor([[0, 1, 2, 0, 1, 2, 3], [0, 1, 2, 3, 4, 0, 1]])
DOCUMENTS = torch.tensor([[0, 0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 0, 1, 1]])


def _packed(inner: Any) -> Any:
    return theirs.packed_sequence_compatibility_function(inner, PLACES, DOCUMENTS)


KNOWN = {
    "causal": theirs.causal_mask_function,
    "full": theirs.bidirectional_mask_function,
    "sliding": theirs.sliding_window_causal_mask_function(3),
    "sliding, one": theirs.sliding_window_causal_mask_function(1),
    "sliding both ways": theirs.sliding_window_bidirectional_mask_function(2),
    "packed": _packed(theirs.causal_mask_function),
    "packed and sliding": _packed(theirs.sliding_window_causal_mask_function(2)),
}


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("padded", [False, True])
def test_a_known_rule_is_the_same_as_a_pattern(name: str, padded: bool) -> None:
    real = torch.ones(2, 7, dtype=torch.bool)
    real[0, 5:] = not padded
    asked = {"batch_size": 2, "q_length": 7, "kv_length": 7, "attention_mask": real}
    mask = ModelMask({**asked, "mask_function": KNOWN[name]})
    assert mask.structure is not None
    axis = mask.sequence(7).axis({}, torch.device("cpu"))
    found = restricted(mask.structure, axis).dense(axis).expand(2, 1, 7, 7)
    assert torch.equal(found, mask.dense)


def _own(batch: Any, head: Any, q: Any, kv: Any) -> Any:
    return kv <= q


UNKNOWN = {
    "of the user's": _own,
    "chunked": theirs.chunked_causal_mask_function(3, torch.zeros(2, dtype=torch.long)),
    "either": theirs.or_masks(theirs.causal_mask_function, theirs.bidirectional_mask_function),
    "and unknown": theirs.and_masks(theirs.causal_mask_function, _own),
    "positions without packing": theirs.remap_positions_for_packed_sequence(
        theirs.chunked_overlay(3, torch.zeros(2, dtype=torch.long)), PLACES
    ),
    "positions with others": theirs.and_masks(
        theirs.causal_mask_function,
        theirs.remap_positions_for_packed_sequence(theirs.causal_mask_function, PLACES),
    ),
    "none": None,
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_another_rule_is_not_guessed(name: str) -> None:
    assert read(UNKNOWN[name]) is None


def test_positions_begin_behind_left_padding() -> None:
    real = torch.tensor([[0, 0, 1, 0, 1], [1, 1, 1, 1, 1]])
    asked = {"batch_size": 2, "q_length": 5, "kv_length": 5, "attention_mask": real}
    axis = ModelMask(asked).sequence(5).axis({}, torch.device("cpu"))
    assert axis.columns["positions"].tolist() == [[-2, -1, 0, 1, 2], [0, 1, 2, 3, 4]]
    # without padding, nothing is known of the axis but its length
    assert (
        ModelMask({**asked, "attention_mask": None}).sequence(5).axis({}, torch.device("cpu")).plain
    )


def test_a_mask_that_is_added() -> None:
    assert from_tensor(torch.tensor([0.0, -1e38, -torch.inf])).tolist() == [True, False, False]
    least = torch.finfo(torch.float16).min
    assert from_tensor(torch.tensor([0.0, least], dtype=torch.float16)).tolist() == [True, False]


def _slow(query: Tensor, key: Tensor, value: Tensor, allowed: Tensor, bias: Tensor) -> Tensor:
    """One query at a time, over the keys that it may see and no others."""
    out = torch.zeros(*query.shape[:3], value.shape[-1], dtype=query.dtype)
    group = query.shape[1] // key.shape[1]
    for b, h, i in torch.cartesian_prod(*map(torch.arange, query.shape[:3])).tolist():
        seen = allowed[b, h, i].nonzero()[:, 0]
        if len(seen):
            keys, values = key[b, h // group, seen], value[b, h // group, seen]
            scores = keys @ query[b, h, i] * 0.5 + bias[0, h, i, seen]
            out[b, h, i] = scores.softmax(0) @ values
    return out


@given(st.integers(0, 2**31), st.floats(0, 1), st.booleans())
def test_biased_attention(seed: int, density: float, weights: bool) -> None:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        made = torch.randn(*shape, generator=generator, dtype=torch.float64)
        return made.requires_grad_()

    query, key, value = draw(2, 4, 3, 5), draw(2, 2, 6, 5), draw(2, 2, 6, 5)
    bias = draw(1, 4, 3, 6)
    allowed = torch.rand(2, 4, 3, 6, generator=generator) < density
    found, shares = biased_attention(
        query, key, value, allowed, bias=bias, scale=0.5, weights=weights
    )
    expected = _slow(query, key, value, allowed, bias)
    near = 1e-6 if weights else 1e-10
    torch.testing.assert_close(found, expected, atol=near, rtol=near)
    assert (shares is not None) == weights
    if shares is not None:
        assert (shares[~allowed] == 0).all()
    inputs = (query, key, value, bias)
    # a row that sees nothing passes no gradient on
    mine = torch.autograd.grad(found.square().sum(), inputs)
    if expected.requires_grad:
        other = torch.autograd.grad(expected.square().sum(), inputs, allow_unused=True)
        for one, two in zip(mine, other, strict=True):
            two = torch.zeros_like(one) if two is None else two
            torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)
    else:
        assert all((one == 0).all() for one in mine)


def test_an_axis_of_a_sequence_moves_to_its_device() -> None:
    axis = (
        ModelMask({"batch_size": 1, "q_length": 3, "kv_length": 3})
        .sequence(3)
        .axis({"turn": torch.arange(3)}, torch.device("cpu"), placed=True)
    )
    assert isinstance(axis, Axis)
    assert sorted(axis.columns) == ["positions", "turn"]
