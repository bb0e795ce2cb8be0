"""Word alignments of the training pairs, from a file that goes line by line with theirs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from maskwright.data.alignments import Link, read_pharaoh
from maskwright.data.pairs import Pair
from maskwright.errors import DataError


@dataclass(frozen=True)
class Alignments:
    """Links (target word, source word) of pairs, by their line in the file of pairs.

    Words are what stands between spaces.

    Args:
        pairs: the pairs of training, by line.
        links: of each of them.
    """

    pairs: dict[int, Pair]
    links: dict[int, list[Link]]

    @property
    def fingerprint(self) -> str:
        """sha256 of the links, 64 hex digits."""
        return hashlib.sha256(repr(sorted(self.links.items())).encode()).hexdigest()


def read_alignments(path: str, pairs: Iterable[Pair], corpus: Iterable[Pair]) -> Alignments:
    """The alignments of ``pairs`` in a file whose line *n* is that of line *n* of their own file.

    Raises:
        DataError: the file cannot be read, has too few lines, a link before the first pair, as a
            file without a line for the names of columns has, or one to a word that there is not.
    """
    found = read_pharaoh(path)
    lines = [pair.line for pair in corpus]
    first, last = min(lines), max(lines)
    rule = (
        "Line n has the links of line n of the pairs' own file: an empty line where there are "
        "none, and one for the names of columns."
    )
    if len(found) < last:
        raise DataError(f"{path} has {len(found):,} lines, and a pair is on line {last:,}. {rule}")
    early = next((number for number in range(1, first) if found[number - 1]), None)
    if early is not None:
        raise DataError(
            f"{path}, line {early} has links, and the first pair is on line {first}. {rule}"
        )
    by_line = {pair.line: pair for pair in pairs}
    links = {line: found[line - 1] for line in by_line}
    for line, pair in by_line.items():
        _check(path, pair, links[line])
    return Alignments(by_line, links)


def _check(path: str, pair: Pair, links: list[Link]) -> None:
    for place, (side, text) in enumerate((("target", pair.target), ("source", pair.source))):
        words, last = len(text.split()), max((link[place] for link in links), default=-1)
        if last >= words:
            raise DataError(
                f"{path}, line {pair.line} links {side} word {last}, but the {side} {text!r} has "
                f"the words 0 to {words - 1}, with spaces between them. Links are written source "
                "first, as 0-0 1-2; align the text as it stands in the file of pairs."
            )
