"""Masking is linear in tokens from 10⁴ to 10⁸, and compiles once: the next process starts fast."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile

import numpy as np

from benchmarks.harness import Row, time_interleaved
from maskwright import Clock, Masking, Ragged, TokenBatch, Vocabulary

LENGTH = 512
VOCABULARY = Vocabulary(30_000, mask_id=4, pad_id=0, special_ids=(0, 1, 2, 3))
# More tokens than this are a stream of batches (64 × 512), as a loader makes them.
BATCH = 1 << 15
# Time per token at 10⁸ may be this many times that at 10⁵.
SLOWER = 1.5
COMPILE_LIMIT = 0.5

_FIRST_BATCH = """
import time
import numpy as np
from maskwright import Clock, Masking, Ragged, TokenBatch, Vocabulary
masking = Masking().bind(Vocabulary(30_000, mask_id=4, pad_id=0, special_ids=(0, 1, 2, 3)))
batch = TokenBatch(Ragged(np.full(512, 7), np.array([0, 512])), np.array([0]))
begin = time.perf_counter()
import maskwright.corruption.kernels  # numba's own start-up compiles nothing of ours
startup = time.perf_counter() - begin
times = []
for epoch in range(2):
    start = time.perf_counter()
    masking.mask(batch, Clock(epoch=epoch))
    times.append(time.perf_counter() - start)
print(times[0] - times[1], startup)
"""


def run(quick: bool) -> list[Row]:
    """Numbers of tokens a power of ten apart, then fresh processes."""
    return [*_linear(quick), *_compiled_once(quick)]


def _linear(quick: bool) -> list[Row]:
    """10⁸ tokens are a stream of batches over one buffer of `BATCH` tokens, so that what is
    measured is masking and not the memory of a machine."""
    masking = Masking(rate=0.15).bind(VOCABULARY)
    per_token: dict[int, float] = {}
    rows: list[Row] = []
    for power in range(4, 8 if quick else 9):
        tokens = 10**power
        parts = max(1, tokens // BATCH)
        batch = _batch(tokens // parts)
        size = len(batch.tokens.values)

        def mask(parts: int = parts, batch: TokenBatch = batch) -> None:
            for number in range(parts):
                masking.mask(batch, Clock(epoch=number))

        def copy(parts: int = parts, batch: TokenBatch = batch) -> None:
            for _ in range(parts):
                batch.tokens.values.copy()

        selected = masking.plan(batch, Clock()).selected.values.mean()
        assert 0.12 < selected < 0.18, selected
        seconds = time_interleaved({"mask": mask, "copy": copy}, repeats=3 if power > 6 else 7)
        done = parts * size
        per_token[power] = seconds["mask"] / done
        base = per_token.get(5, per_token[power])
        ratio = base * SLOWER / per_token[power]
        rows.append(
            Row(
                f"10^{power} tokens", per_token[power] * 1e9, base * SLOWER * 1e9, ratio,
                1.0 if power > 5 else None, "ns/token", ratio >= 1 if power > 5 else None,
                f"{1e-6 / per_token[power]:.0f} M tokens/s, "
                f"{seconds['copy'] / seconds['mask']:.3f} of the speed of copying int64; "
                f"peer is {SLOWER}× the time at 10^5",
            )
        )  # fmt: skip
    return rows


def _batch(tokens: int) -> TokenBatch:
    rows = max(1, tokens // LENGTH)
    values = np.random.default_rng(0).integers(5, VOCABULARY.size, rows * LENGTH)
    return TokenBatch(Ragged(values, np.arange(rows + 1) * LENGTH), np.arange(rows))


def _compiled_once(quick: bool) -> list[Row]:
    """How much longer a first batch takes than the second, in processes that share a cache."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "NUMBA_CACHE_DIR": folder}

        def first_batch() -> tuple[float, float]:
            command = [sys.executable, "-c", _FIRST_BATCH]
            done = subprocess.run(
                command, capture_output=True, text=True, check=True, env=environment
            )
            beyond, startup = map(float, done.stdout.split())
            return beyond, startup

        cold, compiling = first_batch()
        later = [first_batch() for _ in range(2 if quick else 5)]
        warm, startup = (statistics.median(times) for times in zip(*later, strict=True))
    return [
        Row(
            "first batch of a later process, beyond its second", warm, COMPILE_LIMIT,
            COMPILE_LIMIT / warm, 1.0, "s", warm < COMPILE_LIMIT,
            f"{cold + compiling:.1f} s in the first process, which compiles; importing the kernels "
            f"(numba's start-up) takes {startup:.2f} s more, once in the main process; peer is the "
            "limit",
        )
    ]  # fmt: skip
