"""Block maps: their shape and shares, their sizes, and that they never look at all pairs."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from maskwright.attention import (
    EMPTY,
    FULL,
    PARTIAL,
    Axis,
    bigbird,
    block_diffusion,
    blockwise,
    causal,
    chunked,
    dilated,
    documents,
    full,
    longformer,
    marked,
    nothing,
    padding,
    per_head,
    permutation,
    prefix,
    same,
    streaming_sink,
    strided,
    summaries,
    window,
)
from maskwright.errors import PatternError


def states(pattern, *axes, size):
    found = pattern.blocks(*axes, size=size).states
    return " ".join(
        "/".join("".join(map(str, row)) for row in one.tolist()) for one in found.flatten(0, 1)
    )


def test_states_literally():
    assert (EMPTY, PARTIAL, FULL) == (0, 1, 2)
    assert states(causal, Axis(6), size=2) == "100/210/221"
    assert states(causal, Axis(5), size=2) == "100/210/222"  # the last has one pair: its own
    assert states(causal, Axis(6), size=(2, 3)) == "10/21/21"
    assert states(causal, Axis(2), Axis(6), size=2) == "221"
    assert states(window(1), Axis(8), size=2) == "2100/1210/0121/0012"
    assert states(documents, Axis.packed([2, 3, 1]), size=2) == "200/021/011"
    assert states(per_head([full, causal]), Axis(4), size=2) == "22/22 10/21"
    padded = Axis.padded(torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]]))
    assert states(padding, padded, size=2) == "21/21 20/20"
    assert states(causal & padding, padded, size=2) == "10/21 10/20"


def test_sizes_that_do_not_divide_and_sizes_above_the_length():
    assert states(full, Axis(5), Axis(7), size=(4, 3)) == "222/222"
    assert states(causal, Axis(5), size=100) == "1"
    assert states(~causal, Axis(1), size=100) == "0"
    assert states(window(4), Axis(5), size=(100, 2)) == "222"


@pytest.mark.parametrize("lengths, shape", [((0, 4), (0, 2)), ((4, 0), (2, 0)), ((0, 0), (0, 0))])
def test_nothing_to_attend_from_or_to(lengths, shape):
    q, kv = (Axis(n, segments=[[0] * n] * 3, valid=[True] * n) for n in lengths)
    found = (causal & documents & padding).blocks(q, kv, 2)
    assert found.states.shape == (3, 1, *shape)
    assert found.touched == found.share(EMPTY) == 0.0
    assert bigbird(2, heads=2).blocks(Axis(lengths[0]), Axis(lengths[1]), 2).states.shape == (
        1, 2, *shape
    )  # fmt: skip


def test_shares():
    found = causal.blocks(Axis(6), size=2)
    assert found.touched == 24 / 36
    assert (found.share(EMPTY), found.share(PARTIAL), found.share(FULL)) == (3 / 9, 3 / 9, 3 / 9)
    # a short last block counts for the pairs that it has
    assert causal.blocks(Axis(5), size=2).touched == (2 * 2 + 2 * 4 + 1 * 5) / 25
    assert nothing.blocks(Axis(5), size=2).touched == 0.0
    assert full.blocks(Axis(5), size=2).touched == 1.0
    assert per_head([full, nothing]).blocks(Axis(5), size=2).touched == 0.5


@pytest.mark.parametrize("size", [0, -1, (2, 0), (2, 2, 2), (2,), (2, 1.5), ()], ids=str)
def test_sizes_that_are_none(size):
    with pytest.raises(PatternError, match="Block size"):
        causal.blocks(Axis(4), size=size)


class Largest(TorchDispatchMode):
    """How many elements the largest tensor had that any operation gave."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for one in result if isinstance(result, tuple | list) else [result]:
            if isinstance(one, torch.Tensor):
                self.elements = max(self.elements, one.numel())
        return result


LONG, SIZE = 1 << 20, 4096
SCALED = [
    causal, causal & window(4095), dilated(512, 8), causal & (window(99, 0) | strided(4096)),
    summaries(4096, 8), causal & chunked(8192), blockwise(4096, 1, 1), causal | prefix(9999),
    documents & causal, padding("both"), same("tag"), marked("mark"), permutation,
    longformer(256, 0, -1), streaming_sink(4, 1023), bigbird(SIZE), block_diffusion(4096),
    per_head([causal, ~window(7)]),
]  # fmt: skip


@pytest.fixture(scope="module")
def long_axis():
    index = torch.arange(LONG)
    return Axis(LONG, segments=index // 100_000, valid=index < LONG - 77, tag=index % 3,
                mark=index % 5 == 0, order=index.flip(0))  # fmt: skip


@pytest.mark.parametrize("pattern", SCALED, ids=lambda one: str(one)[:40])
def test_a_map_of_a_million_tokens_never_holds_more_than_an_axis(pattern, long_axis):
    with Largest() as largest:
        found = pattern.blocks(long_axis, size=SIZE)
    assert found.states.shape[-2:] == (LONG // SIZE, LONG // SIZE)
    assert largest.elements <= LONG
    assert found.touched > 0


def test_the_largest_tensor_is_noticed():
    with Largest() as largest:
        causal.dense(Axis(300))
    assert largest.elements >= 300 * 256
