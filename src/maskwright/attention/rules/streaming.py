"""Rules for reading a source while writing a target: simultaneous translation, streaming speech.

Target and source are compared by position, and both count from 0: give ``positions`` to an axis
that holds a later part of its sequence, as the queries of a generation with a cache do. None of
these rules knows of padding; add ``& padding``.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

from maskwright.attention.coordinates import Coordinates
from maskwright.attention.pattern import Pattern
from maskwright.attention.rules.relative import check_count
from maskwright.errors import PatternError

# Rates are exact fractions with denominators up to this; 0.1 is 1/10, not the nearest float.
_FINEST = 1000


def as_rate(rule: str, rate: float) -> int | float:
    """A rate of source tokens for each target token; whole ones become integers.

    Raises:
        PatternError: it is not a number from 0.001 to 1,000,000.
    """
    number = isinstance(rate, int | float) and not isinstance(rate, bool)
    if not number or not 1 / _FINEST <= rate <= 10**6:
        raise PatternError(
            f"rate={rate!r} of {rule}: source tokens for each target token, from 0.001 to 1000000."
        )
    return int(rate) if rate == int(rate) else float(rate)


def fraction(rate: float) -> tuple[int, int]:
    """Numerator and denominator of a rate."""
    return Fraction(rate).limit_denominator(_FINEST).as_integer_ratio()


@dataclass(frozen=True, repr=False)
class WaitK(Pattern):
    """Reads ``k`` tokens, then writes and reads in turn; of `wait_k`."""

    k: int
    rate: int | float = 1
    spelled: ClassVar[str] = "wait_k"

    def __post_init__(self) -> None:
        check_count(self.spelled, "k", self.k, 1)
        object.__setattr__(self, "rate", as_rate(self.spelled, self.rate))

    def allowed(self, q: Coordinates, kv: Coordinates) -> Any:
        over, under = fraction(self.rate)
        # ceil(rate * (t + 1)), of which the first token has had ceil(rate)
        read = -((q.position + 1) * -over // under)
        return kv.position < read + (self.k + -over // under)


def wait_k(k: int, rate: float = 1) -> Pattern:
    """Cross-attention of simultaneous translation: the target runs ``k`` tokens behind its source.

    Target token ``t``, counted from 0, may attend to the source tokens at positions below
    ``k + rate * t``: the first sees ``k`` of them, each later one ``rate`` more. Exactly, to
    positions below ``k - ceil(rate) + ceil(rate * (t + 1))``, which for ``rate = 1 - c`` is
    wait-k with the catch-up ``c`` of the paper. A source that ends sooner is seen whole.

    The encoder must not look ahead either: give it ``causal``, or encode each prefix anew.

    Args:
        k: source tokens read before the first target token is written, 1 or more.
        rate: source tokens read for each target token written; frames, where the source is
            speech.

    Raises:
        PatternError: ``k`` below 1, or a rate outside 0.001 to 1,000,000.

    Source: Ma et al., "STACL: Simultaneous Translation with Implicit Anticipation and
    Controllable Latency using Prefix-to-Prefix Framework", 2019 (arXiv:1810.08398).

    >>> from maskwright.attention import Axis
    >>> wait_k(2).dense(Axis(3), Axis(4))[0, 0].int().tolist()
    [[1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]
    """
    return WaitK(k, rate)


@dataclass(frozen=True, repr=False)
class ChunkedStreaming(Pattern):
    """Sees its own chunk and some before it; of `chunked_streaming`."""

    chunk: int
    left: int | None = None
    lookahead: int = 0
    rate: int | float = 1
    spelled: ClassVar[str] = "chunked_streaming"

    def __post_init__(self) -> None:
        check_count(self.spelled, "chunk", self.chunk, 1)
        if self.left is not None:
            check_count(self.spelled, "left", self.left)
        check_count(self.spelled, "lookahead", self.lookahead)
        object.__setattr__(self, "rate", as_rate(self.spelled, self.rate))

    def allowed(self, q: Coordinates, kv: Coordinates) -> Any:
        over, under = fraction(self.rate)
        number = q.position * over // (under * self.chunk)
        allowed = kv.position < (number + 1) * self.chunk + self.lookahead
        if self.left is None:
            return allowed
        return allowed & (kv.position >= (number - self.left) * self.chunk)


def chunked_streaming(
    chunk: int, left: int | None = None, lookahead: int = 0, rate: float = 1
) -> Pattern:
    """Attention of a model that hears its source in chunks: nothing beyond the chunk at hand.

    A query at position ``p`` is in chunk ``p * rate // chunk``. It may attend to that whole
    chunk, also to keys behind itself, to ``left`` chunks before it, and to ``lookahead`` keys
    after it.

    Args:
        chunk: keys in a chunk, 1 or more.
        left: how many chunks before its own a query sees; all of them unless given.
        lookahead: keys after the chunk that have been heard too (right context).
        rate: keys for each query: 1 in the self-attention of an encoder; in cross-attention, how
            many frames a token lasts.

    Raises:
        PatternError: a number outside its range.

    Source: Zhang et al., "Unified Streaming and Non-streaming Two-pass End-to-end Model for Speech
    Recognition" (U2), 2020 (arXiv:2012.05481), chunks and left chunks; Shi et al., "Emformer",
    2021 (arXiv:2010.10759), right context.

    >>> from maskwright.attention import Axis
    >>> chunked_streaming(2, left=0).dense(Axis(4))[0, 0].int().tolist()
    [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]
    """
    return ChunkedStreaming(chunk, left, lookahead, rate)
