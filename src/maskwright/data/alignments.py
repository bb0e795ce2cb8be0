"""Word alignments in files: a line for each pair, ``0-0 1-2 2-1``, as fast_align and others write.

The form is that of the Pharaoh decoder and Moses: source word, hyphen, target word, from 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from maskwright.errors import DataError

Link = tuple[int, int]
_LINK = re.compile(r"(\d+)-(\d+)")


def read_pharaoh(
    path: str | Path,
    source_lengths: Sequence[int] | None = None,
    target_lengths: Sequence[int] | None = None,
    *,
    reverse: bool = False,
) -> list[list[Link]]:
    """The links of a file, a list for each line: (target word, source word), for `aligned`.

    Args:
        path: of text in UTF-8; an empty line is a pair without links.
        source_lengths, target_lengths: words of each pair; where given, every link must lie within.
        reverse: whether the file has the target's word first.

    Raises:
        DataError: the file cannot be read, has a link of another form or out of range, or another
            number of lines than there are pairs; with the line's number, from 1.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is no text in UTF-8: byte {error.start} is {error.object[error.start]:#x}."
        ) from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from None
    if lines and not lines[-1]:
        lines.pop()
    for name, lengths in (("sources", source_lengths), ("targets", target_lengths)):
        if lengths is not None and len(lengths) != len(lines):
            raise DataError(
                f"{path} has {len(lines)} lines of alignments for {len(lengths)} {name}: there is "
                "one for each pair, empty where it has no links."
            )
    found = []
    for number, line in enumerate(lines):
        where = f"{path}, line {number + 1}"
        found.append(
            _links(
                line,
                where,
                None if source_lengths is None else source_lengths[number],
                None if target_lengths is None else target_lengths[number],
                reverse,
            )
        )
    return found


def write_pharaoh(path: str | Path, alignments: Iterable[Iterable[Link]]) -> None:
    """Write links (target, source) in the same form, source first; `read_pharaoh` reads them."""
    text = "".join(
        " ".join(f"{source}-{target}" for target, source in links) + "\n" for links in alignments
    )
    Path(path).write_text(text, encoding="utf-8")


def token_links(
    links: Iterable[Link],
    target_words: Sequence[int | None],
    source_words: Sequence[int | None],
) -> list[Link]:
    """Links of words as links of their tokens: every token of one to every token of the other.

    Args:
        links: (target word, source word).
        target_words, source_words: the word of each token, None of special ones, as ``word_ids()``
            of a fast tokenizer's encoding says.

    Raises:
        DataError: a link names a word that has no token.

    >>> token_links([(0, 1)], [0, 0, 1, None], [0, 1, None])
    [(0, 1), (1, 1)]
    """
    found = set()
    for target, source in links:
        sides = []
        for word, words, side in (
            (target, target_words, "target"),
            (source, source_words, "source"),
        ):
            tokens = [at for at, one in enumerate(words) if one == word]
            if not tokens:
                most = max((one for one in words if one is not None), default=-1)
                raise DataError(
                    f"Link ({target}, {source}) of target and source word: the {side} has words 0 "
                    f"to {most}. Cut alignments where you cut the text."
                )
            sides.append(tokens)
        found.update((t, s) for t in sides[0] for s in sides[1])
    return sorted(found)


def _links(
    line: str, where: str, sources: int | None, targets: int | None, reverse: bool
) -> list[Link]:
    found = []
    for text in line.split():
        match = _LINK.fullmatch(text)
        if match is None:
            raise DataError(
                f"{where}: {text!r} is no link. A line has links as 0-0 1-2: the word of the "
                "source, a hyphen, the word of the target, counted from 0."
            )
        first, second = int(match[1]), int(match[2])
        target, source = (first, second) if reverse else (second, first)
        for side, word, words in (("source", source, sources), ("target", target, targets)):
            if words is not None and word >= words:
                raise DataError(
                    f"{where}: {text} links {side} word {word}, but the {side} has {words} words, "
                    f"0 to {words - 1}. Are the sides exchanged (reverse=True), or was the text "
                    "cut?"
                )
        found.append((target, source))
    return found
