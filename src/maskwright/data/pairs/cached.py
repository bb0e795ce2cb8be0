"""cached_pair_table: the table of some pairs, written once for each tokenizer and length."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from maskwright.data.cache import cache_root
from maskwright.data.pairs.pair import Pair, fingerprint
from maskwright.data.pairs.table import PairTable
from maskwright.data.pairs.write import TooLong, write_pair_table
from maskwright.data.table import FORMAT
from maskwright.data.tokenizer import tokenizer_fingerprint
from maskwright.errors import CacheError

_RECIPE = 1  # raised whenever the same pairs would give another table


def cached_pair_table(
    pairs: Sequence[Pair],
    tokenizer: Any,
    *,
    max_length: int | tuple[int, int] = 128,
    too_long: TooLong = "refuse",
    target_tokenizer: Any = None,
    cache_dir: str | Path | None = None,
    progress: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> PairTable:
    """The table of ``pairs``: from the cache if it was written before, else written.

    Its name is a hash of all that decides its content, so a table is never stale.

    Args:
        pairs: such as ``split_by_source(…).train.pairs``.
        tokenizer, max_length, too_long, target_tokenizer, progress: of `write_pair_table`.
        cache_dir: instead of ``$MASKWRIGHT_CACHE`` or ``~/.cache/maskwright``.
        say: called with a line before tokenising, and when a damaged table is written again.

    Raises:
        DataError, VocabularyError, SaveError: as `write_pair_table` does.
    """
    lines = np.fromiter((pair.line for pair in pairs), np.int64, len(pairs))
    sides = [tokenizer, target_tokenizer or tokenizer]
    content = [
        *(FORMAT, _RECIPE, fingerprint(pairs), hashlib.sha256(lines.tobytes()).hexdigest()),
        *(tokenizer_fingerprint(side) for side in sides),
        *(target_tokenizer is None, max_length, too_long),
    ]
    key = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]
    folder = cache_root(cache_dir) / "pairs" / key
    if folder.exists():
        try:
            return PairTable.open(folder)
        except CacheError as error:
            say(f"Writing a cached table again: {error}")
            shutil.rmtree(folder)
    say(f"Tokenising {len(pairs):,} pairs")
    return write_pair_table(
        pairs,
        tokenizer,
        folder,
        max_length=max_length,
        too_long=too_long,
        target_tokenizer=target_tokenizer,
        progress=progress,
    )
