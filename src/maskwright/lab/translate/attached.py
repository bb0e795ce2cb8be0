"""What narrows a model's attention, as it is kept beside the model: put on, and put on again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from maskwright.attention import from_json
from maskwright.hf import Attachment, ScoreThreshold, TopScores, attach

ROLES = ("encoder", "decoder", "cross")
BY_SCORE = {"top": TopScores, "threshold": ScoreThreshold}


def attach_kept(model: Any, kept: Mapping[str, Any]) -> Attachment | None:
    """Attach what `Masked.kept` gave: for each role a pattern as JSON, or one for each layer; and
    how many source tokens, or of which weight, cross-attention keeps.

    Returns:
        the attachment; None where there is nothing to attach.
    """
    patterns = {role: _read(kept[role]) for role in ROLES if kept.get(role) is not None}
    return attach_masks(model, patterns, kept)


def attach_masks(
    model: Any, patterns: Mapping[str, Any], by_score: Mapping[str, Any]
) -> Attachment | None:
    """Attach patterns by role, and what narrows cross-attention by its scores, of `BY_SCORE`."""
    gates = [gate(by_score[name]) for name, gate in BY_SCORE.items() if name in by_score]
    if not patterns and not gates:
        return None
    return attach(model, **patterns, scores={"cross": gates[0]} if gates else None)


def _read(kept: Any) -> Any:
    if isinstance(kept, list):
        return [None if text is None else from_json(text) for text in kept]
    return from_json(kept)
