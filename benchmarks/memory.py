"""A table of 1,000,000,000 tokens is read at random with less than 300 MB of memory."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.harness import Row
from maskwright.data.table_writer import TableWriter

LENGTH = 512
LIMIT_MB = 300.0
_CHUNK = 8192  # samples

# In a process of its own, so that nothing of writing the table is counted.
_READ = """
import sys
import numpy as np
from maskwright import Clock, Masking, Vocabulary
from maskwright.data.table import TokenTable
from maskwright.hf import ClockedIndex, MaskingCollator, with_sample_ids
from maskwright.lab.bench.words import word_tokenizer

def resident():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024

tokenizer = word_tokenizer(30_000)
collator = MaskingCollator(tokenizer, Masking(rate=0.15))
table = TokenTable.open(sys.argv[1])
dataset = with_sample_ids(table)
draws = np.random.default_rng(0)
clock = Clock(epoch=1)
for warm in range(3):
    collator(dataset.__getitems__([ClockedIndex(i, clock) for i in range(64)]))
before = most = resident()
for number in range(int(sys.argv[2])):
    ids = draws.integers(0, len(table), 64)
    batch = collator(dataset.__getitems__([ClockedIndex(i, clock) for i in ids.tolist()]))
    if number % 50 == 0:
        first = table.batch(ids[:1]).tokens[0]
        kept = (batch["labels"][0] == -100).numpy()
        assert (batch["input_ids"][0].numpy()[kept] == first[kept]).all()
        most = max(most, resident())
print(most - before, len(table.tokens.values))
"""


def run(quick: bool) -> list[Row]:
    """Writes a synthetic table, and collates random batches of it in another process."""
    tokens = 100_000_000 if quick else 1_000_000_000
    batches = 1000 if quick else 8000
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.arrow"
        _write(path, tokens // LENGTH)
        result = subprocess.run(
            [sys.executable, "-c", _READ, str(path), str(batches)],
            capture_output=True,
            text=True,
            check=True,
        )
    growth, size = (float(word) for word in result.stdout.split())
    return [
        Row(
            f"collating {batches:,} random batches of 64 × {LENGTH}",
            growth,
            LIMIT_MB,
            LIMIT_MB / max(growth, 1e-3),
            1.0,
            "MB",
            growth < LIMIT_MB,
            f"growth of resident memory over a table of {size:,.0f} tokens; peer is the limit",
        )
    ]


def _write(path: Path, samples: int) -> None:
    draws = np.random.default_rng(1)
    meta = {"max_length": LENGTH, "split": "train"}
    with TableWriter(path, vocabulary_size=30_000, meta=meta) as writer:
        for first in range(0, samples, _CHUNK):
            many = min(_CHUNK, samples - first)
            values = draws.integers(5, 30_000, many * LENGTH, dtype=np.int64)
            writer.add(values, np.full(many, LENGTH), documents=np.full(many, first))
