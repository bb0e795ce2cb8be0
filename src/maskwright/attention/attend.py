"""Attention under a pattern: one call, and the fastest backend that gives the same answer."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from maskwright.attention.axis import Axis
from maskwright.attention.backends.dispatch import BACKENDS, Choice, choice
from maskwright.attention.backends.plans import Plans, identity
from maskwright.attention.backends.problem import Problem
from maskwright.attention.pattern import Pattern, full
from maskwright.errors import AxisError, BatchError, ConfigError, EmptyRowsWarning


class Plan(NamedTuple):
    """How to run an attention, once it was found out.

    Attributes:
        run: of the backend.
        prepared: what it needs besides the tensors.
        scale: of the scores, where the caller gives none.
        choice: which backend, and why.
        axes: kept, because the key of a plan tells columns apart by identity.
    """

    run: Callable[[Tensor, Tensor, Tensor, Any, float, float], Tensor]
    prepared: Any
    scale: float
    choice: Choice
    axes: tuple[Axis, Axis]


def _bytes(plan: Plan) -> int:
    return BACKENDS[plan.choice.backend].size(plan.prepared)


# A mask of 8192 × 8192 is 64 MiB. Axes of another batch are soon the oldest, and go.
plans: Plans[Plan] = Plans(_bytes, entries=64, limit=256 << 20)


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    pattern: Pattern = full,
    *,
    q: Axis | None = None,
    kv: Axis | None = None,
    scale: float | None = None,
    dropout: float = 0.0,
    backend: str = "auto",
) -> Tensor:
    """Attention in which each query sees the keys that the pattern allows.

    ``(B, H, Q, D) × (B, Hkv, K, D) × (B, Hkv, K, Dv) → (B, H, Q, Dv)``. A query that sees no key
    gets zeros, and passes no gradient on. What is found out about the pattern on its axes is kept
    as long as the same axes come again: make them once for a batch, and hand them to every layer.

    Args:
        query, key, value: of one dtype and one device, under autocast of any; ``Hkv`` divides
            ``H`` (grouped-query attention).
        pattern: who may attend to whom.
        q: what is known of the queries; unless given, nothing but their number.
        kv: of the keys. Unless given: ``q``, where there are as many keys as queries.
        scale: factor of the scores, ``D ** -0.5`` unless given.
        dropout: share of the weights that are dropped, 0 to 1; for training only, give 0 else.
        backend: ``auto``, or a name from `BACKENDS`.

    Raises:
        AxisError: the axes do not fit the tensors, each other, or the pattern.
        BatchError: the tensors do not fit each other.
        BackendError: the backend that was asked for cannot run this, with the reason.
        ConfigError: dropout is not from 0 to 1.

    Warns:
        EmptyRowsWarning: a query that is no padding sees no key.

    >>> from maskwright.attention import causal
    >>> x = torch.ones(1, 2, 4, 8)
    >>> attend(x, x, x, causal).shape
    torch.Size([1, 2, 4, 8])
    """
    if torch.compiler.is_compiling():
        # as it is, between two graphs: plans are looked up by what a graph cannot hold
        outside: Any = torch.compiler.disable(attend)
        return outside(
            query, key, value, pattern, q=q, kv=kv, scale=scale, dropout=dropout, backend=backend
        )
    device = query.device
    if torch.is_autocast_enabled(device.type):
        query, key, value = _autocast(device.type, query, key, value)
    # what the kernels check themselves is left out: each look-up here is paid in every layer
    name = (
        pattern,
        None if q is None else identity(q),
        None if kv is None else identity(kv),
        query.shape,
        key.shape,
        query.dtype,
        device,
        dropout,
        backend if backend != "flex" else (backend, _training(query, key, value)),
    )
    plan = plans.get(name)
    if plan is None:
        plan = _plan(query, key, value, pattern, q, kv, dropout, backend)
        plans.put(name, plan)
    return plan.run(
        query, key, value, plan.prepared, plan.scale if scale is None else scale, dropout
    )


def _training(*tensors: Tensor) -> bool:
    return torch.is_grad_enabled() and any(one.requires_grad for one in tensors)


def _plan(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    pattern: Pattern,
    q: Axis | None,
    kv: Axis | None,
    dropout: float,
    backend: str,
) -> Plan:
    _check_tensors(query, key, value)
    if not 0 <= dropout <= 1:
        raise ConfigError(f"dropout={dropout!r}: it is a share from 0 to 1.")
    queries, keys = query.shape[2], key.shape[2]
    if kv is None:
        kv = q if q is not None and q.length == keys else Axis(keys)
        q = kv if q is None and queries == keys else q
    q = Axis(queries) if q is None else q
    for name, axis, length, what in (("q", q, queries, "queries"), ("kv", kv, keys, "keys")):
        if axis.length != length:
            raise AxisError(
                f"The {name} axis has length {axis.length}, the tensors have {length} {what}: "
                f"{name}=Axis({length}, ...)."
            )
    problem = Problem(
        pattern,
        q,
        kv,
        batch=query.shape[0],
        heads=query.shape[1],
        kv_heads=key.shape[1],
        head_dim=query.shape[3],
        value_dim=value.shape[3],
        dtype=query.dtype,
        device=query.device,
        dropout=dropout,
        training=_training(query, key, value),
    )
    problem.check()
    chosen = choice(problem, backend)
    taken = BACKENDS[chosen.backend]
    prepared = taken.prepare(problem)
    if taken.loses(problem, prepared):
        warnings.warn(
            f"`{pattern}` leaves queries without a key to attend to: their outputs are zero, and "
            "so are their gradients. If they are padding, say so: Axis(length, valid=...).",
            EmptyRowsWarning,
            stacklevel=3,
        )
    return Plan(taken.run, prepared, query.shape[3] ** -0.5, chosen, (q, kv))


def _check_tensors(query: Tensor, key: Tensor, value: Tensor) -> None:
    """Raises `BatchError` where the tensors do not fit each other."""
    shapes = f"query {_shape(query)}, key {_shape(key)}, value {_shape(value)}"
    if not query.ndim == key.ndim == value.ndim == 4:
        raise BatchError(f"{shapes}: each has dimensions batch, heads, length, size.")
    if not query.shape[0] == key.shape[0] == value.shape[0]:
        raise BatchError(f"{shapes}: the batch, which comes first, is the same in all three.")
    if key.shape[1:3] != value.shape[1:3]:
        raise BatchError(f"{shapes}: keys and values have the same heads and the same length.")
    if query.shape[3] != key.shape[3]:
        raise BatchError(f"{shapes}: queries and keys have the same size, the last dimension.")
    if not query.dtype == key.dtype == value.dtype or not query.is_floating_point():
        raise BatchError(
            f"query is {query.dtype}, key {key.dtype}, value {value.dtype}: they are of one "
            "floating-point type."
        )
    if not query.device == key.device == value.device:
        raise BatchError(
            f"query is on {query.device}, key on {key.device}, value on {value.device}: they are "
            "on one device."
        )


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)


def _autocast(device: str, *tensors: Tensor) -> tuple[Tensor, ...]:
    """As autocast casts the inputs of attention: all but double precision."""
    dtype = torch.get_autocast_dtype(device)
    return tuple(x if x.dtype == torch.float64 else x.to(dtype) for x in tensors)
