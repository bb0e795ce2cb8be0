"""The command line: it parses, calls and prints."""

from __future__ import annotations

import sys

# What the extra "lab" brings.
EXTRAS = (
    "accelerate",
    "datasets",
    "jinja2",
    "matplotlib",
    "pyarrow",
    "pydantic",
    "rich",
    "scipy",
    "sklearn",
    "tokenizers",
    "transformers",
    "typer",
    "yaml",
)


def main() -> None:
    """The command ``maskwright``. Exits with 2 and one message where the user can mend it."""
    from maskwright.errors import MaskwrightError, MissingExtra

    try:
        try:
            from maskwright.cli.app import app

            app(prog_name="maskwright")  # it imports most packages only when a command needs them
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            if package not in EXTRAS:
                raise
            raise MissingExtra(package, "lab") from None
    except MaskwrightError as error:
        print(f"maskwright: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)  # while it was still importing
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)  # the reader of a pipe has seen enough
