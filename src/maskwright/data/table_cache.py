"""cached_table: the token table of a corpus, built once for each tokenizer and length."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from maskwright.data.cache import cache_root
from maskwright.data.corpus import Progress, build_table
from maskwright.data.sources import Corpus
from maskwright.data.table import FORMAT, TokenTable
from maskwright.data.tokenizer import tokenizer_fingerprint
from maskwright.errors import CacheError, MissingExtra


def cached_table(
    corpus: Corpus,
    split: str,
    tokenizer: Any,
    *,
    max_length: int,
    cache_dir: str | Path | None = None,
    progress: bool = True,
    note: Callable[[str], None] | None = None,
) -> TokenTable:
    """The table of one split: from the cache if it was built before, else built.

    Its name is a hash of all that decides its content (corpus, split, tokenizer, max_length,
    format), so a table is never stale. Processes that build one table at once each write their
    own temporary file, and the last rename wins with the same content.

    Args:
        cache_dir: instead of ``$MASKWRIGHT_CACHE`` or ``~/.cache/maskwright``.
        progress: show a bar on standard error while building, where that is a terminal.
        note: called with a sentence when a damaged table is built again; standard error
            unless given.

    Raises:
        DataError: the split has no documents, or they hold no token.
        SaveError: the cache cannot be written.
    """
    documents = corpus.documents(split)
    path = table_path(corpus, split, tokenizer, max_length=max_length, cache_dir=cache_dir)
    if path.exists():
        try:
            return TokenTable.open(path)
        except CacheError as error:
            (note or _print)(f"Building a cached table again: {error}")
    with progress_bar(f"Tokenising {corpus.name} ({split})", len(documents), progress) as advance:
        return build_table(
            documents,
            tokenizer,
            max_length=max_length,
            path=path,
            split=split,
            corpus_fingerprint=corpus.fingerprint,
            progress=advance,
        )


def table_path(
    corpus: Corpus,
    split: str,
    tokenizer: Any,
    *,
    max_length: int,
    cache_dir: str | Path | None = None,
) -> Path:
    """Where `cached_table` keeps the table."""
    content = [FORMAT, corpus.fingerprint, split, tokenizer_fingerprint(tokenizer), max_length]
    key = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]
    return cache_root(cache_dir) / "tables" / key / f"{split}.arrow"


def _print(line: str) -> None:
    print(line, file=sys.stderr)


@contextmanager
def progress_bar(title: str, total: int, wanted: bool) -> Iterator[Progress | None]:
    """A bar on standard error where that is a terminal; called with parts and tokens done."""
    if not (wanted and sys.stderr.isatty()):
        yield None
        return
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars
    except ImportError:
        raise MissingExtra("rich", "lab") from None
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[tokens]:,} tokens"),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(title, total=total, tokens=0)
        yield lambda done, tokens: bars.update(task, completed=done, tokens=tokens)
