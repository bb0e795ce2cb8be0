"""A pattern as JSON: its source, and the contents of the tables that the source names.

``{"format": 1, "pattern": source, "tables": {name: {"shape": [...], "bits": base64}}}``; the bits
of a table are packed, eight to a byte, first entry highest. Its name carries its digest, which is
checked.
"""

from __future__ import annotations

import base64
import json
import math
from dataclasses import fields
from typing import Any

import numpy as np
import torch

from maskwright.attention.parse import read
from maskwright.attention.pattern import Pattern, atoms
from maskwright.attention.table import Table
from maskwright.errors import PatternError

FORMAT = 1


def to_json(pattern: Pattern) -> str:
    """A pattern as JSON text; `from_json` reads it.

    Raises:
        PatternError: it is no pattern.

    >>> from maskwright.attention import causal
    >>> to_json(causal)
    '{"format": 1, "pattern": "causal", "tables": {}}'
    """
    if not isinstance(pattern, Pattern):
        raise PatternError(f"to_json takes a pattern, not {type(pattern).__name__}.")
    tables = {}
    for atom in atoms(pattern):
        for one in fields(atom):  # type: ignore[arg-type]  # every pattern is a dataclass
            table = getattr(atom, one.name)
            if isinstance(table, Table):
                tables[table.name] = _packed(table)
    return json.dumps({"format": FORMAT, "pattern": str(pattern), "tables": tables})


def from_json(text: str) -> Pattern:
    """The pattern that `to_json` wrote.

    Raises:
        PatternError: the text is damaged, of another format, or has a table that is not what its
            digest says.

    >>> from_json('{"format": 1, "pattern": "causal", "tables": {}}')
    causal
    """
    try:
        content = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise PatternError(f"This is no saved pattern: {error}. Save it with to_json.") from None
    if not isinstance(content, dict) or "format" not in content:
        raise PatternError("This is no saved pattern: it has no format. Save it with to_json.")
    if content["format"] != FORMAT:
        raise PatternError(
            f"This pattern is saved in format {content['format']!r:.20}, and this maskwright reads "
            f"format {FORMAT}. Save it again with this version."
        )
    source, tables = content.get("pattern"), content.get("tables")
    if not isinstance(source, str) or not isinstance(tables, dict) or len(content) != 3:
        raise PatternError(
            f"A saved pattern has format, pattern and tables; this has {', '.join(content)}, or "
            "they are of other kinds. It is damaged; save it again."
        )
    return read(source, {name: _unpacked(name, one) for name, one in tables.items()})


def _packed(table: Table) -> dict[str, Any]:
    bits = np.packbits(table.values.cpu().numpy()).tobytes()
    return {"shape": list(table.values.shape), "bits": base64.b64encode(bits).decode()}


def _unpacked(name: str, content: Any) -> Table:
    try:
        shape = [int(size) for size in content["shape"]]
        packed = np.frombuffer(base64.b64decode(content["bits"], validate=True), np.uint8)
        count = math.prod(shape)
        if len(shape) != 4 or min(shape) < 0 or len(packed) != -(-count // 8):
            raise ValueError(f"{len(packed)} bytes for the shape {shape}")
        values = np.unpackbits(packed, count=count).astype(bool).reshape(shape)
        table = Table(torch.from_numpy(values))
    except (KeyError, TypeError, ValueError) as error:
        raise PatternError(
            f"Table {name} of a saved pattern is damaged ({type(error).__name__}: {error}). Save "
            "the pattern again with to_json."
        ) from None
    if table.name != name:
        raise PatternError(
            f"Table {name} of a saved pattern is damaged: its contents are {table.name}. Save the "
            "pattern again with to_json."
        )
    return table
