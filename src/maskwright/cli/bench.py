"""The command that measures: bench."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from maskwright.cli.options import open_console, quiet


def bench(
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Measure this language model of transformers, with its tokenizer, in place of "
            "the table. Its weights are not read.",
            show_default=False,
        ),
    ] = None,
    length: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Tokens of a padded text. Without --model: BERT 4 × 256 at that length alone. "
            "[default: as the table has it; 512 at most for a model]",
            show_default=False,
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Share of the tokens that masked models predict. [default: 0.15]",
            show_default=False,
        ),
    ] = None,
    quick_: Annotated[
        bool, typer.Option("--quick", help="Half the batch and one round: less to rely on.")
    ] = False,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="The folder of `bench.json` and `bench.txt`.")
    ] = Path("runs/bench"),
) -> None:
    """Measure on this machine what training that leaves out padding and unpredicted logits saves.

    Real text of uneven length, filled to about 0.3, in batches as people pad them and as they pack
    them; every case is checked, loss and gradients, before it is timed. Takes some minutes, on one
    thread.

    Example: `maskwright bench --model runs/model --length 256`
    """
    from maskwright.lab.bench.bench import bench as run
    from maskwright.lab.bench.bench import cases_of, notes_of, save, table_of
    from maskwright.lab.preparation import one_line

    quiet()
    progress, begin = open_console(stderr=True), time.perf_counter()

    def told(line: str) -> None:
        passed = time.perf_counter() - begin
        progress.print(f"{passed:5.0f} s  {line}", style="dim", highlight=False)

    found = run(cases_of(model, length=length, rate=rate, quick=quick_), quick=quick_, told=told)
    took = time.perf_counter() - begin
    path = save(found, out, shlex.join(["maskwright", *sys.argv[1:]]), quick_, took)
    console = open_console()
    for line in table_of(found):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    console.print()
    for note in notes_of(found):
        console.print(note, style="dim", highlight=False, markup=False)
    console.print(f"Table: {one_line(path)}", highlight=False, soft_wrap=True)
