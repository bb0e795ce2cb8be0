"""The block-sparse kernels equal a dense softmax in double precision: output and gradients."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from maskwright.attention import Axis, causal, documents, full, nothing, padding, per_head, window
from maskwright.attention.backends import blocksparse, layout, schedule
from maskwright.attention.backends.fused_cpu import FUSED, PLAIN, Kernels
from maskwright.attention.blocks import EMPTY
from maskwright.attention.pattern import Pattern
from maskwright.errors import AxisError, BackendError, PatternError
from tests.attention.strategies import HEADS, attentions

NAMES = ("output", "grad of query", "grad of key", "grad of value")
# Of the largest number expected; about what dense SDPA is off by itself.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 5e-6, torch.bfloat16: 1.6e-2}
KERNELS = pytest.mark.parametrize("kernel", [FUSED, PLAIN], ids=lambda kernel: kernel.name)


def draw(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator).to(dtype)


def inputs(
    q: Axis, kv: Axis, batch: int = 1, heads: int = 1, dim: int = 8, dtype=torch.float32
) -> list[Tensor]:
    """Query, key, value and the gradient of the output."""
    lengths = (q.length, kv.length, kv.length, q.length)
    return [
        draw(batch, heads, length, dim, dtype=dtype, seed=number)
        for number, length in enumerate(lengths)
    ]


def outcome(given: list[Tensor], plan: layout.Layout, kernel: Kernels | None) -> list[Tensor]:
    leaves = [one.detach().requires_grad_() for one in given[:3]]
    out = blocksparse.run(*leaves, plan, kernel=kernel)
    return [out.detach(), *torch.autograd.grad(out, leaves, given[3])]


def oracle(given: list[Tensor], allowed: Tensor) -> list[Tensor]:
    """A softmax over the allowed keys; the scores of empty rows are zeros throughout."""
    query, key, value = (one.detach().double().requires_grad_() for one in given[:3])
    empty = ~allowed.any(-1, keepdim=True)
    scores = query @ key.mT * query.shape[-1] ** -0.5
    scores = scores.masked_fill(~allowed, -torch.inf).masked_fill(empty, 0.0)
    out = scores.softmax(-1).masked_fill(~allowed, 0.0) @ value
    return [out.detach(), *torch.autograd.grad(out, (query, key, value), given[3].double())]


def assert_equal_to_oracle(found: list[Tensor], wanted: list[Tensor]) -> None:
    for name, one, right in zip(NAMES, found, wanted, strict=True):
        if right.numel():
            most = max(1.0, float(right.abs().max()))
            off = float((one.double() - right).abs().max())
            assert off <= TOLERANCE[one.dtype] * most, f"{name} is off by {off} of {most}"


def check(
    pattern: Pattern,
    q: Axis,
    kv: Axis | None = None,
    *,
    size: int | tuple[int, int] | None = None,
    kernel: Kernels | None = None,
    **options,
) -> layout.Layout:
    kv = q if kv is None else kv
    tensors = inputs(q, kv, **options)
    plan = blocksparse.plan(pattern, q, kv, size, tensors[0].dtype)
    wanted = oracle(tensors, pattern.dense(q, kv))
    assert_equal_to_oracle(outcome(tensors, plan, kernel), wanted)
    return plan


# --------------------------------------------------------------------- against the oracle


@KERNELS
@given(
    attention=attentions(leaves=4),
    size=st.sampled_from([(1, 1), (2, 3), (4, 4), (64, 64)]),
    batch=st.integers(1, 3),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float64]),
)
@settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow])
def test_any_expression_on_any_axes(kernel, attention, size, batch, dtype) -> None:
    pattern, q, kv = attention
    own = pattern.dense(q, kv).shape
    batch = own[0] if own[0] > 1 else batch
    check(pattern, q, kv, size=size, kernel=kernel, batch=batch, heads=HEADS, dtype=dtype)


DOCUMENTS = [100, 3, 200, 64, 300, 1, 132]
LONG = Axis.packed(DOCUMENTS)
PADDED = Axis(700, valid=torch.arange(700) < torch.tensor([[700], [333], [64], [0]]))
CASES = {
    "causal": (causal, LONG),
    "window": (window(90), LONG),
    "one-sided": (window(70, 0), LONG),
    "documents": (documents, LONG),
    "causal documents": (causal & documents, LONG),
    "all but near": (~window(100), LONG),
    "beginning and window": (causal & (window(50) | ~window(600)), LONG),
    "heads": (per_head([causal, window(20), causal, ~documents]), LONG),
    "padding": (causal & padding, PADDED),
    "nothing": (nothing, LONG),
    "full": (full, LONG),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("case", CASES)
def test_long_axes(case: str, dtype: torch.dtype) -> None:
    pattern, axis = CASES[case]
    plan = check(pattern, axis, batch=axis.batch or 2, heads=4, dtype=dtype)
    assert 0 <= plan.touched <= 1


@KERNELS
@pytest.mark.parametrize("align", ["upper-left", "bottom-right"])
@pytest.mark.parametrize("lengths", [(40, 300), (300, 40), (129, 130), (1, 200), (200, 1)])
def test_rectangular(lengths, align, kernel) -> None:
    """Where queries outnumber the keys, the first rows have nothing, or the last ones all."""
    q, kv = map(Axis, lengths)
    check(causal(align), q, kv, kernel=kernel, batch=2, heads=2)
    check(window(30, 5, align), q, kv, size=(16, 32), kernel=kernel, heads=2)


@pytest.mark.parametrize("dim", [1, 3, 33, 64, 80, 128, 257])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_any_head_dimension(dim: int, dtype: torch.dtype) -> None:
    check(causal & window(60), Axis(200), heads=2, dim=dim, dtype=dtype)


def test_values_of_another_dimension() -> None:
    q = Axis(150)
    query, key, *_ = inputs(q, q, heads=2)
    tensors = [query, key, draw(1, 2, 150, 5), draw(1, 2, 150, 5)]
    plan = blocksparse.plan(window(40), q)
    assert_equal_to_oracle(outcome(tensors, plan, None), oracle(tensors, window(40).dense(q)))


def test_large_rows_of_half_types_stay_in_them() -> None:
    """From 768 rows on a span is worked out in bfloat16, and merged in single precision."""
    axis = Axis(2048)
    plan = check(causal, axis, dtype=torch.bfloat16, heads=1, dim=64)
    assert max(span.rows.stop - span.rows.start for span in plan.spans) >= schedule.NATIVE_ROWS
    assert any(len(span.parts) == 2 for span in plan.spans)


def test_as_exact_in_bfloat16_as_dense_attention() -> None:
    axis = Axis(1024)
    tensors = inputs(axis, axis, heads=2, dim=64, dtype=torch.bfloat16)
    allowed = window(100).dense(axis)
    wanted = oracle(tensors, allowed)
    ours = outcome(tensors, blocksparse.plan(window(100), axis, dtype=torch.bfloat16), None)
    leaves = [one.detach().requires_grad_() for one in tensors[:3]]
    out = torch.nn.functional.scaled_dot_product_attention(*leaves, attn_mask=allowed)
    theirs = [out.detach(), *torch.autograd.grad(out, leaves, tensors[3])]
    for name, mine, other, right in zip(NAMES, ours, theirs, wanted, strict=True):
        off = float((mine.double() - right).square().mean().sqrt())
        assert off <= 1.1 * float((other.double() - right).square().mean().sqrt()), name


@KERNELS
def test_gradients_are_those_of_finite_differences(kernel) -> None:
    q, kv = Axis(7, segments=[0, 0, 1, 1, 1, 2, 3]), Axis(6, segments=[0, 0, 1, 1, 2, 2])
    plan = blocksparse.plan(documents & causal("upper-left"), q, kv, 2, torch.float64)
    leaves = [one.double().requires_grad_() for one in inputs(q, kv, heads=2, dim=3)[:3]]
    assert torch.autograd.gradcheck(
        lambda *sides: blocksparse.run(*sides, plan, 0.7, kernel), leaves
    )


# ---------------------------------------------------------------------------- empty rows


@KERNELS
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_with_nothing_are_exactly_zero(kernel, dtype) -> None:
    """Rows in no span, rows that share a block with others, and rows of one sample only."""
    q = Axis(300, segments=[9] * 10 + [0] * 90 + [9] * 5 + [1] * 100 + [9] * 95)
    kv = Axis(150, segments=[0] * 80 + [1] * 70)
    tensors = inputs(q, kv, batch=2, heads=2, dtype=dtype)
    plan = blocksparse.plan(documents, q, kv, dtype=dtype)
    out, grad_query, *others = outcome(tensors, plan, kernel)
    empty = q.columns["segments"] == 9
    assert (out[:, :, empty] == 0).all()
    assert (grad_query[:, :, empty] == 0).all()
    assert (out[:, :, ~empty] != 0).any(-1).all()
    assert all(one.isfinite().all() for one in (out, grad_query, *others))


@pytest.mark.parametrize("lengths", [(0, 5), (5, 0), (0, 0)])
def test_no_queries_or_no_keys(lengths) -> None:
    q, kv = map(Axis, lengths)
    out, *grads = outcome(inputs(q, kv, heads=2), blocksparse.plan(full, q, kv), None)
    assert out.shape == (1, 2, q.length, 8)
    assert all((one == 0).all() for one in (out, *grads))


def test_an_empty_batch() -> None:
    axis = Axis(10)
    out, *_ = outcome(inputs(axis, axis, batch=0), blocksparse.plan(causal, axis), None)
    assert out.shape == (0, 1, 10, 8)


# ------------------------------------------------------------------------- form of inputs


def test_strides_change_nothing() -> None:
    axis = Axis(200)
    plan = blocksparse.plan(window(30), axis)
    straight = inputs(axis, axis, batch=2, heads=3)
    turned = [one.transpose(1, 2).contiguous().transpose(1, 2) for one in straight]
    wide = [torch.stack((one, one), -1)[..., 0] for one in straight]
    wanted = outcome(straight, plan, None)
    for given_ in (turned, wide):
        assert not given_[1].is_contiguous()
        for one, other in zip(outcome(given_, plan, None), wanted, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_expanded_heads_and_an_expanded_gradient() -> None:
    axis = Axis(100)
    query, key, value, _ = inputs(axis, axis, heads=1)
    tensors = [one.expand(1, 3, 100, 8) for one in (query, key, value)]
    tensors.append(torch.ones(1, 1, 1, 1).expand(1, 3, 100, 8))
    plan = blocksparse.plan(causal, axis)
    assert_equal_to_oracle(outcome(tensors, plan, None), oracle(tensors, causal.dense(axis)))


def test_a_query_of_one_row_for_all() -> None:
    axis = Axis(70)
    tensors = inputs(axis, axis)
    tensors[0] = tensors[0][:, :, :1].expand(1, 1, 70, 8)
    plan = blocksparse.plan(causal, axis)
    assert_equal_to_oracle(outcome(tensors, plan, None), oracle(tensors, causal.dense(axis)))


def test_the_same_bits_twice() -> None:
    axis = LONG
    pattern = causal & (window(50) | ~window(600))
    tensors = inputs(axis, axis, batch=2, heads=2)
    first = outcome(tensors, blocksparse.plan(pattern, axis), None)
    second = outcome(tensors, blocksparse.plan(pattern, axis), None)
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)


def test_inputs_are_left_as_they_are() -> None:
    axis = Axis(100)
    tensors = inputs(axis, axis)
    before = [one.clone() for one in tensors]
    outcome(tensors, blocksparse.plan(causal, axis), None)
    assert all(torch.equal(one, other) for one, other in zip(tensors, before, strict=True))


def test_a_scale_of_ones_own() -> None:
    axis = Axis(60)
    query, key, value, _ = inputs(axis, axis)
    plan = blocksparse.plan(causal, axis)
    found = blocksparse.run(query, key, value, plan, 0.5)
    same = blocksparse.run(query * 0.5 * 8**0.5, key, value, plan)
    torch.testing.assert_close(found, same)


# -------------------------------------------------------------------------------- layouts


def test_equal_masks_are_one_tensor() -> None:
    plan = blocksparse.plan(window(128), Axis(4096), size=128)
    masks = {id(p.mask) for s in plan.spans for p in s.parts if p.mask is not None}
    assert len(plan.spans) > 8
    assert len(masks) <= 3  # at the beginning, in the middle, at the end
    assert plan.bytes < 4096 * 64


def test_heads_and_samples_with_equal_maps_go_together() -> None:
    plan = blocksparse.plan(per_head([causal, window(9), causal, window(9)]), Axis(64), size=16)
    assert sorted({span.heads.indices(4) for span in plan.spans}) == [(0, 3, 2), (1, 4, 2)]
    valid = torch.ones(3, 64, dtype=torch.bool)
    valid[1, 32:] = False
    axis = Axis(64, valid=valid)
    plan = blocksparse.plan(padding, axis, size=32)
    assert {span.samples.indices(3) for span in plan.spans} == {(0, 3, 2), (1, 2, 1)}


@pytest.mark.parametrize(
    "numbers, slices",
    [
        ([0, 1, 2], [(0, 3, 1)]),
        ([1, 3, 5], [(1, 6, 2)]),
        ([4], [(4, 5, 1)]),
        ([0, 1, 5, 7], [(0, 2, 1), (5, 8, 2)]),
    ],
)
def test_numbers_as_slices(numbers, slices) -> None:
    found = layout._regular(numbers, 9)
    assert [(one.start, one.stop, one.step) for one in found] == slices
    assert [n for one in found for n in range(9)[one]] == numbers


def test_only_what_is_needed_is_touched() -> None:
    """Documents as long as blocks: exactly their squares, and not one mask."""
    plan = blocksparse.plan(documents, Axis.packed([128] * 16))
    assert plan.touched == pytest.approx(1 / 16)
    assert plan.bytes == 0
    assert blocksparse.plan(nothing, Axis(500)).touched == 0


def test_partial_blocks_that_turn_out_empty_or_full() -> None:
    """Of what intervals cannot decide (here: even segments beside odd ones), the pairs decide."""
    axis = Axis(256, segments=torch.arange(256) % 2 * 2)
    apart = Axis(256, segments=torch.ones(256, dtype=torch.int64))
    assert (documents.blocks(axis, apart, 64).states != EMPTY).all()
    assert blocksparse.plan(documents, axis, apart).spans == ()
    plan = blocksparse.plan(~documents, axis, apart)
    assert plan.touched == 1
    assert plan.bytes == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("seed", range(4))
def test_spans_hold_every_touched_block_once(seed: int, dtype: torch.dtype) -> None:
    touched = np.random.default_rng(seed).random((21, 17)) < (0.02, 0.2, 0.6, 1)[seed]
    spans = schedule.cut_rows(touched, 1300, 1070, (64, 64), dtype)
    rows = [row for span in spans for row in range(span.start, span.stop)]
    assert rows == sorted(set(rows))
    for number, needed in enumerate(touched):
        if needed.any():
            (span,) = (s for s in spans if s.start <= number * 64 < s.stop)
            assert not (needed & ~span.blocks).any()


def test_the_cheaper_cut_is_taken() -> None:
    """One row of blocks that needs all keys stands alone; equal rows go together."""
    touched = np.zeros((16, 200), bool)
    touched[:, :4] = True
    touched[5] = True
    spans = schedule.cut_rows(touched, 1024, 12_800, (64, 64), torch.float32)
    assert (320, 384) in [(span.start, span.stop) for span in spans]
    assert (512, 1024) in [(span.start, span.stop) for span in spans]


# --------------------------------------------------------------------------------- memory

STEP_AT_65536 = """
import resource, torch
from maskwright.attention import (Axis, window)
from maskwright.attention.backends import blocksparse
torch.set_num_threads(1)
axis = Axis(65_536)
plan = blocksparse.plan(window(63, 0), axis)
leaves = [torch.randn(1, 1, 65_536, 8, requires_grad=True) for _ in range(3)]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
blocksparse.run(*leaves, plan).sum().backward()
assert all(leaf.grad.isfinite().all() for leaf in leaves)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, plan.bytes)
"""


def test_a_long_window_trains_in_little_memory() -> None:
    """65,536 queries and keys have 4 Gi pairs; a step takes a few copies of its tensors (2 MiB)."""
    done = subprocess.run(
        [sys.executable, "-c", STEP_AT_65536], capture_output=True, text=True, check=True
    )
    kibibytes, masks = map(int, done.stdout.split())
    assert kibibytes < 64 * 1024
    assert masks < 1 << 20


# --------------------------------------------------------------------------------- refusals


def test_what_does_not_fit_is_refused() -> None:
    axis = Axis(10)
    plan = blocksparse.plan(causal, axis)
    query, key, value, _ = inputs(axis, axis, heads=2)
    with pytest.raises(AxisError, match="the layout is for"):
        blocksparse.run(query[:, :, :9], key, value, plan)
    with pytest.raises(AxisError, match="the layout is for"):
        blocksparse.run(
            *(one.expand(1, 2, 10, 8) for one in (query, key, value)),
            blocksparse.plan(per_head([causal, full, causal]), axis),
        )
    with pytest.raises(AxisError, match="Expand heads"):
        blocksparse.run(query, key[:, :1], value[:, :1], plan)
    with pytest.raises(AxisError, match="all of one type"):
        blocksparse.run(query, key.bfloat16(), value, plan)
    with pytest.raises(AxisError, match="dim"):
        blocksparse.run(query[0], key[0], value[0], plan)
    with pytest.raises(BackendError, match="CPU"):
        blocksparse.run(*(one.to("meta") for one in (query, key, value)), plan)
    with pytest.raises(BackendError, match="floats"):
        blocksparse.run(*(one.int() for one in (query, key, value)), plan)
    with pytest.raises(PatternError, match="Block size"):
        blocksparse.plan(causal, axis, size=0)


def test_no_gradient_of_a_gradient() -> None:
    axis = Axis(10)
    leaves = [one.requires_grad_() for one in inputs(axis, axis)[:3]]
    out = blocksparse.run(*leaves, blocksparse.plan(causal, axis))
    (grad,) = torch.autograd.grad(out.square().sum(), leaves[0], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()
