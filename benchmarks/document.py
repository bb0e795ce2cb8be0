"""Writes docs/benchmarks.md, and the measured part of docs/compute.md, from the recorded results:
`python -m benchmarks.document`.

A figure in the docs is then what a script measured; a test compares the pages with the results.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks._compute_section import with_section
from benchmarks.harness import RESULTS

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"
COMPUTE = PAGE.with_name("compute.md")

HEAD = """\
# Benchmarks

Written by `python -m benchmarks.document` from `benchmarks/results/`; do not edit it by hand. Each
benchmark checks that both sides give the right answer before it times them, one thread, in one run,
interleaved with its peer, so the ratio is what counts, not the seconds. Run them on your machine:
`make bench`, or one of them: `make bench NAME=collation`. A bar that is not held makes the command
fail.
"""


def render(results: Path = RESULTS) -> str:
    """The page."""
    sections = [HEAD]
    for path in sorted(results.glob("*.json")):
        if not path.name.endswith(".quick.json"):
            sections.append(_section(json.loads(path.read_text("utf-8")), path.name))
    return "\n".join(sections)


def _section(result: dict[str, Any], name: str) -> str:
    lines = [
        f"## {result['name']}",
        "",
        f"{result['claim']}",
        "",
        "| case | ours | peer | ratio | bar | held |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for row in result["rows"]:
        note = f"<br>{row['note']}" if row["note"] else ""
        cells = [
            f"{row['case']}{note}",
            f"{row['ours']:.4g} {row['unit']}",
            "–" if row["peer"] is None else f"{row['peer']:.4g} {row['unit']}",
            "–" if row["ratio"] is None else f"{row['ratio']:.2f}×",
            "–" if row["bar"] is None else f"≥ {row['bar']:g}×",
            {True: "yes", False: "**no**", None: "–"}[row["held"]],
        ]
        lines.append(f"| {' | '.join(cells)} |")
    versions = ", ".join(f"{package} {v}" for package, v in result["versions"].items())
    lines += [
        "",
        f"`benchmarks/results/{name}`: {result['date'][:10]}, {result['processor']}, "
        f"{result['cores']} cores, {versions}.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
    COMPUTE.write_text(with_section(COMPUTE.read_text("utf-8"), RESULTS), encoding="utf-8")
    print(f"written: docs/{PAGE.name} and the measured part of docs/{COMPUTE.name}")
