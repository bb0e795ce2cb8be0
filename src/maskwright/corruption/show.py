"""What a plan did to a sample, as text that people can read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from maskwright.corruption.plan import Action, MaskPlan

State = Literal["untouched", "masked", "random", "kept"]

_STATES: dict[int, State] = {Action.MASK: "masked", Action.RANDOM: "random", Action.KEEP: "kept"}


@dataclass(frozen=True)
class TokenView:
    """One token as it stands after corruption.

    Args:
        text: its text, with the space before it where there is one.
        state: what happened to it.
        original: the text before, for tokens that must be predicted.
    """

    text: str
    state: State
    original: str | None = None


def token_views(plan: MaskPlan, row: int, tokenizer: Any) -> list[TokenView]:
    """The tokens of sample ``row`` of a plan."""
    offsets = plan.batch.tokens.offsets
    texts = [piece(tokenizer, int(token)) for token in plan.batch.tokens[row]]
    views = [TokenView(text, "untouched") for text in texts]
    for position, action, token in zip(
        plan.positions.tolist(), plan.actions.tolist(), plan.replacements.tolist(), strict=True
    ):
        place = position - int(offsets[row])
        if 0 <= place < len(texts):
            views[place] = TokenView(piece(tokenizer, token), _STATES[action], texts[place])
    return views


def piece(tokenizer: Any, token_id: int) -> str:
    """The text of one id, with the space before it where the tokenizer marks one."""
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
