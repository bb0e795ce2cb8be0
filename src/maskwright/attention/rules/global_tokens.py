"""Tokens that everyone attends to and that attend to everyone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from maskwright.attention.coordinates import Coordinates
from maskwright.attention.pattern import Pattern
from maskwright.attention.rules.relative import (
    Alignment,
    check_alignment,
    check_count,
    placed,
    places,
)
from maskwright.attention.rules.tokens import Side, check_name, check_side, truth
from maskwright.errors import AxisError, PatternError


@dataclass(frozen=True, repr=False)
class GlobalTokens(Pattern):
    """Some tokens with everyone; of `global_tokens`."""

    tokens: tuple[int | str, ...]
    size: int = 1
    side: Side = "both"
    align: Alignment = "bottom-right"
    spelled: ClassVar[str] = "global_tokens"

    def __post_init__(self) -> None:
        if not self.tokens:
            raise PatternError("global_tokens() names no token: give positions or a channel.")
        for token in self.tokens:
            if isinstance(token, str):
                check_name(self.spelled, token)
            elif isinstance(token, bool) or not isinstance(token, int):
                raise PatternError(
                    f"{token!r} of global_tokens: it is a position or the name of a channel."
                )
        check_count(self.spelled, "size", self.size, 1)
        check_side(self.spelled, self.side)
        check_alignment(self.spelled, self.align)

    def allowed(self, q: Coordinates, kv: Coordinates) -> Any:
        query, key = places(q, kv, self.align)
        numbers = self._numbers(q, kv)
        if self.side == "kv":
            return self._chosen(kv, key, numbers)
        if self.side == "q":
            return self._chosen(q, query, numbers)
        return self._chosen(q, query, numbers) | self._chosen(kv, key, numbers)

    def _chosen(self, side: Coordinates, place: Any, numbers: list[int]) -> Any:
        block = place // self.size if self.size > 1 else place
        result = side.index < 0
        for first, last in _runs(numbers):
            result = result | ((block >= first) & (block <= last))
        for token in self.tokens:
            if isinstance(token, str):
                result = result | truth(self, side, token)
        return result

    def _numbers(self, q: Coordinates, kv: Coordinates) -> list[int]:
        """The positions, or numbers of blocks, without what lies before the first key."""
        numbers = [token for token in self.tokens if isinstance(token, int)]
        if any(one < 0 for one in numbers) and placed(q, kv):
            raise AxisError(
                f"`{self}` counts from the end of the keys, which have positions of their own, "
                "so that there is no saying where they end. Mark the tokens in a channel."
            )
        end = -(-kv.length // self.size)
        counted = {one if one >= 0 else end + one for one in numbers}
        return sorted(one for one in counted if one >= 0)

    def _source(self) -> str:
        shown = [f'"{one}"' if isinstance(one, str) else str(one) for one in self.tokens]
        if self.size != 1:
            shown.append(f"size={self.size}")
        if self.side != "both":
            shown.append(f'side="{self.side}"')
        if self.align != "bottom-right":
            shown.append(f'align="{self.align}"')
        return f"{self.spelled}({', '.join(shown)})"


def _runs(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """First and last of each stretch of following numbers: one comparison for all of them."""
    start = 0
    for place in range(1, len(numbers) + 1):
        if place == len(numbers) or numbers[place] != numbers[place - 1] + 1:
            yield numbers[start], numbers[place - 1]
            start = place


def global_tokens(
    *tokens: int | str,
    size: int = 1,
    side: Side = "both",
    align: Alignment = "bottom-right",
) -> Pattern:
    """These tokens attend to everyone, and everyone attends to them.

    Args:
        tokens: positions on the line that `causal` compares; negative ones count from the last
            key. A string names a Boolean channel that marks them, for each sample on its own.
        size: with more than 1, numbers are of blocks of so many positions: ``global_tokens(0, -1,
            size=64)`` are the first and the last 64 (the last block as long as what is left).
        side: ``both``; ``kv``: everyone attends to them, but they have no more than others;
            ``q``: they attend to everyone.
        align: as of `Causal`, for the queries.

    Raises:
        PatternError: no tokens, or something else among them; a size below 1; another side or
            alignment.
        AxisError: (where the pattern meets axes) the channel is missing or holds integers; or
            positions from the end where an axis has positions of its own.

    Source: Beltagy, Peters, Cohan, "Longformer", 2020, arXiv:2004.05150, section 3.1; Zaheer et
    al., "Big Bird", 2020, arXiv:2007.14062, section 2.

    >>> print(global_tokens(0, 1), global_tokens("question", side="kv"))
    global_tokens(0, 1) global_tokens("question", side="kv")
    """
    return GlobalTokens(tokens, size, side, align)
