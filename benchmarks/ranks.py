"""What a second process adds, a sample costs each rank, and a token weighs on the disk."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Row, time_interleaved
from maskwright import Ragged, Vocabulary, order
from maskwright.data.table_writer import TableWriter
from maskwright.guidance import ScoreStore, count_tokens
from maskwright.hf.samples import ClockedSampler

ROOT = Path(__file__).parent.parent
LENGTH = 512
VOCABULARY = 30_000
HUGE = 10**12 // LENGTH  # samples of 10¹² tokens


def run(quick: bool) -> list[Row]:
    """Training first, then the order, then files."""
    return [*_training(quick), *_order(), *_files(quick)]


def _training(quick: bool) -> list[Row]:
    """One and two processes, each of one thread, for the same steps; turn by turn."""
    steps, rounds = (2, 1) if quick else (12, 3)
    found: dict[int, list[dict[str, Any]]] = {1: [], 2: []}
    for _ in range(rounds):
        for world in found:
            found[world].append(_train(world, steps))
    losses = [one["loss"] for runs in found.values() for one in runs]
    np.testing.assert_allclose(losses, losses[0], rtol=1e-4)
    seconds = {
        world: statistics.median(1000 * one["seconds"] / one["tokens"] for one in runs)
        for world, runs in found.items()
    }
    parameters = found[1][0]["parameters"]
    note = (
        f"s per 1,000 tokens of BERT 4 × 256, 4,096 tokens a step, gloo, one thread each; "
        f"{parameters * 4 / 1e6:.0f} MB of gradients are summed in each step; peer is one process"
    )
    return [
        Row("two processes", seconds[2], seconds[1], seconds[1] / seconds[2], None, "s", None, note)
    ]


def _train(world: int, steps: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        command = [
            sys.executable, "-m", "torch.distributed.run", "--standalone",
            f"--nproc-per-node={world}", "-m", "benchmarks._rank", str(out), str(steps),
        ]  # fmt: skip
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
        return json.loads(out.read_text(encoding="utf-8"))


def _order() -> list[Row]:
    """Every rank goes through the order of all samples, and keeps its own share."""
    count = 1 << 14
    sampler = ClockedSampler(HUGE, 8, processes=1024)
    ids = [int(index) for index in islice(sampler, 100)]
    assert ids == list(islice(order.visit(HUGE, seed=0, epoch=0), 100))
    calls = {"one by one": lambda: sum(1 for _ in islice(sampler, count))}
    places = np.arange(count)
    calls["at once"] = lambda: len(order.permute(places, HUGE, 1))
    seconds = time_interleaved(calls, repeats=7)
    return [
        Row(
            f"{what}, of {HUGE:,}", seconds[name] / count * 1e6, None, None, None, "µs/sample",
            None, note,
        )
        for name, what, note in (
            ("one by one", "a sample of the order", "as the sampler of a Trainer yields it"),
            ("at once", "a sample of the order, worked out alone", "16,384 places of it at a time"),
        )
    ]  # fmt: skip


def _files(quick: bool) -> list[Row]:
    """Bytes of files by the tokens in them."""
    samples = 500 if quick else 20_000
    lengths = np.full(samples, LENGTH)
    values = np.random.default_rng(0).integers(5, VOCABULARY, samples * LENGTH)
    documents = np.arange(samples)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for words in (False, True):
            path = folder / f"{words}.arrow"
            starts = np.ones(len(values), np.uint8) if words else None
            with TableWriter(
                path, vocabulary_size=VOCABULARY, meta={}, word_starts=words
            ) as writer:
                writer.add(values, lengths, documents=documents, word_starts=starts)
            case = "token table with word starts" if words else "token table"
            rows.append(_weight(case, path, len(values), "ids below 65,536 take 2 bytes"))
        with ScoreStore.create(folder / "store", lengths) as store:
            rows.append(_weight("score store", store.path, len(values), "one plane of scores"))
        vocabulary = Vocabulary(VOCABULARY, mask_id=4, pad_id=0, special_ids=(0, 1, 2, 3))
        text = Ragged(values[:LENGTH], np.array([0, LENGTH]))
        path = folder / "statistics"
        count_tokens(text, vocabulary, pairs=False).save(path)
        size = path.stat().st_size
        rows.append(
            Row(
                "statistics of a vocabulary of 30,000", size, None, None, None, "bytes", None,
                f"{size / VOCABULARY:.1f} bytes an id, however many tokens were counted",
            )
        )  # fmt: skip
    return rows


def _weight(case: str, path: Path, tokens: int, note: str) -> Row:
    size = path.stat().st_size
    return Row(
        f"{case}, samples of {LENGTH}", size / tokens, None, None, None, "bytes/token", None,
        f"{note}; {tokens:,} tokens",
    )  # fmt: skip
