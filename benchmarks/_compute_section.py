"""The part of docs/compute.md that says where each part pays, from the recorded results."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BEGIN = "<!-- measured: written by `python -m benchmarks.document`; do not edit below -->\n"
END = "<!-- measured: end -->\n"

# What each benchmark says of which part, in the order of the table.
PARTS = (
    ("head", "head"),
    ("mask_aware", "head and padding"),
    ("memory", "head, memory"),
    ("ranks", "a second process"),
)
# Of these, the rows that begin so, and no others.
_ROWS = {"memory": ("peak memory of a step",), "ranks": ("two processes",)}


def with_section(page: str, results: Path) -> str:
    """The page with what stands between the marks written anew.

    Raises:
        ValueError: a mark is missing.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"The page lacks a line {BEGIN.strip()!r} or {END.strip()!r} behind it.")
    return before + BEGIN + "\n" + section(results) + "\n" + END + after


def section(results: Path) -> str:
    """The table, and what was not recorded yet."""
    read = {name: _read(results / f"{name}.json") for name, _ in PARTS}
    rows = {name: list(_rows(name, result)) for name, result in read.items()}
    found = {name: result for name, result in read.items() if result is not None and rows[name]}
    lines = []
    if found:
        lines = ["| part | case | | times less | least claimed |", "|---|---|---:|---:|---:|"]
        lines += [_line(part, row) for name, part in PARTS for row in rows[name]]
    missing = [name for name, _ in PARTS if name not in found]
    if missing:
        names = ", ".join(f"`python -m benchmarks {name}`" for name in missing)
        lines += ["", f"Not recorded yet, so that there is no number here: {names}."]
    if found:
        where = list(found.values())
        files = ", ".join(f"`{name}.json`" for name in found)
        days = " and ".join(sorted({result["date"][:10] for result in where}))
        lines += ["", f"{where[0]['processor']}, one thread, {days}; files: {files}."]
    return "\n".join(lines).strip() + "\n"


def _read(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text("utf-8")) if path.is_file() else None


def _rows(name: str, result: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    wanted = _ROWS.get(name, ("",))
    for row in (result or {"rows": []})["rows"]:
        if row["ratio"] is not None and row["case"].startswith(wanted):
            yield row


def _line(part: str, row: dict[str, Any]) -> str:
    bar = "–" if row["bar"] is None else f"{row['bar']:.2g}"
    missed = ", not reached" if row["held"] is False else ""
    size = f"{row['ours']:.3g} against {row['peer']:.3g} {row['unit']}"
    return f"| {part} | {row['case']} | {size} | {row['ratio']:.2f} | {bar}{missed} |"
