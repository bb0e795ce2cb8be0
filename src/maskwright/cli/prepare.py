"""The command that makes token tables of text of any size."""

from __future__ import annotations

import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from maskwright.cli.options import open_console, quiet


class ShardFormat(StrEnum):
    """What shards are written as."""

    ARROW = "arrow"
    PARQUET = "parquet"


class EngineName(StrEnum):
    """Who does the work."""

    LOCAL = "local"
    RAY = "ray"


def prepare(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A .txt file (a blank line ends a document), .jsonl, .csv or .parquet (a row is "
            "one), a folder of one of these, `hf:NAME`, `state-of-the-union`, or a URL that fsspec "
            "reads, such as `s3://bucket/texts`.",
            show_default=False,
        ),
    ],
    tokenizer: Annotated[
        str,
        typer.Option(metavar="DIR", help="A folder or Hub name.", show_default=False),
    ],
    out: Annotated[
        Path,
        typer.Option(metavar="DIR", help="The folder to write.", show_default=False),
    ],
    max_length: Annotated[
        int, typer.Option(metavar="N", min=2, help="Tokens in a sample at most.")
    ] = 512,
    shard_tokens: Annotated[
        int, typer.Option(metavar="N", min=1, help="Tokens in a shard at most; 3 bytes each.")
    ] = 100_000_000,
    shard_format: Annotated[
        ShardFormat,
        typer.Option(
            "--format",
            help="`arrow` is mapped where it lies. `parquet` takes less room, and is decoded into "
            "the cache before it is read in random order.",
        ),
    ] = ShardFormat.ARROW,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Processes at a time; 1 unless given. With --engine ray, cores of a cluster that "
            "is started here.",
            show_default=False,
        ),
    ] = None,
    engine: Annotated[
        EngineName,
        typer.Option(
            help="`local`: this machine. `ray`: the Ray cluster of `RAY_ADDRESS`, or the one that "
            "runs on this machine, or one that is started here."
        ),
    ] = EngineName.LOCAL,
    split: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Only `train`, `validation` or `test`, as `compare` divides the source.",
        ),
    ] = "all",
    text_column: Annotated[
        str, typer.Option(metavar="NAME", help="The column of tabular sources.")
    ] = "text",
    keep_duplicates: Annotated[
        bool, typer.Option("--keep-duplicates", help="Drop empty documents only.")
    ] = False,
    pmi: Annotated[
        bool,
        typer.Option("--pmi", help="Learn phrases and count pairs of tokens, for PMI-Masking."),
    ] = False,
) -> None:
    """Tokenise text of any size into shards that are mapped, with its statistics.

    Documents that are empty, or equal to an earlier one but for white space, are dropped. Writes
    token tables of a fixed size, how often each token occurs and in how many documents, and
    `manifest.json` with the sum of each file. The bytes are the same for any number of workers and
    either engine.

    The same command goes on where it was stopped, and mends a shard that is missing or damaged.
    Read the folder with `ShardedTable.open(DIR)`: a data set for `MaskingTrainer`.

    Example: `maskwright prepare texts.jsonl --tokenizer bert-base-uncased --out tokens --workers 8`
    """
    from maskwright.data.prepare import PhraseSettings, Settings, Source
    from maskwright.data.prepare import prepare as run
    from maskwright.lab.text import read_tokenizer

    quiet()
    settings = Settings(
        max_length=max_length,
        shard_tokens=shard_tokens,
        deduplicate=not keep_duplicates,
        phrases=PhraseSettings() if pmi else None,
        format=shard_format.value,
    )
    text = Source(source, text_column, split)
    doer = _engine(engine, workers, source)
    began = time.monotonic()
    try:
        with _Bars() as bars:
            prepared = run(
                text, read_tokenizer(tokenizer), out, settings, engine=doer, progress=bars.show
            )
    finally:
        doer.close()
    _say(prepared, time.monotonic() - began)


def _engine(name: EngineName, workers: int | None, source: str) -> Any:
    from maskwright.data.prepare import Here, Processes
    from maskwright.errors import ConfigError

    alone = name is EngineName.LOCAL and workers in (None, 1)
    if source.startswith("memory://") and not alone:
        raise ConfigError(f"{source} is in the memory of one process. Use --workers 1.")
    if name is EngineName.RAY:
        from maskwright.data.prepare.cluster import Cluster

        return Cluster(workers)
    return Here() if workers in (None, 1) else Processes(workers)


class _Bars:
    """A bar for each step in a terminal; elsewhere nothing."""

    def __init__(self) -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        console = open_console(stderr=True)
        self.progress = Progress(
            TextColumn("{task.description:<24}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self.steps: dict[str, Any] = {}

    def show(self, step: str, done: int, total: int) -> None:
        if step not in self.steps:
            self.steps[step] = self.progress.add_task(step, total=total)
        self.progress.update(self.steps[step], completed=done)

    def __enter__(self) -> _Bars:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()


def _say(prepared: Any, seconds: float) -> None:
    from maskwright.lab.preparation import one_line

    totals = prepared.totals
    found = "shard" if prepared.shards == 1 else "shards"
    lines = (
        ("documents", f"{totals['documents']:,} of {totals['documents_read']:,}"),
        ("dropped", f"{totals['duplicates']:,} duplicates, {totals['empty']:,} empty"),
        ("samples", f"{totals['samples']:,}"),
        ("tokens", f"{totals['tokens']:,}"),
        ("shards", f"{prepared.shards:,}, {prepared.written:,} of them written now"),
        ("time", f"{seconds:.1f} s"),
    )
    console = open_console()
    for name, value in lines:
        console.print(f"{name:<10} {value}", highlight=False)
    console.print(
        f"Prepared: {one_line(prepared.folder)} ({prepared.shards:,} {found})",
        highlight=False,
        soft_wrap=True,
    )
