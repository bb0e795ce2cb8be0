"""The library as a list: how each pattern is written, and what it means in a sentence."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass

from maskwright.attention.names import NAMES
from maskwright.attention.pattern import Named


@dataclass(frozen=True)
class Meaning:
    """A pattern of the library.

    Attributes:
        name: its name in source.
        settings: those it takes, as source, with what they are unless given; "" where it is a
            value already.
        text: what it allows, in a sentence.
    """

    name: str
    settings: str
    text: str


def meanings() -> list[Meaning]:
    """Every name of `NAMES`, in its order, with the first sentence of its documentation."""
    found = []
    for name, builder in NAMES.items():
        described = type(builder) if isinstance(builder, Named) else builder
        parameters = [
            one.replace(annotation=inspect.Parameter.empty)
            for one in inspect.signature(described).parameters.values()
        ]
        settings = str(inspect.Signature(parameters)) if parameters else ""
        found.append(Meaning(name, settings, _first_sentence(inspect.getdoc(described) or "")))
    return found


def _first_sentence(documentation: str) -> str:
    paragraph = " ".join(documentation.partition("\n\n")[0].split())
    return re.split(r"(?<=\.) (?=[A-Z`])", paragraph)[0].replace("`", "")
