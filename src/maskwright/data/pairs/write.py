"""write_pair_table: tokenise pairs, and write them as the two token tables of a PairTable."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm.auto import tqdm

from maskwright.data.cache import place_folder
from maskwright.data.corpus import knows_words
from maskwright.data.pairs.pair import Pair, fingerprint
from maskwright.data.pairs.sides import Side, check_ends, tokenise_side
from maskwright.data.pairs.table import SOURCE, TARGET, PairTable
from maskwright.data.table_writer import TableWriter
from maskwright.data.tokenizer import tokenizer_fingerprint
from maskwright.errors import ConfigError, DataError, SaveError
from maskwright.vocabulary import Vocabulary

TooLong = Literal["refuse", "drop"]

_AT_A_TIME = 5_000  # pairs; Python lists of ids and spans take some 100 bytes a token


def write_pair_table(
    pairs: Sequence[Pair],
    tokenizer: Any,
    path: str | Path,
    *,
    max_length: int | tuple[int, int],
    too_long: TooLong = "refuse",
    target_tokenizer: Any = None,
    progress: bool = False,
) -> PairTable:
    """Write the ids of ``pairs`` into the new folder ``path``.

    A special token that is written out in a text (``</s>``) is text, not a special token, so that
    no target ends before its end.

    Args:
        tokenizer: a Hugging Face tokenizer; its ``text_target`` mode is used for targets.
        max_length: tokens of a source and of a target at most, special tokens included: one number
            for both, or (source, target).
        too_long: ``"refuse"``: a longer pair is an error that counts them. ``"drop"``: they are
            left out, and `PairTable.dropped` counts them. Nothing is ever cut.
        target_tokenizer: where targets have a tokenizer of their own.
        progress: draw a bar on standard error, where that is a terminal.

    Raises:
        DataError: pairs are too long, hold no token, are none, or their lines fall.
        VocabularyError: the tokenizer does not end a target with ``</s>``.
        SaveError: the folder is there already, or cannot be written.
    """
    path = Path(path)
    if path.exists():
        raise SaveError(f"{path} is there already. Open it with PairTable.open, or delete it.")
    limits = _limits(max_length)
    if not pairs:
        raise DataError("There are no pairs to write a table of. Check the part and its size.")
    if too_long not in ("refuse", "drop"):
        raise ConfigError(f'too_long is "refuse" or "drop", not {too_long!r}.')
    lines = np.fromiter((pair.line for pair in pairs), np.int64, len(pairs))
    if (np.diff(lines) < 0).any():
        raise DataError(
            "The lines of the pairs fall somewhere, and a table keeps pairs in the order of their "
            "file; the order of training is the sampler's. Number pairs of several files anew: "
            "[Pair(p.source, p.target, n) for n, p in enumerate(pairs, 1)]."
        )
    source_side = tokenizer, False
    target_side = (tokenizer, True) if target_tokenizer is None else (target_tokenizer, False)
    meta = {
        "pairs": fingerprint(pairs),
        "tokenizers": [tokenizer_fingerprint(side) for side, _ in (source_side, target_side)],
        "max_length": list(limits),
        "given": len(pairs),
    }

    bar = tqdm(
        total=len(pairs), desc="Tokenising", unit="pairs", disable=None if progress else True
    )

    def fill(folder: Path) -> None:
        writers = [
            TableWriter(
                folder / name,
                vocabulary_size=Vocabulary.from_tokenizer(side).size,
                meta=meta,
                word_starts=knows_words(side),
            )
            for name, (side, _) in ((SOURCE, source_side), (TARGET, target_side))
        ]
        with writers[0], writers[1], bar:
            counted = _Counted()
            for first in range(0, len(pairs), _AT_A_TIME):
                some = pairs[first : first + _AT_A_TIME]
                numbers = lines[first : first + _AT_A_TIME]
                sides = (
                    tokenise_side(*source_side, [pair.source for pair in some], numbers),
                    tokenise_side(*target_side, [pair.target for pair in some], numbers),
                )
                check_ends(target_side[0], sides[1])
                fits = counted.fits(sides, numbers, limits)
                for writer, side in zip(writers, (side.only(fits) for side in sides), strict=True):
                    writer.add(
                        side.ids, side.lengths, documents=numbers[fits], word_starts=side.starts
                    )
                bar.update(len(some))
            counted.check(len(pairs), limits, too_long)

    place_folder(path, fill)
    return PairTable.open(path)


class _Counted:
    """The pairs that are too long: how many, and the longest of them."""

    def __init__(self) -> None:
        self.number = 0
        self.line, self.longest = 0, (0, 0)

    def fits(
        self, sides: tuple[Side, Side], lines: np.ndarray, limits: tuple[int, int]
    ) -> np.ndarray:
        """``(B,)`` bool: which pairs are within the limits; the others are counted."""
        source, target = (side.lengths for side in sides)
        fits = (source <= limits[0]) & (target <= limits[1])
        if not fits.all():
            self.number += int((~fits).sum())
            at = int(np.argmax(np.where(fits, 0, source + target)))
            if source[at] + target[at] > sum(self.longest):
                self.line, self.longest = int(lines[at]), (int(source[at]), int(target[at]))
        return fits

    def check(self, given: int, limits: tuple[int, int], too_long: TooLong) -> None:
        if self.number and (too_long == "refuse" or self.number == given):
            drop = ', or leave them out with too_long="drop"' if self.number < given else ""
            raise DataError(
                f"{self.number:,} of {given:,} pairs are longer than max_length={limits} (source, "
                f"target) tokens; the longest, line {self.line}, has {self.longest}. Raise "
                f"max_length{drop}."
            )


def _limits(max_length: int | tuple[int, int]) -> tuple[int, int]:
    limits = (max_length, max_length) if isinstance(max_length, int) else tuple(max_length)
    if len(limits) != 2 or min(limits) < 2:
        raise ConfigError(
            f"max_length={max_length!r} must be one number or two (source, target), each at least "
            "2: a token and </s>. 128 is usual for sentences."
        )
    return limits[0], limits[1]
