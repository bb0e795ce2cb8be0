"""What Ctrl-C says: one line, and the exit status 130 of a program that was interrupted."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

STATUS = 130
_RESUMING = ("compare", "prepare", "train")


def message(command: str | None) -> str:
    """For people: that work is kept, where the command keeps it."""
    kept = " What was finished is kept; the same command goes on." if command in _RESUMING else ""
    return f"\nStopped.{kept}"


class Stoppable(TyperGroup):
    """The commands. Typer itself would exit without a word."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            typer.echo(message(ctx.invoked_subcommand), err=True)
            raise typer.Exit(STATUS) from None
