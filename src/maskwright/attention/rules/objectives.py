"""Rules that belong to a training objective: prefix, permuted and block-diffusion language models.

The prefix of a prefix language model: Raffel et al., "T5", 2020, arXiv:1910.10683, section 3.2.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from maskwright.attention.coordinates import Coordinates
from maskwright.attention.pattern import Named, Pattern
from maskwright.attention.rules.relative import check_count
from maskwright.attention.rules.tokens import check_name, marked, number, truth
from maskwright.errors import AxisError, PatternError


@dataclass(frozen=True, repr=False)
class Prefix(Pattern):
    """Keys of the prefix; of `prefix`."""

    of: int | str
    spelled: ClassVar[str] = "prefix"

    def __post_init__(self) -> None:
        if isinstance(self.of, str):
            check_name(self.spelled, self.of)
        else:
            check_count(self.spelled, "of", self.of)

    def allowed(self, q: Coordinates, kv: Coordinates) -> Any:
        if isinstance(self.of, str):
            return truth(self, kv, self.of)
        return kv.position < self.of


def prefix(of: int | str) -> Pattern:
    """Keys of the prefix, from wherever one looks.

    A prefix language model is ``causal | prefix(n)``.

    Args:
        of: a number: the keys at positions below it. A string: a Boolean channel of the keys that
            is True in the prefix, for samples with prefixes of their own
            (``prompt=torch.arange(length) < lengths[:, None]``) and for packed rows
            (``documents & (causal | prefix("prompt"))``).

    Raises:
        PatternError: a negative number, or no name.
        AxisError: (where the pattern meets axes) the channel is missing or holds integers.

    >>> print(prefix(16), prefix("prompt"))
    prefix(16) prefix("prompt")
    """
    return Prefix(of)


@dataclass(frozen=True, repr=False)
class Permutation(Named):
    """Keys that come before the query in another order than that of their positions.

    Ties see one another where ``inclusive``, and do not where not.

    Args:
        channel: a column of integers of both axes: the rank of each token, smallest first.
        inclusive: whether a token sees itself (and its ties): XLNet's content stream does, its
            query stream does not, since it must guess that very token.

    Source: Yang et al., "XLNet", 2019, arXiv:1906.08237, section 2.3.
    """

    channel: str = "order"
    inclusive: bool = True
    spelled: ClassVar[str] = "permutation"

    def __post_init__(self) -> None:
        check_name(self.spelled, self.channel)
        if not isinstance(self.inclusive, bool):
            raise PatternError(f"inclusive={self.inclusive!r} of permutation: it is True or False.")

    def allowed(self, q: Coordinates, kv: Coordinates) -> Any:
        query, key = number(self, q, self.channel), number(self, kv, self.channel)
        return key <= query if self.inclusive else key < query


permutation = Permutation()


def two_stream(order: str = "order", query: str = "query_stream") -> Pattern:
    """XLNet's two streams: content sees its past and itself, a query only its past.

    The keys are the n content tokens. The queries are those n and then as many of the query
    stream, told apart by a Boolean channel::

        q = Axis(2 * n, order=torch.cat((order, order)), query_stream=torch.arange(2 * n) >= n)
        kv = Axis(n, order=order)

    The first token of the order has nothing to see in the query stream: an empty row.

    Args:
        order: the channel with each token's rank, as of `Permutation`.
        query: the Boolean channel of the queries that is True in the query stream.

    Raises:
        PatternError: a channel is not a name.

    Source: as of `Permutation`.

    >>> print(two_stream())
    permutation(inclusive=False) | permutation & ~marked("query_stream", "q")
    """
    return permutation(order, inclusive=False) | permutation(order) & ~marked(query, side="q")


@dataclass(frozen=True, repr=False)
class BlockDiffusion(Pattern):
    """Noisy and clean copies of a sequence; of `block_diffusion`."""

    size: int
    spelled: ClassVar[str] = "block_diffusion"

    def __post_init__(self) -> None:
        check_count(self.spelled, "size", self.size, 1)

    def allowed(self, q: Coordinates, kv: Coordinates) -> Any:
        if q.length != kv.length or q.length % 2:
            raise AxisError(
                f"`{self}` is of {q.length} queries and {kv.length} keys; both are a noisy copy "
                "of a sequence and then a clean one, of twice its length."
            )
        n = q.length // 2
        noisy_q, noisy_kv = q.index < n, kv.index < n
        # each copy by its own arithmetic: a block across the middle stays exact in both halves
        own = noisy_q & noisy_kv & (q.index // self.size == kv.index // self.size)
        past = noisy_q & ~noisy_kv & (q.index // self.size > (kv.index - n) // self.size)
        clean = ~noisy_q & ~noisy_kv & ((q.index - n) // self.size >= (kv.index - n) // self.size)
        return own | past | clean


def block_diffusion(size: int) -> Pattern:
    """Block diffusion's training mask, over a noisy copy of n tokens and then a clean one.

    A noisy token sees its own noisy block, all of it, and the clean blocks before its own. A
    clean token sees the clean blocks before its own and its own, all of it, and nothing noisy.
    Both axes are of 2n tokens, counted by index, whatever positions they have (give both copies
    the same positions for the embedding). Where a model generates, one block after the other:
    ``blockwise(size, before=None)``.

    Args:
        size: tokens of a block, 1 or more; the last is as long as what is left of n.

    Raises:
        PatternError: a size below 1.
        AxisError: (where the pattern meets axes) they differ in length, or it is odd.

    Source: Arriola et al., "Block Diffusion" (BD3-LM), 2025, arXiv:2503.09573, appendix B.6.

    >>> print(block_diffusion(4))
    block_diffusion(4)
    """
    return BlockDiffusion(size)
