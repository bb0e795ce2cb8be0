"""Rules about stretches of equal length: chunks that stand alone, and blocks with neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from maskwright.attention.coordinates import Coordinates
from maskwright.attention.pattern import Pattern
from maskwright.attention.rules.relative import Alignment, check_alignment, check_count, places


@dataclass(frozen=True, repr=False)
class Chunked(Pattern):
    """Query and key in one chunk; of `chunked`."""

    size: int
    align: Alignment = "bottom-right"
    spelled: ClassVar[str] = "chunked"

    def __post_init__(self) -> None:
        check_count(self.spelled, "size", self.size, 1)
        check_alignment(self.spelled, self.align)

    def allowed(self, q: Coordinates, kv: Coordinates) -> Any:
        query, key = places(q, kv, self.align)
        return query // self.size == key // self.size


def chunked(size: int, align: Alignment = "bottom-right") -> Pattern:
    """Keys in the query's own chunk of ``size`` positions, before and behind it.

    Chunks are counted from position 0: of the row, so in a packed row they do not begin anew with
    each document. Llama 4's chunked layers are ``causal & chunked(8192)``. With padding on the
    left, give positions (``positions=index - padding``), as Hugging Face shifts its chunks.

    Args:
        size: positions of a chunk, 1 or more.
        align: as of `Causal`.

    Raises:
        PatternError: a size below 1, or another alignment.

    Source: Llama 4's ``attention_chunk_size``; ``chunked_overlay`` of transformers.

    >>> print(chunked(8192))
    chunked(8192)
    """
    return Chunked(size, align)


@dataclass(frozen=True, repr=False)
class Blockwise(Pattern):
    """A block of positions and its neighbours; of `blockwise`."""

    size: int
    before: int | None = 0
    after: int | None = 0
    align: Alignment = "bottom-right"
    spelled: ClassVar[str] = "blockwise"

    def __post_init__(self) -> None:
        check_count(self.spelled, "size", self.size, 1)
        for name in ("before", "after"):
            if getattr(self, name) is not None:
                check_count(self.spelled, name, getattr(self, name))
        check_alignment(self.spelled, self.align)

    def allowed(self, q: Coordinates, kv: Coordinates) -> Any:
        query, key = places(q, kv, self.align)
        ahead = key // self.size - query // self.size
        result = (q.index >= 0) & (kv.index >= 0)
        if self.before is not None:
            result = result & (ahead >= -self.before)
        return result if self.after is None else result & (ahead <= self.after)


def blockwise(
    size: int,
    before: int | None = 0,
    after: int | None = 0,
    align: Alignment = "bottom-right",
) -> Pattern:
    """Keys in the query's own block of ``size`` positions, all of it, and in its neighbours.

    Blocks are counted from position 0. ``blockwise(size, before=None)`` is block-causal: free
    inside a block, and every block before it.

    Args:
        size: positions of a block, 1 or more.
        before: how many whole blocks before the query's own; None for all.
        after: how many behind it; None for all.
        align: as of `Causal`.

    Raises:
        PatternError: a size below 1, a negative number of blocks, or another alignment.

    Source: the window of BigBird is ``blockwise(size, 1, 1)``: Zaheer et al., 2020,
    arXiv:2007.14062, appendix D.

    >>> print(blockwise(64, 1, 1), blockwise(16, before=None))
    blockwise(64, 1, 1) blockwise(16, None)
    """
    return Blockwise(size, before, after, align)
