"""The command that writes text: generate."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from maskwright.cli.options import open_console, quiet


def generate(
    folder: Annotated[
        str,
        typer.Argument(
            metavar="DIR",
            help="A model with its tokenizer: of `maskwright train --task translate`, or any "
            "encoder–decoder or causal model of transformers.",
            show_default=False,
        ),
    ],
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TEXT…",
            help="What to translate, or to go on from; standard input, a line each, unless given.",
            show_default=False,
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Texts in UTF-8, a line each.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Where to write, instead of the terminal.", show_default=False
        ),
    ] = None,
    beams: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="1 is greedy. [default: what the model was saved with]",
            show_default=False,
        ),
    ] = None,
    batch: Annotated[int, typer.Option(metavar="N", min=1, help="Texts at a time.")] = 32,
    simultaneous: Annotated[
        int | None,
        typer.Option(
            metavar="K",
            help="Read the source as it comes: wait for K tokens, then write one and read one.",
            show_default=False,
        ),
    ] = None,
    mask_predict: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Passes of a model that fills masks. [default: 4]",
            show_default=False,
        ),
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="The longest answer, in tokens. [default: what the model says]",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Translate texts with a trained model, or go on from them with a causal one.

    A model that was trained with a mask on its cross-attention writes under that mask. An empty
    line gives an empty line.

    Example: `maskwright generate runs/translate "The cat sleeps."`
    """
    from maskwright.lab.files import write_text
    from maskwright.lab.translate.generate import open_generator

    quiet()
    notes = open_console(stderr=True)
    lines, first = _lines(texts, file)
    generator = open_generator(
        folder,
        beams=beams,
        simultaneous=simultaneous,
        passes=mask_predict,
        max_new_tokens=max_tokens,
    )
    for note in generator.notes:
        notes.print(note, style="dim", highlight=False)
    bar = Progress(
        TextColumn("writing"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=notes,
        disable=not notes.is_terminal or len(lines) <= batch,
    )
    with bar:
        task = bar.add_task("", total=len(lines))
        written = generator(
            lines, batch_size=batch, tell=lambda done: bar.update(task, completed=done)
        )
    lagging = getattr(generator.write, "lagging", None)
    if lagging is not None:
        notes.print(
            f"{lagging:.1f} source tokens behind, in the mean.", style="dim", highlight=False
        )
    empty = [number for number, line in enumerate(lines, 1) if not line.strip()]
    if empty:
        shown = ", ".join(map(str, empty[:5])) + (" …" if len(empty) > 5 else "")
        many = f"{first} {shown} is" if len(empty) == 1 else f"{first}s {shown} are"
        notes.print(f"{many} empty, and so is what was written.", style="dim", highlight=False)
    text = "".join(line.replace("\n", " ") + "\n" for line in written)
    if out is not None:
        write_text(out, text)
        notes.print(f"{len(written):,} lines: {out}", style="dim", highlight=False)
    else:
        sys.stdout.write(text)


def _lines(texts: list[str] | None, file: Path | None) -> tuple[list[str], str]:
    """What to write from, and what one of it is called.

    Raises:
        ConfigError: it is given twice, or not at all.
        DataError: it cannot be read.
    """
    from maskwright.errors import ConfigError, DataError

    if texts and file is not None:
        raise ConfigError("Texts are given on the command line and with --file. Give one of them.")
    if texts:
        return texts, "Text"
    if file is None:
        if sys.stdin.isatty():
            raise ConfigError(
                'There is no text. Give some: maskwright generate DIR "text", --file in.txt, or '
                "lines on standard input."
            )
        data, name = sys.stdin.buffer.read(), "standard input"
    else:
        try:
            data, name = file.read_bytes(), str(file)
        except OSError as error:
            raise DataError(f"{file} cannot be read: {error.strerror}.") from None
    try:
        return data.decode("utf-8-sig").splitlines(), "Line"
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DataError(
            f"{name} is not text in UTF-8 (line {line}). Convert it: iconv -f ENCODING -t UTF-8"
        ) from None
