"""Running a backend, and comparing its output and its three gradients with the oracle's."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import torch
from torch import Tensor

from maskwright.attention import Axis, Pattern
from maskwright.attention.attend import attend
from maskwright.attention.reference import Expected, expected
from maskwright.errors import EmptyRowsWarning

# Of the largest number expected; bfloat16 has 8 bits, float16 has 11.
TOLERANCE = {
    torch.float64: 1e-12,
    torch.float32: 2e-5,
    torch.bfloat16: 3e-2,
    torch.float16: 5e-3,
}


class Inputs(NamedTuple):
    """Query, key, value, and the gradient of the output."""

    query: Tensor
    key: Tensor
    value: Tensor
    upstream: Tensor


def inputs(
    q: Axis,
    kv: Axis,
    *,
    batch: int = 1,
    heads: int = 2,
    kv_heads: int | None = None,
    size: int = 8,
    value_size: int | None = None,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> Inputs:
    generator = torch.Generator().manual_seed(seed)

    def draw(heads: int, length: int, size: int) -> Tensor:
        return torch.randn(batch, heads, length, size, generator=generator).to(dtype)

    kv_heads = heads if kv_heads is None else kv_heads
    value_size = size if value_size is None else value_size
    return Inputs(
        draw(heads, q.length, size),
        draw(kv_heads, kv.length, size),
        draw(kv_heads, kv.length, value_size),
        draw(heads, q.length, value_size),
    )


def outcome(given: Inputs, pattern: Pattern, q: Axis, kv: Axis, **options) -> Expected:
    """Output and gradients of `attend`; without gradients (zeros for them) where asked."""
    leaves = [x.detach().clone().requires_grad_() for x in given[:3]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EmptyRowsWarning)
        output = attend(*leaves, pattern, q=q, kv=kv, **options)
    gradients = torch.autograd.grad(output, leaves, given.upstream)
    return Expected(output.detach(), *gradients)


def forward(given: Inputs, pattern: Pattern, q: Axis, kv: Axis, **options) -> Tensor:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore", EmptyRowsWarning)
        return attend(*given[:3], pattern, q=q, kv=kv, **options)


def assert_close(found: Tensor, wanted: Tensor, what: str) -> None:
    assert found.shape == wanted.shape, what
    if not wanted.numel():
        return
    most = max(float(wanted.abs().max()), 1.0)
    worst = float((found.double() - wanted.double()).abs().max())
    assert worst <= TOLERANCE[found.dtype] * most, f"{what}: off by {worst}, the largest is {most}"


def assert_equals_oracle(
    given: Inputs, pattern: Pattern, q: Axis, kv: Axis, backend: str, wanted: Expected
) -> None:
    found = outcome(given, pattern, q, kv, backend=backend)
    for name, one, other in zip(Expected._fields, found, wanted, strict=True):
        assert one.dtype == given.query.dtype
        assert_close(one, other, f"{name} of {backend} for `{pattern}`")


def oracle(given: Inputs, pattern: Pattern, q: Axis, kv: Axis) -> Expected:
    return expected(given.query, given.key, given.value, pattern, q, kv, given.upstream)
