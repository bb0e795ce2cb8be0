"""What a backend is asked: the pattern, its axes, and the tensors it will meet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor

from maskwright.attention.axis import Axis
from maskwright.attention.backends.recognise import Recognised, recognise
from maskwright.attention.blocks import BlockMap
from maskwright.attention.pattern import Pattern, extent, part
from maskwright.errors import AxisError, BatchError

Derived = TypeVar("Derived")


@dataclass(frozen=True)
class Problem:
    """One attention, without the values of its tensors.

    What is derived from it (the mask, what the pattern was recognised as) is worked out once, by
    whichever backend asks first.

    Attributes:
        pattern, q, kv: who may attend to whom.
        batch, heads, kv_heads: of the tensors; ``kv_heads`` divides ``heads``.
        head_dim, value_dim: size of a query or key, and of a value.
        dtype, device: of the tensors.
        dropout: share of the weights that are dropped, 0 to 1.
        training: whether gradients are wanted.
    """

    pattern: Pattern
    q: Axis
    kv: Axis
    batch: int = 1
    heads: int = 1
    kv_heads: int = 1
    head_dim: int = 64
    value_dim: int = 64
    dtype: torch.dtype = torch.float32
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dropout: float = 0.0
    training: bool = True
    _derived: dict[Any, Any] = field(default_factory=dict, init=False, compare=False, repr=False)

    def once(self, work: Callable[[Problem], Derived]) -> Derived:
        """``work(problem)``, worked out the first time."""
        if work not in self._derived:
            self._derived[work] = work(self)
        return self._derived[work]

    def check(self) -> None:
        """Raises where the pattern's own batch and heads do not fit the tensors.

        Raises:
            AxisError: the axes or tables of the pattern have another batch or number of heads.
            BatchError: the heads of the keys do not divide those of the queries.
        """
        if self.kv_heads < 1 or self.heads % self.kv_heads:
            raise BatchError(
                f"query has {self.heads} heads, key has {self.kv_heads}: the heads of the keys "
                "divide those of the queries (grouped-query attention)."
            )
        batch, heads, *_ = self.extent
        if batch not in (1, self.batch):
            sides = {"q": self.q.batch, "kv": self.kv.batch}
            who = [f"the {name} axis" for name, size in sides.items() if size == batch]
            raise AxisError(
                f"{' and '.join(who) or f'`{self.pattern}`'}: a batch of {batch}; "
                f"the tensors have {self.batch}."
            )
        if heads not in (1, self.heads):
            raise AxisError(f"`{self.pattern}` is for {heads} heads, the query has {self.heads}.")

    @cached_property
    def extent(self) -> tuple[int, int, int, int]:
        """Shape of the mask: ``(batch or 1, heads or 1, q, kv)``."""
        return extent(self.pattern, self.q, self.kv)

    @property
    def pairs(self) -> int:
        """Scores of the whole attention: batch × heads × queries × keys."""
        return self.batch * self.heads * self.q.length * self.kv.length

    @cached_property
    def recognised(self) -> Recognised:
        """The pattern on these axes, in its simplest terms."""
        return recognise(self.pattern, self.q, self.kv)

    def loses(self, empty: Tensor) -> bool:
        """Whether some of these empty rows, ``(batch or 1, q)``, are no padding."""
        valid = self.q.columns.get("valid")
        return bool((empty if valid is None else empty & valid.to(empty.device)).any())

    @cached_property
    def blocks(self) -> BlockMap:
        """Which blocks of 64 tokens have work in them."""
        return self.recognised.pattern.blocks(self.q, self.kv, 64)

    @cached_property
    def touched(self) -> float:
        """The share of pairs in blocks with work in them, 0 to 1."""
        return self.blocks.touched if self.pairs else 0.0

    @cached_property
    def mask(self) -> Mask:
        """The mask, on the device of the tensors."""
        known = self.recognised
        if known.keys_only:
            # the same for every query: one row, which spreads
            rows, columns = slice(0, 1), slice(0, self.kv.length)
            allowed = part(known.pattern, self.q, self.kv, rows, columns)
        else:
            allowed = known.pattern.dense(self.q, self.kv)
        return Mask.of(allowed.to(self.device))


def occupied(*tensors: Tensor | None) -> int:
    """Bytes that these tensors keep; what several of them share counts once."""
    storages = [one.untyped_storage() for one in tensors if one is not None]
    return sum({one.data_ptr(): one.nbytes() for one in storages}.values())


@dataclass(frozen=True, eq=False)
class Mask:
    """A mask, and which of its rows are empty.

    Attributes:
        allowed: ``(batch or 1, heads or 1, q or 1, kv)`` Boolean, True = may attend.
        empty: ``(batch or 1, heads or 1, q or 1, 1)`` Boolean, or None where no row is empty.
    """

    allowed: Tensor
    empty: Tensor | None

    @classmethod
    def of(cls, allowed: Tensor) -> Mask:
        """From the mask alone."""
        found = allowed.any(-1, keepdim=True)
        return cls(allowed, None if bool(found.all()) else ~found)

    @cached_property
    def opened(self) -> Tensor:
        """The mask with its empty rows open: what a kernel may be given without fear of NaN.

        Who uses it puts zeros in those rows of the output afterwards, which makes their gradient
        zero too.
        """
        return self.allowed if self.empty is None else self.allowed | self.empty
