"""The command line: it parses, calls and prints."""

from __future__ import annotations

import sys


def main() -> None:
    """The command ``maskwright``. Exits with 2 and one message where the user can mend it."""
    from maskwright.errors import MaskwrightError, MissingExtra

    try:
        try:
            from maskwright.cli.app import app
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("maskwright"):
                raise
            raise MissingExtra(error.name or "a package", "lab") from None
        app()
    except MaskwrightError as error:
        print(f"maskwright: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\nStopped. What was finished is kept; the same command goes on.", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)  # the reader of a pipe has seen enough
