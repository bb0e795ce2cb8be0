"""The State of the Union speeches, 1790 to 2021, which come with maskwright.

Public domain; `state_of_the_union.LICENSE.txt` beside the data quotes the terms of the
package that they were taken from, and `scripts/embed_speeches.py` made the file.
"""

from __future__ import annotations

import json
import lzma
from dataclasses import dataclass
from importlib.resources import files

LICENCE = "public domain (texts of the United States Government; collection PDDL 1.0, CC0 1.0)"


@dataclass(frozen=True)
class Speech:
    """One speech: the year it was given, by whom, of which party, and its text."""

    year: int
    speaker: str
    party: str
    text: str


def load_speeches() -> tuple[Speech, ...]:
    """All speeches, by year, then speaker."""
    data = (files("maskwright.data") / "state_of_the_union.jsonl.xz").read_bytes()
    lines = lzma.decompress(data).decode().split("\n")  # not splitlines: it splits at U+2028
    return tuple(Speech(**json.loads(line)) for line in lines if line)
