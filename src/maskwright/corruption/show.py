"""What a plan did to a sample, as people can read it: in a terminal, or in a notebook."""

from __future__ import annotations

import html
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from maskwright.corruption.plan import Action, MaskPlan

State = Literal[
    "untouched", "masked", "random", "kept", "deleted", "sentinel", "infilled", "inserted"
]

_STATES: dict[int, State] = {
    Action.MASK: "masked",
    Action.RANDOM: "random",
    Action.KEEP: "kept",
    Action.DELETE: "deleted",
    Action.SENTINEL: "sentinel",
    Action.INFILL: "infilled",
}


@dataclass(frozen=True)
class TokenView:
    """One token as it stands after corruption; or a deleted one, where it stood.

    Args:
        text: its text, with the space before it where there is one.
        state: what happened to it.
        original: the text before, for tokens that must be predicted; of the whole unit where one
            token stands for it.
        moved: whether it is read after another token than before.
    """

    text: str
    state: State
    original: str | None = None
    moved: bool = False


def token_views(plan: MaskPlan, row: int, tokenizer: Any = None) -> list[TokenView]:
    """The tokens of sample ``row`` of a plan, in the order in which the model reads them.

    Without a tokenizer, the text of a token is its id.
    """
    start, stop = (int(bound) for bound in plan.batch.tokens.offsets[row : row + 2])
    first, last = np.searchsorted(plan.positions, (start, stop)).tolist()
    texts = [piece(tokenizer, token) for token in plan.batch.tokens[row].tolist()]
    chosen = {int(plan.positions[i]): i for i in range(first, last)}
    order = range(start, stop) if plan.order is None else plan.order[start:stop].tolist()
    views: list[TokenView] = []
    moved = False
    for place, position in enumerate(order):
        before = position - 1 if place == 0 else order[place - 1]
        moved = moved or position != (start if place == 0 else before + 1)
        for i in range(*np.searchsorted(plan.inserts, (position, position + 1)).tolist()):
            text = piece(tokenizer, int(plan.inserted[i]))
            views.append(TokenView(text, "inserted", moved=moved))
            moved = False
        text = texts[position - start]
        view = TokenView(text, "untouched", moved=moved)
        if position in chosen:
            i = chosen[position]
            replacement, state = int(plan.replacements[i]), _STATES[int(plan.actions[i])]
            if state == "deleted":
                view = TokenView(text, state, text, moved)
            elif replacement < 0:
                continue  # the first token of its unit stands for it
            else:
                original = "".join(texts[p - start] for p in _unit(plan, i))
                view = TokenView(piece(tokenizer, replacement), state, original, moved)
        views.append(view)
        moved = False
    return views


def _unit(plan: MaskPlan, i: int) -> list[int]:
    """The positions that the replacement of selected token ``i`` stands for."""
    if plan.units is None or plan.actions[i] not in (Action.SENTINEL, Action.INFILL):
        return [int(plan.positions[i])]
    first, stop = np.searchsorted(plan.units, (plan.units[i], plan.units[i] + 1))
    return plan.positions[first:stop].tolist()


def piece(tokenizer: Any, token_id: int) -> str:
    """The text of one id, with the space before it where the tokenizer marks one."""
    if tokenizer is None:
        return f" {token_id}"
    token: str = tokenizer.convert_ids_to_tokens(token_id)
    if token_id in tokenizer.all_special_ids:
        return token
    if token.startswith("##"):  # WordPiece marks what goes on, not what begins
        return token[2:]
    if "▁" in token:  # Metaspace: decode() would drop the space of a first token
        return token.replace("▁", " ")
    text = tokenizer.decode([token_id])
    begins = text == token and _marks_continuation(tokenizer) and token[:1].isalnum()
    return f" {text}" if begins else text


def _marks_continuation(tokenizer: Any) -> bool:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return getattr(getattr(backend, "model", None), "continuing_subword_prefix", None) == "##"


# ------------------------------------------------------------------------- drawn

# Select Graphic Rendition (ECMA-48, 8.3.117): reverse 7, underline 4, bold 1, struck 9, italic 3.
_ANSI: dict[State, str] = {
    "untouched": "",
    "masked": "7;33",
    "random": "4;35",
    "kept": "1;36",
    "deleted": "9;31",
    "sentinel": "7;34",
    "infilled": "7;4;33",
    "inserted": "3;32",
}
# Both colours are always set, so that they can be read on a light page and on a dark one.
_CSS: dict[State, str] = {
    "untouched": "",
    "masked": "background:#ffe08a;color:#3d2f00",
    "random": "background:#f3d1f4;color:#4a0d4d;text-decoration:underline",
    "kept": "background:#cdeff5;color:#063b45;font-weight:bold",
    "deleted": "background:#ffd5d1;color:#5c0f08;text-decoration:line-through",
    "sentinel": "background:#cfdcff;color:#0c2266",
    "infilled": "background:#ffe08a;color:#3d2f00;border-bottom:2px solid #3d2f00",
    "inserted": "background:#d3f2d0;color:#0c3d08;font-style:italic",
}
_TAGS: dict[State, str] = {"deleted": "del", "inserted": "ins"}
MOVED = "⇄"
# An example of each state, for those who read what is drawn.
_LEGEND: dict[State, str] = {
    "masked": "masked‹what it was›",
    "random": "replaced at random‹what it was›",
    "kept": "kept, but to be predicted‹=›",
    "deleted": "[-deleted-]",
    "sentinel": "sentinel‹what it stands for›",
    "infilled": "one mask‹all it stands for›",
    "inserted": "{+put in+}",
}


@dataclass(frozen=True)
class Shown:
    """Samples of a plan, drawn. ``print`` it, or let a notebook show it.

    Nothing is told by colour alone: ``[MASK]‹dog›`` was *dog*, ``cat‹=›`` is kept but predicted,
    ``[-word-]`` is deleted, ``{+word+}`` was put in, and ``⇄`` stands where the order jumps.

    Args:
        title: of the whole.
        samples: the sample id, how many of its tokens are selected, of how many, and its views.
        left_out: samples that are not shown.
    """

    title: str
    samples: tuple[tuple[int, int, int, tuple[TokenView, ...]], ...]
    left_out: int = 0

    @property
    def plain(self) -> str:
        """Text without colours."""
        return self._text(colour=False)

    @property
    def ansi(self) -> str:
        """Text with the colours of a terminal."""
        return self._text(colour=True)

    def __str__(self) -> str:
        """`ansi` where the output is a terminal (and ``NO_COLOR`` is not set), else `plain`."""
        return self._text(colour=sys.stdout.isatty() and not os.environ.get("NO_COLOR"))

    __repr__ = __str__

    def _text(self, *, colour: bool) -> str:
        lines = [self.title]
        for sample_id, selected, tokens, views in self.samples:
            drawn = "".join(
                f"\x1b[{_ANSI[state]}m{_visible(text)}\x1b[0m"
                if colour and _ANSI[state]
                else _visible(text)
                for text, state in _segments(views)
            )
            lines.append(f"sample {sample_id} ({selected} of {tokens} selected): {drawn}")
        return "\n".join([*lines, *self._more()])

    def _repr_html_(self) -> str:
        """One element that needs no style sheet."""
        rows = []
        for sample_id, selected, tokens, views in self.samples:
            drawn = "".join(_html(text, state) for text, state in _segments(views))
            rows.append(
                f'<div style="margin:.3em 0"><small>sample {sample_id} ({selected} of {tokens} '
                f"selected)</small><br>{drawn}</div>"
            )
        states = {view.state for *_, views in self.samples for view in views}
        legend = " ".join(_html(text, state) for state, text in _LEGEND.items() if state in states)
        return (
            '<div style="font-family:monospace;white-space:pre-wrap;overflow-wrap:anywhere">'
            f"<div><b>{html.escape(self.title)}</b></div>{''.join(rows)}"
            f"{''.join(f'<div>{html.escape(line)}</div>' for line in self._more())}"
            f"<div>{legend}</div></div>"
        )

    def _more(self) -> list[str]:
        return [f"… and {self.left_out} more samples"] if self.left_out else []


def show(plan: MaskPlan, tokenizer: Any = None, rows: int = 8) -> Shown:
    """The first ``rows`` samples of a plan.

    Args:
        plan: what to show.
        tokenizer: a Hugging Face tokenizer; without one, tokens are shown as ids.
        rows: how many samples at most.
    """
    shown = min(max(rows, 0), len(plan.batch))
    lengths = plan.batch.tokens.lengths.tolist()
    samples = tuple(
        (
            int(plan.batch.sample_ids[row]),
            int(plan.selected[row].sum()),
            lengths[row],
            tuple(token_views(plan, row, tokenizer)),
        )
        for row in range(shown)
    )
    return Shown(repr(plan), samples, len(plan.batch) - shown)


def _segments(views: tuple[TokenView, ...]) -> Iterator[tuple[str, State]]:
    """What is written for each token, and how it looks."""
    for view in views:
        if view.moved:
            yield f" {MOVED} ", "untouched"
        # the space before a word is no part of what is marked
        text = view.text.lstrip(" ")
        if len(text) < len(view.text):
            yield view.text[: len(view.text) - len(text)], "untouched"
        was = (view.original or "").strip(" ")
        match view.state:
            case "untouched":
                yield text, "untouched"
            case "kept":
                yield f"{text}‹=›", "kept"
            case "deleted":
                yield f"[-{text}-]", "deleted"
            case "inserted":
                yield f"{{+{text}+}}", "inserted"
            case state:
                yield f"{text}‹{was}›", state


def _html(text: str, state: State) -> str:
    content = html.escape(_visible(text))
    if state == "untouched":
        return content
    tag = _TAGS.get(state, "span")
    return f'<{tag} style="{_CSS[state]}" title="{state}">{content}</{tag}>'


def _visible(text: str) -> str:
    """Control characters as signs, so that no token can move the cursor."""
    if text.isprintable():
        return text
    signs = {"\n": "⏎", "\t": "⇥", "\r": "␍"}
    return "".join(
        character if character.isprintable() else signs.get(character, f"\\x{ord(character):02x}")
        for character in text
    )
