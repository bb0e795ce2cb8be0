"""The commands that train: compare, train, evaluate."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from maskwright.cli.options import (
    Change,
    File,
    Policies,
    Preset,
    listed,
    open_console,
    quiet,
    require,
)
from maskwright.errors import ConfigError


class TaskName(StrEnum):
    """What is trained."""

    MASKED = "masked"
    TRANSLATE = "translate"


Task = Annotated[
    TaskName,
    typer.Option(
        help="`masked`: an encoder that guesses masked tokens. `translate`: an encoder–decoder, "
        "with masks on its decoder's inputs and on its cross-attention (`docs/translation.md`)."
    ),
]
Architecture = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME",
        help="Of `--task translate`: `marian`, `lstm`, `minilm`, or the folder of a model.",
        show_default=False,
    ),
]


def compare(
    file: File = None,
    task: Task = TaskName.MASKED,
    preset: Preset = None,
    policies: Policies = None,
    decoder_masks: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            help="Of `--task translate`: masks on what the decoder reads, such as "
            "`none,random,sparse,span,word-dropout,cmlm`.",
            show_default=False,
        ),
    ] = None,
    cross_masks: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            help="Of `--task translate`: masks on cross-attention, such as "
            "`none,padding,wait-k,window,top-k,learned`.",
            show_default=False,
        ),
    ] = None,
    model: Architecture = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Repeat everything with the seeds 0 … N-1. A verdict needs at least two.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="The folder of results, report and models. [default: runs/compare, or "
            "runs/translate-compare]",
            show_default=False,
        ),
    ] = None,
    changes: Change = None,
) -> None:
    """Train the same model under several masking policies and say honestly which one won.

    All policies of a seed share initial weights, order of samples and warm-up, and are judged on
    the same frozen masks. Writes `results.json`, `report.html` and every trained model under
    `--out`. An interrupted comparison goes on where it stopped when the same command is given
    again.

    Example: `maskwright compare --policies static,dynamic --seeds 2 --out runs/try`

    Or: `maskwright compare --task translate --decoder-masks none,random --cross-masks none,wait-k`
    """
    if task is TaskName.TRANSLATE:
        _only_with(TaskName.MASKED, {"--policies": policies})
        from maskwright.cli.translate import compare_translation

        return compare_translation(
            file=file,
            preset=preset,
            decoder_masks=decoder_masks,
            cross_masks=cross_masks,
            model=model,
            seeds=seeds,
            out=out,
            changes=changes or [],
        )
    translating = {"--decoder-masks": decoder_masks, "--cross-masks": cross_masks, "--model": model}
    _only_with(TaskName.TRANSLATE, translating)
    out = out or Path("runs/compare")
    require("jinja2", "matplotlib")  # the report comes last, and would miss them after hours
    from maskwright.cli.progress import Display
    from maskwright.cli.show import print_results
    from maskwright.lab.compare import compare as run
    from maskwright.lab.preparation import one_line
    from maskwright.lab.settings import load
    from maskwright.report import write_report

    quiet()
    experiment = load(
        file=file, preset=preset, changes=changes or (), policies=listed(policies), seeds=seeds
    )
    command = shlex.join(["maskwright", *sys.argv[1:]])
    results = run(experiment, out, command=command, watcher=Display(open_console(stderr=True)))
    report = write_report(results, out / "report.html")
    console = open_console()
    print_results(console, results)
    console.print(f"Report: {one_line(report)}", highlight=False, soft_wrap=True)


def train(
    file: File = None,
    task: Task = TaskName.MASKED,
    preset: Preset = None,
    policy: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="One of the policies of the settings, or `coverage`, `attention-guided` … "
            "[default: dynamic]",
            show_default=False,
        ),
    ] = None,
    model: Architecture = None,
    decoder_mask: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Of `--task translate`: a mask on what the decoder reads, such as `random`.",
            show_default=False,
        ),
    ] = None,
    cross_mask: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Of `--task translate`: a mask on cross-attention, such as `wait-k`.",
            show_default=False,
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            metavar="N",
            min=0,
            help="Of `--task translate`: minutes of training, by which the learning rate goes.",
            show_default=False,
        ),
    ] = None,
    epochs: Annotated[
        float | None,
        typer.Option(metavar="N", help="Passes over the text. [default: 1]", show_default=False),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(metavar="N", help="Optimizer steps, instead of --epochs.", show_default=False),
    ] = None,
    seed: Annotated[
        int, typer.Option(metavar="N", min=0, help="Of initial weights, order and masks.")
    ] = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="The folder of the model; a new one. [default: runs/model, or runs/translate]",
            show_default=False,
        ),
    ] = None,
    changes: Change = None,
) -> None:
    """Train one model under one policy, on all the training text.

    `AutoModelForMaskedLM.from_pretrained(DIR)` loads it, `AutoTokenizer` its tokenizer. An
    interrupted training goes on from its last checkpoint when the same command is given again.

    Example: `maskwright train --policy dynamic --steps 900 --out runs/model`

    Or: `maskwright train --task translate --minutes 20 --out runs/translate`
    """
    if task is TaskName.TRANSLATE:
        _only_with(TaskName.MASKED, {"--policy": policy})
        from maskwright.cli.translate import train_translation

        return train_translation(
            file=file,
            preset=preset,
            model=model,
            decoder_mask=decoder_mask,
            cross_mask=cross_mask,
            minutes=minutes,
            epochs=epochs,
            steps=steps,
            seed=seed,
            out=out,
            changes=changes or [],
        )
    translating = {"--decoder-mask": decoder_mask, "--cross-mask": cross_mask}
    _only_with(TaskName.TRANSLATE, translating | {"--model": model, "--minutes": minutes})
    out = out or Path("runs/model")
    from maskwright.cli.progress import Display
    from maskwright.lab.preparation import one_line
    from maskwright.lab.settings import load
    from maskwright.lab.train import train as run

    quiet()
    experiment = load(file=file, preset=preset, changes=changes or ())
    result = run(
        experiment,
        out,
        policy=policy or "dynamic",
        seed=seed,
        epochs=epochs,
        steps=steps,
        watcher=Display(open_console(stderr=True)),
    )
    console = open_console()
    print_scores(console, {"held out": result["final"]})
    console.print(f"Model: {one_line(out)}", highlight=False, soft_wrap=True)


def evaluate(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="A model with its tokenizer.", show_default=False),
    ],
    data: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="Score on this text: `state-of-the-union`, a file, a folder of .txt files, or "
            "`hf:NAME`. Needed for a model that maskwright did not train.",
            show_default=False,
        ),
    ] = None,
    text_column: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Where a table of --data has its text.", show_default=False
        ),
    ] = None,
    masks: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Other evaluation masks: `random-15` or `random-40`.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Score a saved model on the frozen evaluation masks that it was judged on.

    The recorded figure must come out again to the last bit; exits with 1 if it does not.

    Example: `maskwright evaluate runs/compare/runs/repeated/dynamic/seed-0`
    """
    from maskwright.lab.config import Evaluation
    from maskwright.lab.evaluate import evaluate as run

    quiet()
    settings = None if masks is None else Evaluation.named(masks)
    found = run(folder, source=data, text_column=text_column, settings=settings)
    console = open_console()
    rows = {"now": found.scores}
    if found.recorded is not None:
        rows["recorded"] = found.recorded
    print_scores(console, rows)
    console.print(
        f"{len(found.held_out.documents):,} positions, masks {found.held_out.name}, "
        f"fingerprint {found.held_out.fingerprint}",
        style="dim",
        highlight=False,
    )
    if found.recorded is not None:
        console.print("Reproduced exactly." if found.reproduced else "NOT reproduced.")
    if not found.reproduced:
        raise typer.Exit(1)


def _only_with(task: TaskName, options: Mapping[str, object]) -> None:
    """Refuses options of another task, which would else be passed over in silence."""
    for name, value in options.items():
        if value is not None:
            raise ConfigError(f"{name} goes with --task {task} only. Leave one of the two out.")


def print_scores(console: Console, rows: dict[str, dict[str, float]]) -> None:
    table = Table(header_style="bold", box=None, pad_edge=False)
    table.add_column("")
    for head in ("loss", "perplexity", "accuracy"):
        table.add_column(head, justify="right")
    for name, scores in rows.items():
        table.add_row(name, *(f"{scores[key]:.6g}" for key in ("loss", "perplexity", "accuracy")))
    console.print(table)
