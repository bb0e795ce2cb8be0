"""Patterns that were kept beside a model, put on it again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from maskwright.attention import from_json
from maskwright.hf import Attachment, attach

ROLES = ("encoder", "decoder", "cross")


def attach_kept(model: Any, kept: Mapping[str, Any]) -> Attachment | None:
    """Attach what `Masked.kept` gave: for each role a pattern as JSON, or one for each layer.

    Returns:
        the attachment; None where there are no patterns.
    """
    patterns = {role: _read(kept[role]) for role in ROLES if kept.get(role) is not None}
    return attach(model, **patterns) if patterns else None


def _read(kept: Any) -> Any:
    if isinstance(kept, list):
        return [None if text is None else from_json(text) for text in kept]
    return from_json(kept)
