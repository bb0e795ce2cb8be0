"""`attend` costs next to nothing over PyTorch's own call, and skips padding that changes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.harness import Row, ratio_row, time_interleaved
from maskwright.attention import Axis, Pattern, attend, causal, full, padding

HEADS, SIZE = 8, 64


def run(quick: bool) -> list[Row]:
    """Forward and backward, one sample, fp32."""
    return [_overhead(full, quick), _overhead(causal, quick), _batches_that_change(quick)]


def _overhead(pattern: Pattern, quick: bool) -> Row:
    tensors = _tensors(128)
    flag = pattern == causal
    ours = _step(lambda q, k, v: attend(q, k, v, pattern), *tensors)
    peer = _step(
        lambda q, k, v: functional.scaled_dot_product_attention(q, k, v, is_causal=flag), *tensors
    )
    _check(ours, peer)
    # call by call: what is to be seen is smaller than what a busy machine changes in a minute
    seconds = time_interleaved(
        {"ours": ours, "peer": peer}, repeats=51 if quick else 1001, min_seconds=1e-4
    )
    return ratio_row(
        f"attend({pattern}) at S=128",
        seconds["ours"],
        seconds["peer"],
        at_least=0.95,
        note="against scaled_dot_product_attention called directly",
    )


def _batches_that_change(quick: bool) -> Row:
    """Padded batches, each with an axis of its own, which is recognised in every step."""
    batch, length = 8, 512
    lengths = torch.tensor([512, 480, 400, 360, 300, 260, 200, 130])
    valid = torch.arange(length) < lengths[:, None]
    tensors = _tensors(length, batch)

    def attended(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return attend(query, key, value, padding, q=Axis(length, valid=valid.clone()))

    ours = _step(attended, *tensors)
    peer = _step(
        lambda q, k, v: functional.scaled_dot_product_attention(q, k, v, valid[:, None, None]),
        *tensors,
    )
    _check(ours, peer)
    seconds = time_interleaved({"ours": ours, "peer": peer}, repeats=2 if quick else 7)
    note = "a new axis every step; against the mask of the keys"
    case = f"padding, B={batch}, S={length}, {valid.float().mean():.0%} tokens"
    return ratio_row(case, seconds["ours"], seconds["peer"], at_least=1.0, note=note)


def _tensors(length: int, batch: int = 1) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (batch, HEADS, length, SIZE)
    return [torch.randn(shape, generator=generator).requires_grad_() for _ in range(3)]


def _step(call: Callable[..., Tensor], *tensors: Tensor) -> Callable[[], tuple[Tensor, ...]]:
    upstream = torch.ones(1)

    def step() -> tuple[Tensor, ...]:
        output = call(*tensors)
        return output, *torch.autograd.grad(output, tensors, upstream.expand_as(output))

    return step


def _check(ours: Callable[[], tuple[Tensor, ...]], peer: Callable[[], tuple[Tensor, ...]]) -> None:
    """The same output and the same gradients."""
    for one, other in zip(ours(), peer(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
