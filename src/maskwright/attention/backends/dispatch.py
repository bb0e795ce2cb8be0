"""Which backend runs an attention, and why.

Every backend either says in words why it cannot run a problem, or gives an estimate of its work:
1 is the fused kernel of PyTorch over all pairs, without a mask, forward and backward. Where every
pair may attend, or the mask is the causal one of the kernels, ``sdpa`` is taken; else the least
estimate wins, and of equals the first in `BACKENDS`:

===================================  ==================================================
every pair may attend                ``sdpa`` without a mask: 1
causal, from the upper left          ``sdpa`` with the kernel's flag: 0.5 + 256 / keys
documents, padding                   ``document``: area of their rectangles, a little
                                     more where they are short, and a price for every
                                     call of the kernel
blocks without work                  ``blocksparse`` on a CPU: the time that its
                                     schedule expects of the calls that it makes;
                                     ``flex`` on a GPU
everything else, a single query      ``sdpa`` with a Boolean mask: 1.1
===================================  ==================================================

The constants stand in the backends' own files, with where they come from. Dropout is drawn by
``dense``, ``sdpa`` and ``document``; the others refuse it. ``dense`` (3) can do everything and is
never the least; it is there to be asked for by name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from maskwright.attention.axis import Axis
from maskwright.attention.backends import dense, document, flex, sdpa, skipping
from maskwright.attention.backends.problem import Problem
from maskwright.attention.pattern import Pattern
from maskwright.errors import BackendError, unknown


@dataclass(frozen=True)
class Backend:
    """One way to run an attention.

    Attributes:
        refuse: why it cannot run this problem, in words; None where it can.
        cost: an estimate of its work; asked only where it does not refuse.
        prepare: what it needs besides the tensors; kept between calls.
        run: ``run(query, key, value, prepared, scale, dropout)``.
        loses: whether a query that is no padding sees no key, where that is cheaply known.
        size: bytes of tensors in what it prepared.
        why: the reason to choose it for this problem, in words.
    """

    refuse: Callable[[Problem], str | None]
    cost: Callable[[Problem], float]
    prepare: Callable[[Problem], Any]
    run: Callable[[Tensor, Tensor, Tensor, Any, float, float], Tensor]
    loses: Callable[[Problem, Any], bool]
    size: Callable[[Any], int]
    why: Callable[[Problem], str]


BACKENDS: dict[str, Backend] = {
    name: Backend(
        refuse=module.refuse,
        cost=module.cost,
        prepare=module.prepare,
        run=module.run,
        loses=module.loses,
        size=module.size,
        why=module.why,
    )
    for name, module in {
        "sdpa": sdpa,
        "document": document,
        "blocksparse": skipping,
        "flex": flex,
        "dense": dense,
    }.items()
}


@dataclass(frozen=True)
class Choice:
    """The backend for a problem.

    Attributes:
        backend: its name.
        reason: why it and no other.
        refusals: for every backend that cannot, why.
        estimates: for every backend that can, its work; 1 is the fused kernel over all pairs.
    """

    backend: str
    reason: str
    refusals: dict[str, str]
    estimates: dict[str, float]


def choose(
    pattern: Pattern,
    q: Axis,
    kv: Axis | None = None,
    *,
    batch: int | None = None,
    heads: int | None = None,
    kv_heads: int | None = None,
    head_dim: int = 64,
    value_dim: int | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    dropout: float = 0.0,
    training: bool = True,
    backend: str = "auto",
) -> Choice:
    """Which backend `attend` would take for tensors like these, and why.

    Args:
        q, kv: the axes; in self-attention, leave ``kv`` out.
        batch, heads: of the tensors; unless given, those of the pattern and its axes.
        kv_heads, value_dim: as many as ``heads``, as large as ``head_dim``, unless given.
        training: whether gradients are wanted.
        backend: the one to take, or ``auto``.

    Raises:
        AxisError: the axes lack a column that the pattern needs, or do not fit each other.
        BackendError: there is no such backend, or it cannot run this.

    >>> from maskwright.attention import causal
    >>> choose(causal, Axis(512)).reason
    "causal, counted from the first query and the first key: the kernel's own flag"
    """
    problem = Problem(pattern, q, q if kv is None else kv)
    own_batch, own_heads, *_ = problem.extent
    heads = own_heads if heads is None else heads
    problem = Problem(
        pattern,
        problem.q,
        problem.kv,
        own_batch if batch is None else batch,
        heads,
        heads if kv_heads is None else kv_heads,
        head_dim,
        head_dim if value_dim is None else value_dim,
        dtype,
        torch.device(device),
        dropout,
        training,
    )
    problem.check()
    return choice(problem, backend)


def choice(problem: Problem, backend: str = "auto") -> Choice:
    """The backend for a problem that was checked.

    Raises:
        BackendError: there is no such backend, or it cannot run this.
    """
    if backend != "auto" and backend not in BACKENDS:
        raise BackendError(unknown("attention backend", backend, [*BACKENDS, "auto"]))
    refusals: dict[str, str] = {}
    estimates: dict[str, float] = {}
    for name, one in BACKENDS.items():
        refusal = one.refuse(problem)
        if refusal is None:
            estimates[name] = one.cost(problem)
        else:
            refusals[name] = refusal
    if backend == "auto":
        plain = problem.recognised.everything or problem.recognised.causal
        least = "sdpa" if plain else min(estimates, key=estimates.__getitem__)
        return Choice(least, BACKENDS[least].why(problem), refusals, estimates)
    if backend in refusals:
        raise BackendError(
            f'backend="{backend}" cannot run `{problem.pattern}` here: {refusals[backend]}. '
            f"Those that can: {', '.join(estimates)}."
        )
    return Choice(backend, "asked for by name", refusals, estimates)
