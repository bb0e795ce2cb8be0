"""Rules from a target to its source: their three evaluations agree with loops over pairs."""

from __future__ import annotations

from math import ceil, floor

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maskwright.attention import (
    EMPTY,
    FULL,
    Axis,
    aligned,
    chunked_streaming,
    monotonic_window,
    top_k,
    visible,
    wait_k,
)
from tests.attention.matrices import grid
from tests.attention.strategies import BLOCK_SIZES, SEEDS, attentions
from tests.attention.test_soundness import check_sound, truth_of_blocks

FEW = st.integers(0, 5)
LENGTHS = st.integers(0, 14)
RATES = st.sampled_from([1, 2, 0.5, 0.75, 1.5, 3])


def by_hand(allowed, q, kv):
    rows = [[allowed(t, s) for s in range(kv)] for t in range(q)]
    return torch.tensor(rows, dtype=torch.bool).reshape(q, kv)


@given(st.integers(1, 5), RATES, LENGTHS, LENGTHS)
def test_wait_k_pair_by_pair(k, rate, q, kv):
    found = wait_k(k, rate).dense(Axis(q), Axis(kv))[0, 0]
    assert torch.equal(
        found, by_hand(lambda t, s: s < k - ceil(rate) + ceil(rate * (t + 1)), q, kv)
    )


@given(st.integers(1, 5), st.none() | FEW, FEW, RATES, LENGTHS, LENGTHS)
def test_chunks_pair_by_pair(chunk, left, lookahead, rate, q, kv):
    def heard(t, s):
        here = floor(t * rate) // chunk
        oldest = 0 if left is None else (here - left) * chunk
        return oldest <= s < (here + 1) * chunk + lookahead

    pattern = chunked_streaming(chunk, left, lookahead, rate)
    assert torch.equal(pattern.dense(Axis(q), Axis(kv))[0, 0], by_hand(heard, q, kv))


@given(FEW, FEW, st.lists(st.tuples(LENGTHS, LENGTHS), min_size=1, max_size=4))
def test_the_diagonal_of_each_sample_is_that_of_its_own_lengths(left, right, lengths):
    """A padded batch gives each sample the mask that it has by itself."""
    q_most, kv_most = (max(one) for one in zip(*lengths, strict=True))
    sizes = torch.tensor(lengths)
    q = Axis(q_most, valid=torch.arange(q_most) < sizes[:, :1])
    kv = Axis(kv_most, valid=torch.arange(kv_most) < sizes[:, 1:])
    found = monotonic_window(left, right).dense(q, kv)
    for sample, (target, source) in enumerate(lengths):
        alone = by_hand(
            lambda t, s, target=target, source=source: (
                -left <= s - floor((t + 0.5) * source / target) <= right
            ),
            target, source,
        )  # fmt: skip
        assert torch.equal(found[sample, 0, :target, :source], alone)


LINKS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 8)), max_size=12)


@given(st.lists(LINKS, min_size=1, max_size=3), FEW, st.sampled_from(["all", "nothing"]))
def test_links_pair_by_pair(samples, radius, unaligned):
    found = aligned(samples, radius, unaligned).dense(Axis(8), Axis(9))
    assert len(found) == len(samples)
    for links, mask in zip(samples, found[:, 0], strict=True):

        def linked(t, s, links=links):
            own = [source for target, source in links if target == t]
            return any(abs(s - one) <= radius for one in own) if own else unaligned == "all"

        assert torch.equal(mask, by_hand(linked, 8, 9))


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(attentions(empty=False))
def test_a_kernel_sees_the_same_mask(attention):
    pattern, q, kv = attention
    mask = pattern.dense(q, kv)
    batch, heads, *_ = mask.shape
    assert torch.equal(grid(pattern.mask_mod(q, kv), batch, heads, q.length, kv.length), mask)


PATTERNS = [
    wait_k(3),
    wait_k(2, 1.5),
    wait_k(5, 0.25),
    chunked_streaming(4),
    chunked_streaming(3, 1, 2),
    chunked_streaming(4, 0, rate=2),
    monotonic_window(2),
    monotonic_window(0, 3, rate=1.5),
    visible(torch.rand(20, 24, generator=torch.Generator().manual_seed(1)) > 0.3),
    top_k(torch.rand(20, 24, generator=torch.Generator().manual_seed(2)), 3),
    top_k(torch.rand(5, 3, generator=torch.Generator().manual_seed(3)), 2, (4, 8)),
]


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda one: str(one)[:30])
@pytest.mark.parametrize("size", [1, 3, (4, 5), (4, 8), 64], ids=str)
def test_no_block_is_partial_without_need(pattern, size):
    q, kv = Axis(20), Axis(24)
    pair = (size, size) if isinstance(size, int) else size
    some, every = truth_of_blocks(pattern.dense(q, kv), pair)
    found = pattern.blocks(q, kv, size).states
    assert torch.equal(found != EMPTY, some)
    assert torch.equal(found == FULL, every)


@given(SEEDS, BLOCK_SIZES, st.integers(0, 3))
def test_links_are_sound_on_blocks(seed, size, radius):
    generator = torch.Generator().manual_seed(seed)
    links = [
        [tuple(one) for one in torch.randint(0, 30, (count, 2), generator=generator).tolist()]
        for count in (0, 12, 40)
    ]
    for unaligned in ("all", "nothing"):
        check_sound(aligned(links, radius, unaligned), Axis(40), Axis(30), size)


def test_blocks_far_from_the_diagonal_have_no_work():
    """Links near the diagonal leave the rest of a long source alone."""
    pattern = aligned([(t, t) for t in range(1024)], 8)
    found = pattern.blocks(Axis(1024), Axis(1024), 64)
    assert found.touched < 0.2
