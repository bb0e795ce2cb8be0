"""How results and masked text look in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from maskwright.corruption.show import TokenView, piece
from maskwright.report.tables import cost_rows, difference_rows, summary_rows

# Not by colour alone: a masked token is reversed, a random one underlined, a kept one bold.
STYLES = {
    "untouched": "",
    "masked": "reverse yellow",
    "random": "underline magenta",
    "kept": "bold cyan",
    "deleted": "strike red",
    "sentinel": "reverse blue",
    "infilled": "reverse underline yellow",
    "inserted": "italic green",
}
LEGEND = Text.assemble(
    ("[MASK]", STYLES["masked"]),
    " masked   ",
    ("word", STYLES["random"]),
    " replaced at random   ",
    ("word", STYLES["kept"]),
    " kept, but to be predicted",
)
_BY_VERDICT = {"better": "green", "worse": "red"}


def masked_text(views: Iterable[TokenView]) -> Text:
    """A sample after corruption, in colour."""
    text = Text()
    for view in views:
        marked = {"deleted": f"[-{view.text}-]", "inserted": f"{{+{view.text}+}}"}
        text.append(marked.get(view.state, view.text), STYLES[view.state])
    return text


def rows_table(rows: list[dict[str, str]], title: str) -> Table:
    """Rows of strings as a table; the keys are its heads."""
    table = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for number, name in enumerate(rows[0]):
        table.add_column(name, justify="left" if number == 0 else "right")
    for row in rows:
        style = next((_BY_VERDICT[cell] for cell in row.values() if cell in _BY_VERDICT), "")
        table.add_row(*(Text(cell) for cell in row.values()), style=style)
    return table


def print_results(console: Console, results: Mapping[str, Any]) -> None:
    """The tables of every regime, and the verdict."""
    for regime in results["regimes"]:
        parts: list[Any] = [
            rows_table(summary_rows(regime, results["unigram"]), "Held out"),
            Text(),
        ]
        if regime["differences"]:
            title = f"Paired differences from {regime['reference']}"
            parts += [rows_table(difference_rows(regime), title), Text()]
        parts.append(rows_table(cost_rows(regime), "Cost of a run"))
        console.print(Panel(Group(*parts), title=regime["title"], title_align="left"))
    console.print(Text(results["verdict"], style="bold"))


def recipes_table(recipes: Mapping[str, Any]) -> Table:
    """Every published policy: its paper, what it becomes and what it means."""
    table = Table(header_style="bold", box=None, pad_edge=False)
    for head in ("recipe", "paper", "emit", "meaning"):
        table.add_column(head, no_wrap=head == "recipe")
    for name, recipe in recipes.items():
        table.add_row(name, getattr(recipe, "paper", ""), _emit(recipe), _meaning(recipe))
    return table


def _emit(recipe: Any) -> str:
    try:
        return str(getattr(recipe, "build", recipe)().emit)
    except TypeError:  # its ``build`` wants what only a user knows
        needs = getattr(recipe, "needs", "")
        return f"needs {needs if isinstance(needs, str) else ', '.join(needs)}"


def _meaning(recipe: Any) -> str:
    # a plain function says it in the first line of its docstring
    return getattr(recipe, "meaning", None) or (recipe.__doc__ or "").strip().split("\n")[0]


def target_text(emitted: Any, tokenizer: Any, row: int = 0) -> str:
    """The labels of one sample as text, for emits whose labels are not aligned with the input."""
    labels = emitted.labels[row]
    return "".join(piece(tokenizer, int(token)) for token in labels[labels >= 0])
