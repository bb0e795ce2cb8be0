"""The command line: all its commands, and what they have in common."""

from __future__ import annotations

from typing import Annotated

import typer

import maskwright
from maskwright.cli.attention import explain
from maskwright.cli.bench import bench
from maskwright.cli.data import data_app
from maskwright.cli.experiments import compare, evaluate, train
from maskwright.cli.generate import generate
from maskwright.cli.masks import preview, recipes, replay
from maskwright.cli.prepare import prepare
from maskwright.cli.stop import Stoppable

EPILOG = "Settings, and how to compare on your own text: `docs/experiments.md`."

app = typer.Typer(
    name="maskwright",
    cls=Stoppable,
    help="""Masks for training Transformers: which tokens a model must guess, and may look at.

    Look at masks with `preview`, find out with `compare` which masking policy helps on your text,
    then `train` with it. Begin with: `maskwright preview`

    See who may attend to whom with `explain`.
    """,
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (compare, train):
    app.command(epilog=EPILOG)(command)
for command in (bench, evaluate, explain, generate, prepare, preview, recipes, replay):
    app.command()(command)
app.add_typer(data_app, name="data")


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
