"""learn_over_shards: what `learn_phrases` finds, in shards of any number, in bounded memory.

Length by length. Each block of samples gives its n-grams as a sorted run on the disk, and the runs
are merged a range of hashes at a time. An n-gram occurs no more often than what begins or ends it,
so only those are counted of which both are frequent (Agrawal and Srikant 1994, "Fast algorithms
for mining association rules"): what is held in memory is the n-grams of at least ``min_count``,
``8 * (n + 2)`` bytes each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from maskwright.batch import TokenBatch
from maskwright.corruption.phrases import Phrases, absorb_array, best_phrases, word_hashes
from maskwright.corruption.words import Unit, mark_units
from maskwright.data.prepare.engine import Engine
from maskwright.data.prepare.layout import Layout
from maskwright.data.prepare.runs import merged, save_run
from maskwright.data.prepare.settings import PhraseSettings
from maskwright.data.prepare.tasks import tokenizer_in
from maskwright.data.table import TokenTable
from maskwright.ragged import Ragged
from maskwright.vocabulary import Vocabulary

BLOCK = 4_000_000  # tokens counted at a time, some 100 bytes each


@dataclass(frozen=True)
class CountBlock:
    """The n-grams of one length in samples ``start`` to ``stop - 1`` of a shard."""

    layout: Layout
    number: int
    shard: Path
    start: int
    stop: int
    length: int
    of: Unit


@dataclass(frozen=True, eq=False)
class Frequent:
    """The n-grams of one length that occur often enough.

    Args:
        total: occurrences of all n-grams of this length, rare ones too.
        rows: ``(2 + length, n)`` uint64: hash, rising, count, and the hashes of its words.
    """

    total: int
    rows: np.ndarray


class MergedCounts:
    """`maskwright.corruption.phrases.Counts`, of n-grams that were counted apart."""

    def __init__(self, frequent: dict[int, Frequent]) -> None:
        self.frequent = frequent
        self.grams = {length: one.rows[0] for length, one in frequent.items()}
        self.logs = {
            length: np.log(one.rows[1].astype(np.int64)) - np.log(max(1, one.total))
            for length, one in frequent.items()
        }

    def scores(self, length: int) -> np.ndarray:
        """``PMI_n`` of each n-gram of a length."""
        words = self.frequent[length].rows[2:]
        # likeliest[i]: the greatest log probability of a way to cut the first i words
        likeliest = [np.zeros(words.shape[1])]
        for stop in range(1, length + 1):
            ways = [
                likeliest[start] + self._log(words[start:stop])
                for start in range(stop)
                if stop - start < length
            ]
            likeliest.append(np.max(ways, axis=0))
        return self.logs[length] - likeliest[length]

    def _log(self, words: np.ndarray) -> np.ndarray:
        length = len(words)
        hashes = np.zeros(words.shape[1], np.uint64)
        for word in words:
            hashes = absorb_array(hashes, word)
        return self.logs[length][np.searchsorted(self.grams[length], hashes)]


def learn_over_shards(
    layout: Layout,
    shards: list[Path],
    tokenizer: Any,
    settings: PhraseSettings,
    engine: Engine,
    progress: Callable[[str, int, int], None] = lambda step, done, total: None,
    block: int = BLOCK,
) -> Phrases:
    """The phrases of the shards: those that `learn_phrases` learns of all samples together.

    Args:
        layout: where runs are put, and the tokenizer is.
        block: tokens of a task; the phrases do not depend on it.
    """
    vocabulary = Vocabulary.from_tokenizer(tokenizer)
    known = vocabulary.word_start is not None
    blocks: list[tuple[Path, int, int]] = []
    for shard in shards:
        table = TokenTable.open(shard)
        known = known or table.word_starts is not None
        offsets, start = table.tokens.offsets, 0
        while start < len(table):
            stop = int(np.searchsorted(offsets, offsets[start] + block, side="right")) - 1
            stop = max(start + 1, stop)
            blocks.append((shard, start, stop))
            start = stop
    of: Unit = "words" if known else "tokens"
    frequent = {}
    for length in range(1, settings.longest + 1):
        tasks = [
            CountBlock(layout, number, shard, start, stop, length, of)
            for number, (shard, start, stop) in enumerate(blocks)
        ]
        frequent[length] = _count(layout, tasks, length, settings.min_count, engine, progress)
    best = best_phrases(MergedCounts(frequent), settings.longest, settings.size)
    return Phrases(best, settings.longest, of, vocabulary.size)


def _count(
    layout: Layout,
    tasks: list[CountBlock],
    length: int,
    least: int,
    engine: Engine,
    progress: Callable[[str, int, int], None],
) -> Frequent:
    name = f"frequent-{length}"
    if (record := layout.record(name)) is None:
        total, step = 0, f"counting phrases of {length}"
        progress(step, 0, len(tasks))
        for done, found in enumerate(engine.run(count_block, tasks), 1):
            total += found
            progress(step, done, len(tasks))
        runs = [_run(layout, length, task.number) for task in tasks]
        save_run(_frequent(layout, length), _merge(runs, length, least))
        record = layout.finish(name, {"total": total})
        for run in runs:
            run.unlink(missing_ok=True)
    return Frequent(record["total"], np.load(_frequent(layout, length)))


def _merge(runs: list[Path], length: int, least: int) -> np.ndarray:
    kept = [np.empty((2 + length, 0), np.uint64)]
    for part in merged(runs):
        order = np.argsort(part[0], kind="stable")
        keys, counts = part[0][order], part[1][order]
        if len(keys):
            begins = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
            sums = np.add.reduceat(counts, begins)
            often = sums >= np.uint64(least)
            head = np.vstack([keys[begins], sums])[:, often]
            kept.append(np.vstack([head, part[2:, order[begins[often]]]]))
    return np.concatenate(kept, axis=1)


def count_block(task: CountBlock) -> int:
    """Writes the run of a block; how many n-grams of the length it has, rare ones counted too."""
    name = f"ngrams-{task.length}-{task.number:06d}"
    if (record := task.layout.record(name)) is None:
        words, apart = _words(task)
        breaks = np.append(np.flatnonzero(apart), len(words))
        place = np.arange(len(words))
        room = breaks[np.searchsorted(breaks, place, side="right")] - place
        starts = np.flatnonzero(room >= task.length)
        total = len(starts)
        hashes = shorter = np.zeros(len(words), np.uint64)
        for step in range(task.length):
            # the last few words have no run of this length; what they hash is never looked at
            shorter, hashes = hashes, absorb_array(hashes, np.roll(words, -step))
        if task.length > 1:
            frequent = np.load(_frequent(task.layout, task.length - 1), mmap_mode="r")[0]
            starts = starts[_among(frequent, shorter[starts])]
            starts = starts[_among(frequent, shorter[starts + 1])]
        keys, first, counts = np.unique(hashes[starts], return_index=True, return_counts=True)
        parts = [words[starts[first] + step] for step in range(task.length)]
        run = np.vstack([keys, counts.astype(np.uint64), *parts])
        save_run(_run(task.layout, task.length, task.number), run)
        record = task.layout.finish(name, {"total": total})
    return record["total"]


def _words(task: CountBlock) -> tuple[np.ndarray, np.ndarray]:
    """Hash of each word, and whether it stands apart from the one before."""
    table = TokenTable.open(task.shard)
    offsets = table.tokens.offsets[task.start : task.stop + 1]
    inside = slice(int(offsets[0]), int(offsets[-1]))
    tokens = Ragged(table.tokens.values[inside], offsets - offsets[0])
    starts = table.word_starts
    flags = None if starts is None else tokens.like(starts.values[inside])
    batch = TokenBatch(tokens, np.arange(task.start, task.stop), flags)
    vocabulary = Vocabulary.from_tokenizer(tokenizer_in(task.layout.tokenizer))
    hashes, _, apart = word_hashes(tokens, mark_units(batch, vocabulary, task.of))
    return hashes, apart


def _among(known: np.ndarray, hashes: np.ndarray) -> np.ndarray:
    """Which of ``hashes`` are in ``known``, which rises."""
    if not len(known):
        return np.zeros(len(hashes), np.bool_)
    place = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
    return known[place] == hashes


def _run(layout: Layout, length: int, block: int) -> Path:
    return layout.work / f"ngrams-{length}-{block:06d}.npy"


def _frequent(layout: Layout, length: int) -> Path:
    return layout.work / f"frequent-{length}.npy"
