"""What the commands share: options, consoles, and what they need."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from maskwright.errors import MissingExtra

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
        help="Start from the settings of `quick` (used if there is no file), `guided`, "
        "`guided-minilm`, `wikitext2-minilm` or `mask-aware`; of translation: `tatoeba-small` or "
        "`translate-quick`.",
        show_default=False,
    ),
]
Policies = Annotated[
    str | None,
    typer.Option(
        metavar="A,B",
        help="Only these of the policies, such as `static,dynamic`; others by their names, such "
        "as `attention-guided`.",
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


def open_console(stderr: bool = False) -> Console:
    return Console(stderr=stderr)


def quiet() -> None:
    """Transformers logs to the terminal what the display already shows."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def require(*packages: str) -> None:
    for package in packages:
        if find_spec(package) is None:
            raise MissingExtra(package, "lab")


def listed(policies: str | None) -> list[str] | None:
    return None if policies is None else [name.strip() for name in policies.split(",")]
