"""`import maskwright` takes less than 1.5 s once torch is imported, and brings no transformers."""

from __future__ import annotations

import statistics
import subprocess
import sys

from benchmarks.harness import Row

LIMIT = 1.5

_IMPORT = """
import sys, time
import torch
start = time.perf_counter()
import maskwright
seconds = time.perf_counter() - start
assert maskwright.Masking().plan and "transformers" not in sys.modules
print(seconds)
"""


def run(quick: bool) -> list[Row]:
    """The median over fresh processes."""
    times = [
        float(
            subprocess.run(
                [sys.executable, "-c", _IMPORT], capture_output=True, text=True, check=True
            ).stdout
        )
        for _ in range(2 if quick else 7)
    ]
    seconds = statistics.median(times)
    held = seconds < LIMIT
    note = "peer is the limit"
    return [Row("import maskwright", seconds, LIMIT, LIMIT / seconds, 1.0, "s", held, note)]
