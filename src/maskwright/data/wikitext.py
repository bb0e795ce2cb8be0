"""WikiText-2 as articles: the raw files, divided at their top-level headings."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

from maskwright.errors import DataError

FILES = {"train": "train.raw.gz", "validation": "valid.raw.gz", "test": "test.raw.gz"}
# A title stands alone between blank lines. Without that condition, lines of tables and formulae
# (" = Ties , L = ") would cut 31 articles in two; with it there are 600, 60 and 60, as published.
_TITLE = re.compile(r"(?:\A|(?<=\n)) ?\n(?= = (?!=)[^\n]*[^=\n] = \n ?\n)")


def articles(text: str) -> list[str]:
    r"""The articles of one raw file, each from its heading ``= Title =`` on.

    >>> articles(" \n = One = \n \n First . \n \n = Two = \n \n Second . \n")
    ['= One = \n \n First .', '= Two = \n \n Second .']
    """
    return [piece.strip() for piece in _TITLE.split(text) if piece.strip()]


def read_wikitext2(folder: Path) -> dict[str, list[str]]:
    """Split → articles, from the three files in ``folder``."""
    splits = {}
    for split, name in FILES.items():
        try:
            text = gzip.decompress((folder / name).read_bytes()).decode()
        except (OSError, EOFError, ValueError) as error:
            raise DataError(
                f"{folder / name} is not a readable WikiText-2 file ({error}). Delete {folder} "
                "and run: maskwright data get wikitext2"
            ) from None
        splits[split] = articles(text)
    return splits
