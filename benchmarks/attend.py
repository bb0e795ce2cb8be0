"""`attend` costs next to nothing over PyTorch's own call, and skips padding that changes, in padded
batches and in rows of many short documents."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.harness import Row, ratio_row, time_interleaved
from maskwright.attention import Axis, Pattern, attend, causal, documents, full, padding

HEADS, SIZE = 8, 64
LAYERS = 3  # that share the axis of a batch


def run(quick: bool) -> list[Row]:
    """Forward and backward, one sample, fp32."""
    return [
        _overhead(full, quick),
        _overhead(causal, quick),
        _batches_that_change(quick),
        *_short_documents(2, 200, 11, quick),
        *_short_documents(HEADS, 120, 20, quick),
    ]


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


def _short_documents(heads: int, count: int, longest: int, quick: bool) -> list[Row]:
    """Sentences of a translation batch as one row, through some layers: a new axis every step."""
    count = 20 if quick else count
    lengths = np.random.default_rng(0).integers(3, longest + 1, count).tolist()
    segments = torch.arange(count).repeat_interleave(torch.tensor(lengths))
    tensors = _tensors(len(segments), heads=heads)
    valid = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    places = valid.flatten().nonzero().squeeze(1)

    def attended(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        axis = Axis(len(segments), segments=segments.clone())
        for _ in range(LAYERS):
            query = attend(query, key, value, documents, q=axis, backend="document")
        return query

    def apart(*states: Tensor) -> Tensor:
        query, *others = states
        for _ in range(LAYERS):
            cut = zip(*[one.split(lengths, 2) for one in (query, *others)], strict=True)
            found = [functional.scaled_dot_product_attention(*one) for one in cut]
            query = torch.cat(found, 2)
        return query

    def filled_up(*states: Tensor) -> Tensor:
        query, *others = states
        for _ in range(LAYERS):
            inputs = [
                one.new_zeros(heads, valid.numel(), SIZE)
                .index_copy(1, places, one[0])
                .unflatten(1, valid.shape)
                .transpose(0, 1)
                for one in (query, *others)
            ]
            found = functional.scaled_dot_product_attention(*inputs, valid[:, None, None])
            query = found.transpose(0, 1).flatten(1, 2).index_select(1, places)[None]
        return query

    steps = {"ours": attended, "apart": apart, "filled up": filled_up}
    called = {name: _step(call, *tensors) for name, call in steps.items()}
    for name in ("apart", "filled up"):
        _check(called["ours"], called[name])
    seconds = time_interleaved(called, repeats=2 if quick else 15)
    case = f"{count} documents of 3 to {longest} tokens, {heads} heads, {LAYERS} layers, against"
    # where there is much to move each document has a call here too, and an axis to be looked at
    bar = 1.0 if heads == 2 and not quick else None
    return [
        ratio_row(f"{case} {what}", seconds["ours"], seconds[name], at_least=bar, note=note)
        for name, what, note in (
            ("apart", "a call for each", "one row, a new axis every step"),
            ("filled up", "one padded batch", "which is cut out of the row and put back"),
        )
    ]


def _tensors(length: int, batch: int = 1, heads: int = HEADS) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (batch, heads, length, SIZE)
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
