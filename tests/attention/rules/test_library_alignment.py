"""Where a mask is off by one: windows, alignment of unequal lengths, True and False, empty rows."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention

from maskwright.attention import (
    Axis,
    blockwise,
    causal,
    chunked,
    dilated,
    documents,
    global_tokens,
    padding,
    prefix,
    streaming_sink,
    strided,
    summaries,
    window,
)
from maskwright.errors import AxisError
from tests.attention.matrices import shown

CONTINUED = [
    # two queries behind a cache of three keys: the last rows of the square mask
    (causal, "11110/11111"),
    (window(1), "00111/00011"),
    (window(1, 0), "00110/00011"),
    (dilated(1, 2), "01010/00101"),
    (strided(2), "01010/10101"),
    (summaries(2), "01010/01010"),
    (chunked(2), "00110/00001"),
    (blockwise(2, 1), "11110/00111"),
    (prefix(2), "11000/11000"),
    (global_tokens(3), "11111/00010"),
    (global_tokens(-1), "00001/11111"),
    (global_tokens(-1, side="q"), "00000/11111"),
    (streaming_sink(1, 1), "10110/10011"),
]


@pytest.mark.parametrize("pattern, rows", CONTINUED, ids=lambda one: str(one)[:40])
def test_queries_that_continue_a_cache(pattern, rows):
    assert shown(pattern, 2, 5) == rows
    assert shown(pattern, 5).endswith(rows)


@pytest.mark.parametrize("pattern", [pattern for pattern, _ in CONTINUED], ids=str)
@given(st.integers(0, 12), st.integers(0, 12))
def test_generation_sees_the_rows_of_training(pattern, new, cached):
    """Decoding some tokens at a time behind a cache is the square mask, cut off."""
    whole = pattern.dense(Axis(new + cached))
    assert torch.equal(pattern.dense(Axis(new), Axis(new + cached)), whole[:, :, cached:])


UPPER_LEFT = [
    (causal("upper-left"), "10000/11000"),
    (window(1, align="upper-left"), "11000/11100"),
    (window(0, 1, "upper-left"), "11000/01100"),
    (dilated(1, 2, "upper-left"), "10100/01010"),
    (strided(2, "upper-left"), "10101/01010"),
    (chunked(2, "upper-left"), "11000/11000"),
    (blockwise(2, 0, 1, "upper-left"), "11110/11110"),
    (global_tokens(1, align="upper-left"), "01000/11111"),
]


@pytest.mark.parametrize("pattern, rows", UPPER_LEFT, ids=lambda one: str(one)[:40])
def test_upper_left(pattern, rows):
    assert shown(pattern, 2, 5) == rows
    assert shown(pattern, 5).startswith(rows)


def test_more_queries_than_keys():
    assert shown(causal, 4, 2) == "00/00/10/11"
    assert shown(causal("upper-left"), 4, 2) == "10/11/11/11"
    assert shown(window(1), 4, 2) == "00/10/11/11"
    assert shown(chunked(2), 4, 2) == "00/00/11/11"
    assert shown(causal, 1, 0) == ""
    assert causal.dense(Axis(0), Axis(3)).shape == (1, 1, 0, 3)


def test_positions_are_compared_as_they_are():
    cached = Axis(4, positions=[10, 11, 12, 13])
    assert shown(causal, Axis(2, positions=[11, 12]), cached) == "1100/1110"
    assert shown(causal("upper-left"), Axis(2, positions=[11, 12]), cached) == "1100/1110"
    assert shown(window(1), Axis(1, positions=[12]), cached) == "0111"
    assert shown(chunked(12), Axis(1, positions=[12]), cached) == "0011"
    # of one axis only: the other counts from 0
    assert shown(causal, 3, Axis(3, positions=[2, 0, 1])) == "010/011/111"
    assert shown(prefix(11), 1, cached) == "1000"
    # padding on the left: chunks begin at the first token, not at the padding
    left = Axis(5, positions=[-2, -1, 0, 1, 2], valid=[False, False, True, True, True])
    assert shown(causal & chunked(2) & padding, left) == "00000/00000/00100/00110/00001"


def test_positions_that_begin_anew_need_documents():
    axis = Axis(4, positions=[0, 1, 0, 1], segments=[0, 0, 1, 1])
    assert shown(causal, axis) == "1010/1111/1010/1111"
    assert shown(causal & documents, axis) == "1000/1100/0010/0011"


# ------------------------------------------------------------------ the field's conventions


@pytest.mark.parametrize("width", [1, 2, 5])
def test_a_sliding_window_of_hugging_face_counts_the_query_itself(width):
    masking = pytest.importorskip("transformers.masking_utils")
    theirs = masking.sliding_window_causal_mask_function(width)
    q, kv = torch.arange(9)[:, None], torch.arange(9)[None, :]
    mask = theirs(0, 0, q, kv)
    assert mask.sum(-1).max() == width
    assert torch.equal(window(width - 1, 0).dense(Axis(9))[0, 0], mask)
    assert torch.equal((causal & window(width - 1)).dense(Axis(9))[0, 0], mask)
    # both ways, theirs does not count it
    both = masking.sliding_window_bidirectional_overlay(width)(0, 0, q, kv)
    assert torch.equal(window(width).dense(Axis(9))[0, 0], both)


def test_causal_and_documents_of_hugging_face():
    masking = pytest.importorskip("transformers.masking_utils")
    segments = torch.tensor([[0, 0, 1, 1, 2], [0, 1, 1, 1, 1]])
    axis = Axis(5, segments=segments)
    mask = (causal & documents).dense(axis)
    packed = masking.packed_sequence_mask_function(segments)
    for sample in range(2):
        for query in range(5):
            for key in range(5):
                may = masking.causal_mask_function(sample, 0, query, key)
                may = may and bool(packed(sample, 0, query, key))
                assert mask[sample, 0, query, key] == may


def test_chunks_of_hugging_face_with_left_padding():
    masking = pytest.importorskip("transformers.masking_utils")
    left = torch.tensor([0, 3])
    theirs = masking.chunked_causal_mask_function(4, left)
    axis = Axis(10, positions=torch.arange(10) - left[:, None])
    found = (causal & chunked(4)).dense(axis)
    for sample in range(2):
        q, kv = torch.arange(10)[:, None], torch.arange(10)[None, :]
        assert torch.equal(found[sample, 0], theirs(sample, 0, q, kv))


def _attended(mask):
    """Which keys a query attends to, read from the output of torch's own attention."""
    q, kv = mask.shape[-2:]
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(1, 1, q, 8, generator=generator), torch.randn(1, 1, kv, 8)
    values = torch.eye(kv)[None, None]
    return scaled_dot_product_attention(query, key, values, attn_mask=mask) > 0


def test_true_means_may_attend_as_in_scaled_dot_product_attention():
    mask = (causal & window(2)).dense(Axis(6))
    assert torch.equal(_attended(mask), mask)
    assert not torch.equal(_attended(~mask), mask)


def test_multihead_attention_means_the_opposite():
    """`attn_mask` and `key_padding_mask` of `torch.nn.MultiheadAttention`: True = may not."""
    layer = torch.nn.MultiheadAttention(4, 1, batch_first=True)
    axis = Axis.padded(torch.tensor([[1, 1, 1, 0]]))
    mask = (causal & padding).dense(axis)
    _, weights = layer(*[torch.randn(1, 4, 4)] * 3, attn_mask=~mask[0, 0])
    assert torch.equal(weights > 0, mask[0])


def test_is_causal_of_torch_is_upper_left():
    query, key, values = torch.randn(1, 1, 2, 8), torch.randn(1, 1, 5, 8), torch.eye(5)[None, None]
    theirs = scaled_dot_product_attention(query, key, values, is_causal=True) > 0
    assert torch.equal(theirs, causal("upper-left").dense(Axis(2), Axis(5)))
    assert not torch.equal(theirs, causal.dense(Axis(2), Axis(5)))


def test_flash_attention_is_lower_right():
    from torch.nn.attention.bias import causal_lower_right, causal_upper_left

    for theirs, ours in (
        (causal_lower_right(2, 5), causal),
        (causal_upper_left(2, 5), causal("upper-left")),
    ):
        assert torch.equal(theirs._materialize(), ours.dense(Axis(2), Axis(5))[0, 0])


def test_empty_rows_are_rows_without_a_key():
    left = Axis.padded(torch.tensor([[0, 0, 1, 1]]))
    mask = (causal & padding).dense(left)
    assert mask.any(-1).tolist() == [[[False, False, True, True]]]
    output = scaled_dot_product_attention(*[torch.randn(1, 1, 4, 8)] * 3, attn_mask=mask)
    assert not output[0, 0, :2].any()


def test_the_end_of_keys_with_positions_is_unknown():
    with pytest.raises(AxisError, match="Mark the tokens in a channel"):
        global_tokens(0, -1).dense(Axis(2), Axis(3, positions=[0, 1, 2]))
