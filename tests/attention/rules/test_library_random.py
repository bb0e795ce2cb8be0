"""Random blocks: how many, how often, and the same everywhere."""

from __future__ import annotations

import subprocess
import sys

import torch
from hypothesis import given
from hypothesis import strategies as st

from maskwright import randomness
from maskwright.attention import Axis, bigbird, blockwise, global_tokens, random_blocks
from tests.attention.matrices import shown

# what seed 7 draws, once and for all
DRAWN = "00001/00001/11000/11000/00110"


def by_hand(count, size, seed, head, q, kv):
    """Pair by pair, in Python's integers: the blocks of keys with the smallest hashes."""
    rows = []
    columns = -(-kv // size)
    for query in range(q):
        key = randomness.absorb(randomness.run_key(seed, 0, head), query // size)
        key = randomness.absorb(key, randomness.BLOCKS)
        ranked = sorted(range(columns), key=lambda block, key=key: randomness.draw(key, block))
        rows.append([other // size in ranked[:count] for other in range(kv)])
    return torch.tensor(rows, dtype=torch.bool).reshape(q, kv)


@given(
    st.integers(0, 5), st.integers(1, 5), st.integers(-(2**70), 2**70),
    st.integers(0, 16), st.integers(0, 16), st.sampled_from([None, 1, 3]),
)  # fmt: skip
def test_the_draw_is_the_hash_by_hand(count, size, seed, q, kv, heads):
    mask = random_blocks(count, size, seed, heads).dense(Axis(q), Axis(kv))
    assert mask.shape == (1, heads or 1, q, kv)
    for head in range(heads or 1):
        assert torch.equal(mask[0, head], by_hand(count, size, seed, head, q, kv))


@given(st.integers(0, 6), st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**64))
def test_each_row_has_exactly_so_many_blocks(count, q, kv, seed):
    assert (random_blocks(count, 1, seed).dense(Axis(q), Axis(kv)).sum(-1) == min(count, kv)).all()


def test_the_same_in_another_process():
    code = (
        "from maskwright.attention import *; import torch; "
        "print(random_blocks(1, 2, 7).dense(Axis(5)).int().flatten().tolist())"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown(random_blocks(1, 2, 7), 5) == DRAWN
    assert other.stdout.strip() == str([int(one) for one in DRAWN.replace("/", "")])


def test_seeds_and_heads_draw_for_themselves():
    axis = Axis(32)
    assert not torch.equal(random_blocks(2, 1, 0).dense(axis), random_blocks(2, 1, 1).dense(axis))
    heads = random_blocks(2, 1, 0, heads=4).dense(axis)[0]
    assert len({str(one.tolist()) for one in heads}) == 4
    assert torch.equal(heads[0], random_blocks(2, 1, 0).dense(axis)[0, 0])


def test_every_block_is_drawn_as_often_as_any_other():
    seen = random_blocks(4, 1, 11, heads=50).dense(Axis(400), Axis(16)).sum((0, 1, 2)).double()
    expected = 400 * 50 * 4 / 16
    assert ((seen - expected).abs() < 5 * (expected * (1 - 4 / 16)) ** 0.5).all()


def test_bigbird_is_its_parts():
    axis = Axis(23)
    whole = bigbird(4, 2, seed=5, heads=3).dense(axis)
    parts = blockwise(4, 1, 1).dense(axis) | global_tokens(
        *range(4), *range(20, 23)
    ).dense(axis)  # fmt: skip
    assert torch.equal(whole, parts | random_blocks(2, 4, 5, 3).dense(axis))
