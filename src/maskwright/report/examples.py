"""The same sentence under each policy, token by token, ready to be set as running text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from maskwright.errors import ResultsError

STATES = {
    "masked": "replaced by the mask token, to be guessed",
    "random": "replaced by a random token, to be guessed",
    "kept": "left as it is, yet to be guessed",
    "untouched": "not to be guessed",
}


@dataclass(frozen=True)
class ShownToken:
    """One token: the gap before it, its text without that gap, and what happened to it."""

    gap: str
    text: str
    state: str
    title: str


@dataclass(frozen=True)
class ShownEpoch:
    """One epoch's view of the sentence and a note on how much of it was drawn anew."""

    epoch: int
    tokens: list[ShownToken]
    note: str


def shown_epochs(example: Mapping[str, Any]) -> list[ShownEpoch]:
    """The epochs of one policy's example, in order.

    Raises ``ResultsError`` for a token state other than the four of ``STATES``.
    """
    shown = []
    first: list[int] | None = None
    for epoch in example["epochs"]:
        tokens = epoch["tokens"]
        predicted = [i for i, token in enumerate(tokens) if token["state"] != "untouched"]
        note = f"{len(predicted)} of {len(tokens)} to be guessed"
        if first is None:
            first = predicted
        else:
            again = len(set(first) & set(predicted))
            note += f", {again} of them as in epoch {example['epochs'][0]['epoch']}"
        shown.append(ShownEpoch(epoch["epoch"], _shown_tokens(tokens), note))
    return shown


def original_text(examples: Sequence[Mapping[str, Any]]) -> str:
    """The sentence before masking, rebuilt from the first example; empty without examples."""
    if not examples or not examples[0]["epochs"]:
        return ""
    tokens = examples[0]["epochs"][0]["tokens"]
    texts = [_original(token) for token in tokens]
    return ("" if _has_spaces(tokens) else " ").join(texts).strip()


def _shown_tokens(tokens: Sequence[Mapping[str, Any]]) -> list[ShownToken]:
    spaced = _has_spaces(tokens)
    shown = []
    for token in tokens:
        state, text, original = token["state"], token["text"], _original(token)
        if state not in STATES:
            raise ResultsError(
                f"Unknown token state {state!r} in the examples; known: {', '.join(STATES)}. "
                "Was the file written by a newer maskwright? Then report with that version."
            )
        # The gap stands outside the coloured box, and a mask has the gap of what it hides.
        gap = " " if not spaced or (original or text)[:1].isspace() else ""
        title = "" if state == "untouched" else f"{state}; the original is “{original.strip()}”"
        shown.append(ShownToken(gap, text.strip() or "␣", state, title))
    return shown


def _original(token: Mapping[str, Any]) -> str:
    return str(token.get("original") or token["text"])


def _has_spaces(tokens: Sequence[Mapping[str, Any]]) -> bool:
    """Whether tokens carry their own spaces; a WordPiece vocabulary's do not."""
    return any(_original(token)[:1].isspace() for token in tokens)
