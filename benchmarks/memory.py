"""A step with 128,000 words in 0.35 of the memory, and 10⁹ tokens read in less than 300 MB."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.harness import Row
from maskwright.data.shard_files import mapped_bytes
from maskwright.data.sharded_table import FORMAT
from maskwright.data.table_writer import TableWriter

LENGTH = 512
LIMIT_MB = 300.0
SHARDS = 10
# Of the memory that a plain step takes, beyond what the process had before it.
SHARE = 0.35
_CHUNK = 8192  # samples

# In a process of its own, so that nothing of writing the table is counted.
_READ = """
import sys
import numpy as np
from maskwright import Clock, Masking, Vocabulary
from maskwright.data.sharded_table import ShardedTable
from maskwright.data.table import TokenTable
from maskwright.hf import ClockedIndex, MaskingCollator, with_sample_ids
from maskwright.lab.bench.words import word_tokenizer

def resident():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024

tokenizer = word_tokenizer(30_000)
collator = MaskingCollator(tokenizer, Masking(rate=0.15))
sharded = not sys.argv[1].endswith(".arrow")
table = (ShardedTable if sharded else TokenTable).open(sys.argv[1])
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
print(most - before, table.meta["tokens"])
"""

# In a process of its own each, so that the peak of one is not that of the other.
_STEP = """
import contextlib, gc, sys
import torch
from transformers import set_seed
from maskwright.hf import accelerate_model
from maskwright.lab.bench.shapes import bert

kind, vocabulary, length, rows = sys.argv[1], *map(int, sys.argv[2:])

def memory(name):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(name)) / 1024

torch.set_num_threads(1)
set_seed(0)
model = bert(length, vocabulary).train()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
draws = torch.Generator().manual_seed(0)
ids = torch.randint(5, vocabulary, (rows, length), generator=draws)
labels = torch.where(torch.rand(rows, length, generator=draws) < 0.15, ids, -100)
mask = torch.ones_like(ids)
with accelerate_model(model) if kind == "ours" else contextlib.nullcontext():
    gc.collect()
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak counts from here
    before = memory("VmRSS")
    if memory("VmHWM") > 1.1 * before:
        raise SystemExit("The kernel does not count the peak anew.")
    loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
    loss.backward()
    optimizer.step()
    print(memory("VmHWM") - before, loss.item())
"""


def run(quick: bool) -> list[Row]:
    """One step in a process of each kind; then tables, written here and read in other processes."""
    return [*_steps(quick), *_tables(quick)]


def _steps(quick: bool) -> list[Row]:
    vocabulary, length, rows = (32_000, 512, 1) if quick else (128_000, 2048, 1)
    found = {kind: _step(kind, vocabulary, length, rows) for kind in ("ours", "plain")}
    (ours, loss), (plain, expected) = found["ours"], found["plain"]
    if abs(loss - expected) > 1e-5 * expected:
        raise AssertionError(f"The losses of the two steps differ: {loss} and {expected}.")
    return [
        Row(
            f"peak memory of a step, BERT 4 × 256, S={length}, vocabulary {vocabulary:,}",
            ours,
            plain,
            plain / ours,
            None if quick else 1 / SHARE,
            "MB",
            None if quick else ours <= SHARE * plain,
            f"{ours / plain:.2f} of the memory of transformers' own step; one text without "
            "padding, fp32; forward, backward and a first step of AdamW, beyond what the process "
            "had before",
        )
    ]


def _step(kind: str, vocabulary: int, length: int, rows: int) -> tuple[float, float]:
    """Megabytes beyond those before the step, and the loss."""
    grown, loss = _apart(_STEP, kind, str(vocabulary), str(length), str(rows))
    return grown, loss


def _tables(quick: bool) -> list[Row]:
    tokens = 100_000_000 if quick else 1_000_000_000
    batches = 1000 if quick else 8000
    found = []
    for shards in (1, SHARDS):
        with tempfile.TemporaryDirectory() as folder:
            path = _write(Path(folder), tokens // LENGTH // shards, shards)
            growth, size = _apart(_READ, str(path), str(batches))
        of = "" if shards == 1 else f" from {shards} shards"
        found.append(
            Row(
                f"collating {batches:,} random batches of 64 × {LENGTH}{of}",
                growth,
                LIMIT_MB,
                LIMIT_MB / max(growth, 1e-3),
                1.0,
                "MB",
                growth < LIMIT_MB,
                f"growth of resident memory over a table of {size:,.0f} tokens; peer is the limit",
            )
        )
    return found


def _apart(program: str, *arguments: str) -> list[float]:
    """What a program prints, run by an interpreter of its own."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"The process that was measured ended with an error:\n{done.stderr}")
    return [float(word) for word in done.stdout.split()]


def _write(folder: Path, samples: int, shards: int) -> Path:
    """One table; or a folder of several, as `maskwright prepare` lays it out."""
    draws = np.random.default_rng(1)
    meta = {"max_length": LENGTH, "split": "train"}
    entries = []
    for number in range(shards):
        path = folder / f"shard-{number:05d}.arrow"
        with TableWriter(path, vocabulary_size=30_000, meta=meta) as writer:
            for first in range(0, samples, _CHUNK):
                many = min(_CHUNK, samples - first)
                values = draws.integers(5, 30_000, many * LENGTH, dtype=np.int64)
                writer.add(values, np.full(many, LENGTH), documents=np.full(many, first))
        entries.append(
            {
                "name": path.stem,
                "samples": writer.samples,
                "tokens": writer.tokens,
                "first_document": 0,
                "bytes": path.stat().st_size,
                "sha256": "",
            }
        )
    if shards == 1:
        return folder / "shard-00000.arrow"
    totals = {"tokens": sum(entry["tokens"] for entry in entries), "vocabulary_size": 30_000}
    manifest = {
        "format": FORMAT,
        "settings": {"tokenizer": "", **meta},
        "totals": totals,
        "shards": entries,
    }
    assert sum(map(mapped_bytes, entries)) > totals["tokens"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder
