"""How results and masked text look in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from maskwright.corruption import Diffusion, MaskPlan, Mlm
from maskwright.corruption.recipes import Recipe
from maskwright.corruption.show import TokenView, piece, token_views
from maskwright.lab.examples import plans_of
from maskwright.report.tables import (
    cost_rows,
    difference_rows,
    same_masks_sentences,
    summary_rows,
)
from maskwright.report.tasks import task_facts, task_rows

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
# Narrower consoles leave these columns out; the report and the results file have them.
NARROW = 110
_WIDE_ONLY = ("against", "each seed", "perplexity")
_BY_VERDICT = {"better": "green", "worse": "red"}


def legend(mask_token: str) -> Text:
    """What the styles mean."""
    return Text.assemble(
        (mask_token, STYLES["masked"]),
        " masked   ",
        ("word", STYLES["random"]),
        " replaced at random   ",
        ("word", STYLES["kept"]),
        " kept, but to be predicted",
    )


def masked_text(views: Iterable[TokenView]) -> Text:
    """A sample after corruption, in colour."""
    text = Text()
    for view in views:
        marked = {"deleted": f"[-{view.text}-]", "inserted": f"{{+{view.text}+}}"}
        text.append(marked.get(view.state, view.text), STYLES[view.state])
    return text


def rows_table(rows: list[dict[str, str]], title: str, width: int) -> Table:
    """Rows of strings as a table for a console of ``width``; the keys are its heads.

    An interval stays on one line where the width allows it; a long head is broken before.
    """
    names = [name for name in rows[0] if width >= NARROW or name not in _WIDE_ONLY]
    longest = [max(len(row[name]) for row in rows) for name in names]
    fits = sum(longest) + 2 * len(names) + 4 <= width
    table = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for number, name in enumerate(names):
        least = longest[number] if fits else None
        side = "left" if number == 0 else "right"
        table.add_column(name, justify=side, min_width=least, overflow="fold")
    for row in rows:
        style = next((_BY_VERDICT[cell] for cell in row.values() if cell in _BY_VERDICT), "")
        table.add_row(*(Text(row[name]) for name in names), style=style)
    return table


def print_results(console: Console, results: Mapping[str, Any]) -> None:
    """The tables of every regime, and the verdict."""
    for regime in results["regimes"]:
        tables = [(summary_rows(regime, results["unigram"]), "Held out")]
        if regime["differences"]:
            tables.append(
                (difference_rows(regime), f"Paired differences from {regime['reference']}")
            )
        tables.append((cost_rows(regime), "Cost of a run"))
        for task in regime.get("tasks", []):
            name = task["name"]
            tables.append((task_rows(task, task_facts(results)[name]), f"Fine-tuned on {name}"))
            if task["differences"]:
                title = f"Paired differences from {task['reference']} on {name}"
                tables.append((difference_rows(task), title))
        parts: list[Any] = []
        for rows, title in tables:
            parts += [rows_table(rows, title, console.width), Text()]
        for sentence in same_masks_sentences(regime):
            parts += [Text(sentence), Text()]
        console.print(Panel(Group(*parts[:-1]), title=regime["title"], title_align="left"))
    console.print(Text(results["verdict"], style="bold"))


def recipes_table(recipes: Mapping[str, Recipe]) -> Table:
    """Every published policy: what it becomes, what it means, and its paper."""
    table = Table(header_style="bold", box=None, pad_edge=False)
    for head in ("recipe", "emit", "meaning"):
        table.add_column(head, no_wrap=head != "meaning")
    for name, recipe in recipes.items():
        meaning = Text.assemble(f"{recipe.meaning} ", (recipe.paper, "dim"))
        table.add_row(name, recipe.emit, meaning)
    return table


def preview_table(
    policies: Mapping[str, Any], sample: list[int], tokenizer: Any, *, epochs: int, seed: int
) -> Table:
    """A sample as each policy shows it, epoch by epoch; with its target where that is another
    text than the input."""
    table = Table(show_lines=True, header_style="bold")
    table.add_column("policy")
    for epoch in range(epochs):
        table.add_column(f"epoch {epoch}", ratio=1, overflow="fold")
    for name, policy in policies.items():
        plans = plans_of(policy, sample, tokenizer, epochs=epochs, seed=seed)
        table.add_row(name, *(_cell(plan, tokenizer) for plan in plans))
    return table


def _cell(plan: MaskPlan, tokenizer: Any) -> Text:
    text = masked_text(token_views(plan, 0, tokenizer))
    if not isinstance(plan.masking.emit, Mlm | Diffusion):
        labels = plan.masking.emit(plan).labels[0]
        pieces = (piece(tokenizer, int(token)) for token in labels[labels >= 0])
        text.append("\n→ ", "dim").append("".join(pieces))
    return text
