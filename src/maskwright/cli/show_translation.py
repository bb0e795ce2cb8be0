"""How the results of a translation comparison look in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from maskwright.cli.show import rows_table
from maskwright.report.tables import difference_rows
from maskwright.report.translation_tables import cost_rows, score_rows


def print_translation(console: Console, results: Mapping[str, Any]) -> None:
    """The tables, and the verdict."""
    tables = [(score_rows(results), "On the test sentences")]
    if results["differences"]:
        tables.append((difference_rows(results), "Paired differences from no mask"))
    tables.append((cost_rows(results), "Cost of a run"))
    for rows, title in tables:
        console.print(rows_table(rows, title, console.width))
        console.print()
    console.print(Text(results["verdict"], style="bold"))
