"""Heads that may attend to nothing, so that they need not be computed, and what is left."""

from __future__ import annotations

from maskwright.attention import Pattern, full, nothing
from maskwright.attention.pattern import And, PerHead


def closed_heads(pattern: Pattern, heads: int) -> frozenset[int]:
    """Numbers of the heads for which some term of a pattern says `nothing`.

    None where the pattern is for another number of heads: it will be refused as it is.

    >>> from maskwright.attention import causal, full, nothing, per_head
    >>> sorted(closed_heads(causal & per_head([nothing, full, nothing]), 3))
    [0, 2]
    """
    found: set[int] = set()
    for term in pattern.terms if isinstance(pattern, And) else (pattern,):
        if isinstance(term, PerHead):
            if len(term.patterns) != heads:
                return frozenset()
            found.update(at for at, one in enumerate(term.patterns) if one == nothing)
    return frozenset(found)


def without_heads(pattern: Pattern, closed: frozenset[int]) -> Pattern:
    """The pattern of the heads that are left, in their order.

    >>> from maskwright.attention import causal, full, nothing, per_head, window
    >>> print(without_heads(causal & per_head([nothing, full, full]), frozenset({0})))
    causal
    >>> print(without_heads(per_head([window(1), nothing, full]), frozenset({1})))
    per_head([window(1), full])
    """
    result = full
    for term in pattern.terms if isinstance(pattern, And) else (pattern,):
        if isinstance(term, PerHead):
            left = [one for at, one in enumerate(term.patterns) if at not in closed]
            result = result & (left[0] if len(set(left)) == 1 else PerHead(tuple(left)))
        else:
            result = result & term
    return result
