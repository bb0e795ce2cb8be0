"""Attention on the CPU that works out only the blocks with work in them, forward and backward.

`plan` says once, for a pattern and its axes, which rows go with which keys; `run` does it:
each `Span` calls fused kernels (`fused_cpu`) on views of query, key and value, and adds up the
gradients. Where a span has two parts, one of them without a mask, their outputs are merged by
their log-sum-exp, in single precision. Nothing of the size queries × keys is ever allocated.

Deterministic: the same tensors give the same bits.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from maskwright.attention.backends.fused_cpu import Kernels, as_bias, bias_type, kernels
from maskwright.attention.backends.layout import Layout, Part, Span, plan
from maskwright.attention.backends.schedule import NATIVE_ROWS
from maskwright.errors import AxisError, BackendError

__all__ = ["plan", "run"]

_TYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def run(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: Layout,
    scale: float | None = None,
    kernel: Kernels | None = None,
) -> Tensor:
    """Attention by a layout.

    Args:
        query: ``(batch, heads, q, dim)``, of floats, on the CPU, with any strides.
        key: ``(batch, heads, kv, dim)``.
        value: ``(batch, heads, kv, value dim)``.
        layout: of `plan`, for these lengths.
        scale: of the scores; 1 / √dim unless given.
        kernel: what works out a part; the fastest that works here unless given.

    Returns:
        ``(batch, heads, q, value dim)``. A row with nothing to attend to is zero, and so is its
        gradient. Gradients of gradients are not to be had.

    Raises:
        AxisError: the tensors do not fit one another or the layout.
        BackendError: they are not on the CPU, or of another type.
    """
    _check(query, key, value, layout)
    if scale is None:
        scale = query.shape[-1] ** -0.5
    if kernel is None:
        kernel = kernels(query.dtype, query.shape[-1], value.shape[-1])
    return _BlockSparse.apply(query, key, value, layout, scale, kernel)


class _BlockSparse(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        layout: Layout,
        scale: float,
        kernel: Kernels,
    ) -> Tensor:
        # keys are read by several spans, and fastest where the rows of a head are neighbours
        query, key, value = _readable(query), key.contiguous(), value.contiguous()
        batch, heads, length, _ = query.shape
        # in memory (batch, q, heads, dim), as the kernels themselves return it
        out = query.new_zeros(batch, length, heads, value.shape[-1]).transpose(1, 2)
        wide = bias_type(query.dtype)
        logsumexp = torch.zeros(batch, length, heads, dtype=wide).transpose(1, 2)
        biases = _Biases()
        for span in layout.spans if batch else ():
            rows = query[span.samples, span.heads, span.rows]
            type_ = _worked_in(span, query.dtype)
            pieces = [
                kernel.forward(
                    rows.to(type_),
                    _keys(key, span, part).to(type_),
                    _keys(value, span, part).to(type_),
                    biases.of(part, wide),
                    scale,
                )
                for part in span.parts
            ]
            result, total = _merge(pieces, span.parts)
            out[span.samples, span.heads, span.rows] = result
            logsumexp[span.samples, span.heads, span.rows] = total
        ctx.save_for_backward(query, key, value, out, logsumexp)
        ctx.options = layout, scale, kernel
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:  # type: ignore[override]
        query, key, value, out, logsumexp = ctx.saved_tensors
        layout, scale, kernel = ctx.options
        wide = bias_type(query.dtype)
        # keys are shared by spans, so their gradients are summed in single precision
        grad_query = torch.zeros_like(query)
        grad_key, grad_value = (torch.zeros_like(one, dtype=wide) for one in (key, value))
        biases = _Biases()
        for span in layout.spans if len(query) else ():
            where = span.samples, span.heads, span.rows
            type_ = _worked_in(span, query.dtype)
            of_rows = [one[where].to(type_) for one in (grad, query, out)]
            total = logsumexp[where]
            of_queries = []
            for part in span.parts:
                of_query, of_key, of_value = kernel.backward(
                    of_rows[0],
                    of_rows[1],
                    _keys(key, span, part).to(type_),
                    _keys(value, span, part).to(type_),
                    of_rows[2],
                    total,
                    biases.of(part, wide),
                    scale,
                )
                of_queries.append(of_query)
                _add(grad_key, of_key, span, part)
                _add(grad_value, of_value, span, part)
            first, *second = of_queries
            grad_query[where] = first.to(wide) + second[0] if second else first
        return grad_query, grad_key.to(key.dtype), grad_value.to(value.dtype), None, None, None


def _merge(pieces: list[tuple[Tensor, Tensor]], parts: tuple[Part, ...]) -> tuple[Tensor, Tensor]:
    """One output and log-sum-exp from those of each part; those of a row without keys are 0."""
    if len(pieces) == 1:
        (out, logsumexp), dead = pieces[0], parts[0].dead
        if dead is not None:
            out = out.masked_fill(dead.unsqueeze(-1), 0.0)
            logsumexp = logsumexp.masked_fill(dead, 0.0)
        return out, logsumexp
    sums = [
        logsumexp if part.dead is None else logsumexp.masked_fill(part.dead, -torch.inf)
        for (_, logsumexp), part in zip(pieces, parts, strict=True)
    ]
    # the first part has no mask, hence no dead row: the sum is finite
    total = torch.logaddexp(*sums)
    shares = [(one - total).exp().unsqueeze(-1) for one in sums]
    return shares[0] * pieces[0][0] + shares[1] * pieces[1][0], total


def _worked_in(span: Span, dtype: torch.dtype) -> torch.dtype:
    """The type of a span: few rows of a half type are faster in single precision."""
    half = dtype in (torch.bfloat16, torch.float16)
    if half and span.rows.stop - span.rows.start < NATIVE_ROWS:
        return torch.float32
    return dtype


def _keys(tensor: Tensor, span: Span, part: Part) -> Tensor:
    """The keys of a part: a view where they are one run."""
    own = tensor[span.samples, span.heads]
    runs = [own[:, :, start:stop] for start, stop in part.runs]
    return runs[0] if len(runs) == 1 else torch.cat(runs, 2)


def _add(total: Tensor, piece: Tensor, span: Span, part: Part) -> None:
    """Add the gradient of the keys of a part to that of all."""
    own = total[span.samples, span.heads]
    done = 0
    for start, stop in part.runs:
        own[:, :, start:stop] += piece[:, :, done : done + stop - start]
        done += stop - start


class _Biases:
    """The biases of parts, as the kernels take them; the last is kept, as neighbours share one."""

    def __init__(self) -> None:
        self.mask: Tensor | None = None
        self.bias: Tensor | None = None

    def of(self, part: Part, dtype: torch.dtype) -> Tensor | None:
        if part.mask is None:
            return None
        if part.mask is not self.mask:
            self.mask, self.bias = part.mask, as_bias(part.mask, dtype)
        return self.bias


def _readable(tensor: Tensor) -> Tensor:
    """Rows in one piece, each at its own place, as the kernels' matrix products need them."""
    return tensor if tensor.stride(-1) == 1 and tensor.stride(-2) > 0 else tensor.contiguous()


def _check(query: Tensor, key: Tensor, value: Tensor, layout: Layout) -> None:
    for name, tensor in (("query", query), ("key", key), ("value", value)):
        if tensor.device.type != "cpu" or tensor.dtype not in _TYPES:
            raise BackendError(
                f"{name} is {tensor.dtype} on {tensor.device}; block-sparse kernels are for "
                "floats on the CPU. Choose another backend."
            )
    shapes = f"query {tuple(query.shape)}, key {tuple(key.shape)}, value {tuple(value.shape)}"
    if (
        not query.ndim == key.ndim == value.ndim == 4
        or len({query.dtype, key.dtype, value.dtype}) > 1
    ):
        raise AxisError(f"{shapes}: each is (batch, heads, length, dim), and all of one type.")
    if (
        query.shape[:2] != key.shape[:2]
        or key.shape[:3] != value.shape[:3]
        or query.shape[3] != key.shape[3]
    ):
        raise AxisError(
            f"{shapes}: batch and heads must be the same of all, key and value of one length, "
            "query and key of one dimension. Expand heads that are shared."
        )
    expected = (layout.batch, layout.heads, layout.q_length, layout.kv_length)
    found = (*query.shape[:3], key.shape[2])
    if any(
        a != b and (a != 1 or n > 1) for n, (a, b) in enumerate(zip(expected, found, strict=True))
    ):
        raise AxisError(
            f"{shapes}: the layout is for (batch or 1, heads or 1, q, kv) = {expected}."
        )
