"""Attention received: against full attention probabilities, and what it costs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from maskwright.errors import BatchError, ConfigError
from maskwright.guidance import attention_received
from maskwright.guidance.received import _choose

CPU = torch.device("cpu")


def tensors(batch=3, heads=4, kv_heads=2, queries=9, keys=9, size=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    q = torch.randn(batch, heads, queries, size, generator=generator, dtype=torch.float64)
    k = torch.randn(batch, kv_heads, keys, size, generator=generator, dtype=torch.float64)
    return q, k


def reference(q, k, allowed, chosen, scale=None, bias=0.0, heads=None):
    """Pair by pair from the full probabilities. ``allowed`` (B, H, Q, K); ``chosen`` per sample."""
    k = k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
    scores = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale) + bias
    scores = scores.masked_fill(~allowed, -torch.inf)
    out = torch.full((q.shape[0], k.shape[2]), torch.nan, dtype=torch.float64)
    for b in range(q.shape[0]):
        for j in range(k.shape[2]):
            seen = [
                scores[b, h, i].softmax(-1)[j]
                for h in (range(q.shape[1]) if heads is None else heads)
                for i in chosen[b]
                if allowed[b, h, i, j]
            ]
            if seen:
                out[b, j] = torch.stack(seen).mean()
    return out


def close(found, wanted):
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-7, equal_nan=True)


PADDING = torch.tensor([[1] * 9, [1] * 4 + [0] * 5, [0] * 3 + [1] * 6])
EVERY = [range(9)] * 3
VALID = [range(9), range(4), range(3, 9)]


def test_literal():
    q = torch.tensor([[[[0.0], [1.0]]]])
    k = torch.tensor([[[[0.0], [2.0]]]])
    p = 1 / (1 + torch.tensor(2.0).exp())
    expected = torch.tensor([[(0.5 + p) / 2, (1.5 - p) / 2]])
    torch.testing.assert_close(attention_received(q, k, queries=None), expected)
    # the first query sees the first key alone; the second key is seen by the second query alone
    expected = torch.tensor([[(1 + p) / 2, 1 - p]])
    torch.testing.assert_close(attention_received(q, k, queries=None, causal=True), expected)
    torch.testing.assert_close(attention_received(q, k, scale=0.0), torch.full((1, 2), 0.5))


def test_all_queries_give_the_mean_of_full_attention():
    q, k = tensors()
    everything = torch.ones(3, 4, 9, 9, dtype=torch.bool)
    found = attention_received(q, k, queries=None)
    close(found, reference(q, k, everything, EVERY))
    full = (q @ k.repeat_interleave(2, 1).transpose(-1, -2) * 8**-0.5).softmax(-1)
    close(found, full.mean((1, 2)))
    torch.testing.assert_close(found.sum(1), torch.ones(3))
    assert torch.equal(found, attention_received(q, k, queries=9))
    assert torch.equal(found, attention_received(q, k, queries=100))


@pytest.mark.parametrize("causal", [False, True])
def test_padding(causal):
    q, k = tensors()
    allowed = PADDING[:, None, None].bool().expand(3, 4, 9, 9)
    if causal:
        allowed = allowed & torch.ones(9, 9, dtype=torch.bool).tril()
    found = attention_received(q, k, queries=None, mask=PADDING, causal=causal)
    close(found, reference(q, k, allowed, VALID))
    assert torch.equal(found.isnan(), PADDING == 0)
    # the same without the flag, and with padding said of keys and queries apart
    found = attention_received(q, k, queries=None, mask=allowed, valid=PADDING)
    close(found, reference(q, k, allowed, VALID))
    # without `valid`, what a layer computes at its padding counts
    found = attention_received(q, k, queries=None, mask=allowed)
    close(found, reference(q, k, allowed, EVERY))


@pytest.mark.parametrize("form", ["bool", "float"])
def test_any_mask(form):
    """A row that sees nothing, a column that nobody sees, heads that differ."""
    q, k = tensors()
    generator = torch.Generator().manual_seed(3)
    allowed = torch.rand(3, 4, 9, 9, generator=generator) < 0.5
    allowed[0, 1, 2] = False
    allowed[1, :, :, 4] = False
    mask, bias = allowed, 0.0
    if form == "float":
        bias = torch.randn(3, 4, 9, 9, generator=generator)
        mask = bias.masked_fill(~allowed, torch.finfo(torch.float32).min)
        mask[2] = bias[2].masked_fill(~allowed[2], -torch.inf)
    found = attention_received(q, k, queries=None, mask=mask)
    close(found, reference(q, k, allowed, EVERY, bias=bias))
    assert found[1, 4].isnan()
    one = attention_received(q, k, queries=None, mask=mask[:1, :1])
    shared = allowed[:1, :1].expand(3, 4, 9, 9)
    close(one, reference(q, k, shared, EVERY, bias=bias if form == "bool" else bias[:1, :1]))
    some = attention_received(q, k, queries=None, mask=mask, heads=[3, 1])
    close(some, reference(q, k, allowed, EVERY, bias=bias, heads=[3, 1]))


def test_cross_attention():
    q, k = tensors(queries=5, keys=9)
    seen = PADDING[:, None, None].bool().expand(3, 4, 5, 9)
    found = attention_received(q, k, queries=None, mask=PADDING, scale=0.3)
    close(found, reference(q, k, seen, [range(5)] * 3, scale=0.3))
    valid = torch.tensor([[1, 1, 1, 0, 0], [1] * 5, [0, 0, 0, 0, 1]])
    found = attention_received(q, k, queries=None, mask=PADDING, valid=valid)
    close(found, reference(q, k, seen, [range(3), range(5), [4]]))
    # the last query is beside the last key
    found = attention_received(q, k, queries=None, causal=True)
    close(found, reference(q, k, torch.ones(3, 4, 5, 9).tril(4).bool(), [range(5)] * 3))


# ------------------------------------------------------------------------- chosen queries


@given(
    lengths=st.lists(st.integers(0, 9), min_size=1, max_size=4),
    queries=st.integers(1, 10),
    left=st.booleans(),
    seed=st.integers(0, 2**64 - 1),
    step=st.integers(0, 10**6),
)
def test_some_queries(lengths, queries, left, seed, step):
    mask = torch.stack([torch.arange(9) < length for length in lengths])
    mask = mask.flip(1) if left else mask
    q, k = tensors(batch=len(lengths))
    chosen, real = _choose(len(lengths), 9, queries, mask, seed, step, CPU)
    picks = [row[is_real].tolist() for row, is_real in zip(chosen, real, strict=True)]
    for row, length, valid in zip(picks, lengths, mask, strict=True):
        assert len(set(row)) == len(row) == min(length, queries)
        assert valid[row].all()
    found = attention_received(q, k, queries=queries, mask=mask, seed=seed, step=step)
    close(found, reference(q, k, mask[:, None, None].expand(-1, 4, 9, 9), picks))


def test_a_sample_has_the_same_queries_in_any_batch():
    q, k = tensors(batch=1, queries=6, keys=6)
    alone = attention_received(q, k, queries=2, seed=5, step=3)
    for first in (0, 2, 4):  # padding on either side, beside another sample
        wide_q, wide_k = tensors(batch=2, queries=10, keys=10, seed=1)
        mask = torch.ones(2, 10, dtype=torch.int64)
        mask[0] = 0
        mask[0, first : first + 6] = 1
        wide_q[0, :, first : first + 6], wide_k[0, :, first : first + 6] = q[0], k[0]
        found = attention_received(wide_q, wide_k, queries=2, seed=5, step=3, mask=mask)
        torch.testing.assert_close(found[0, first : first + 6], alone[0])


def test_the_choice_is_keyed_and_even():
    def picks(seed, step):
        return tuple(_choose(1, 12, 3, None, seed, step, CPU)[0][0].tolist())

    assert picks(1, 2) == picks(1, 2)
    assert len({picks(seed, step) for seed in range(10) for step in range(10)}) > 90
    counts = torch.zeros(12)
    for step in range(4000):
        counts[list(picks(0, step))] += 1
    # 4000 draws of 3 from 12: 1000 each, and a standard deviation of 27
    assert (counts - 1000).abs().max() < 5 * 27


def test_under_a_causal_mask_later_keys_are_not_at_a_disadvantage():
    """Queries that attend evenly: the mean over those that see key j of 1 / (their place)."""
    q = torch.zeros(1, 1, 4, 2)
    found = attention_received(q, q, queries=None, causal=True)
    expected = torch.tensor([[25 / 48, 13 / 36, 7 / 24, 1 / 4]])
    torch.testing.assert_close(found, expected)


# ------------------------------------------------------------------------------- the rest


def test_apart_from_the_graph():
    q, k = (x.float().requires_grad_() for x in tensors())
    mask = torch.zeros(3, 1, 9, 9)
    before = q.detach().clone(), mask.clone()
    found = attention_received(q, k, mask=mask)
    assert not found.requires_grad
    assert torch.equal(q, before[0])
    assert torch.equal(mask, before[1])


def test_half_precision():
    q, k = tensors()
    exact = attention_received(q, k, queries=4, mask=PADDING)
    rough = attention_received(q.bfloat16(), k.bfloat16(), queries=4, mask=PADDING)
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, exact, rtol=0.1, atol=0.01, equal_nan=True)


def test_global_random_state_is_left_alone():
    before = torch.get_rng_state()
    attention_received(*tensors(), queries=2)
    assert torch.equal(before, torch.get_rng_state())


def test_nothing_at_all():
    q, k = tensors(batch=0)
    assert attention_received(q, k).shape == (0, 9)
    q, k = tensors(queries=0, keys=0)
    assert attention_received(q, k).shape == (3, 0)


def test_a_few_per_cent_of_a_layer():
    """In multiplications, which no other process on the machine can change."""
    batch, heads, length, size = 4, 8, 512, 32
    width = heads * size
    layer = torch.nn.TransformerEncoderLayer(width, heads, 4 * width, batch_first=True)
    x = torch.randn(batch, length, width)
    q = x.view(batch, length, heads, size).transpose(1, 2)
    with FlopCounterMode(display=False) as step:
        layer(x).sum().backward()
    with FlopCounterMode(display=False) as probe:
        attention_received(q, q, queries=16, mask=torch.ones(batch, length))
    with FlopCounterMode(display=False) as everything:
        attention_received(q, q, queries=None)
    assert probe.get_total_flops() == 2 * batch * heads * 16 * length * size
    assert everything.get_total_flops() == 32 * probe.get_total_flops()
    assert probe.get_total_flops() < 0.01 * step.get_total_flops()


QUERY, KEY = tensors()
WRONG = [
    ({"query": QUERY[0]}, BatchError, r"they are \(B, H, Q, D\)"),
    ({"key": KEY[:2]}, BatchError, r"they are \(B, H, Q, D\)"),
    ({"key": KEY[..., :4]}, BatchError, r"they are \(B, H, Q, D\)"),
    ({"key": torch.ones(3, 3, 9, 8)}, BatchError, "divides H"),
    ({"mask": torch.ones(3, 8)}, BatchError, r"mask is torch.float32 of shape \(3, 8\)"),
    ({"mask": torch.ones(2, 1, 9, 9)}, BatchError, "mask is"),
    ({"mask": torch.ones(3, 1, 9, 9, dtype=torch.int64)}, BatchError, "mask is torch.int64"),
    ({"valid": torch.ones(3, 8)}, BatchError, "valid has shape"),
    ({"queries": 0}, ConfigError, "at least 1, got 0"),
    ({"heads": [4]}, ConfigError, "among 0 … 3"),
    ({"heads": []}, ConfigError, "among 0 … 3"),
]


@pytest.mark.parametrize("wrong, error, message", WRONG)
def test_refused(wrong, error, message):
    given = {"query": QUERY, "key": KEY, **wrong}
    with pytest.raises(error, match=message):
        attention_received(given.pop("query"), given.pop("key"), **given)
