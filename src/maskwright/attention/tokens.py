"""Rules about what the tokens are: padding, documents, and columns of your own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from maskwright.attention.coordinates import Coordinates
from maskwright.attention.pattern import Named


@dataclass(frozen=True, repr=False)
class Padding(Named):
    """Keys that are tokens: ``kv.valid``. Queries at padding attend like any other."""

    spelled: ClassVar[str] = "padding"

    def allowed(self, q: Coordinates, kv: Coordinates) -> Any:
        return kv.valid


@dataclass(frozen=True, repr=False)
class Documents(Named):
    """Query and key of one segment: packed documents do not see one another."""

    spelled: ClassVar[str] = "documents"

    def allowed(self, q: Coordinates, kv: Coordinates) -> Any:
        return q.segment == kv.segment


padding = Padding()
documents = Documents()
