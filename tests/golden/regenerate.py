"""Golden decisions: the first 1,000 of each recipe. ``python -m tests.golden.regenerate``

Run it only when masks are meant to change, and say so in the changelog: every user's masks of a
given seed change with them.
"""

from __future__ import annotations

import json
from functools import cache
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np

from maskwright import Clock, Ragged, TokenBatch, Vocabulary, recipe
from maskwright.corruption import RECIPES
from maskwright.corruption.phrases import Phrases, learn_phrases

FILE = Path(__file__).with_name("decisions.json")
COUNT = 1000
VOCABULARY = Vocabulary(
    30522, mask_id=103, pad_id=0, special_ids=(100, 101, 102), unused_ids=tuple(range(1, 100)),
    word_start=np.arange(30522) % 3 != 0,
)  # fmt: skip
# The same, with 99 sentinels in place of the unused ids.
SENTINELS = Vocabulary(
    30522, mask_id=103, pad_id=0, special_ids=(100, 101, 102), sentinel_ids=tuple(range(99, 0, -1))
)
SEEDS = (0, 1, -7, 2**63 + 11, 2**40, 5)
EPOCHS = (0, 1, 12)
SAMPLES = (0, 1, 2, 1_000_003, 2**62 + 5)
LENGTHS = (12, 130, 9, 40, 420)
# An empty unit that was put in before a place is recorded as an action of this number.
INSERTED = 0


def batch() -> TokenBatch:
    """Five fixed samples; no random generator is involved."""
    rows = [
        [101, *(1000 + (37 * i + 11 * length) % 29000 for i in range(length)), 102]
        for length in LENGTHS
    ]
    tokens = Ragged.from_lists(rows)
    # what the guided recipes go by: a token in eleven has none
    scores = tokens.values * 53 % 101 / 101
    scores[tokens.values % 11 == 0] = np.nan
    return TokenBatch(tokens, np.array(SAMPLES), scores=tokens.like(scores.astype(np.float32)))


@cache
def phrases() -> Phrases:
    """Of a corpus that repeats six tokens of every twelve."""
    rows = [row[i : i + 6] for row in batch().tokens for i in range(1, len(row), 12)]
    return learn_phrases(Ragged.from_lists(rows * 10), VOCABULARY)


def policy(name: str) -> Any:
    """The recipe, with what it needs."""
    tokens = batch().tokens.values
    needed = {
        "pmi": lambda: {"phrases": phrases()},
        "bart": lambda: {"ends": tuple(sorted({int(i) for i in tokens if i > 103 and i % 7 == 0}))},
        "fim": lambda: {"prefix_id": 100, "suffix_id": 101, "middle_id": 102},
        "word-dropout": lambda: {"start_id": 101},
    }
    vocabulary = SENTINELS if name in ("t5", "ul2") else VOCABULARY
    return recipe(name, vocabulary, **needed.get(name, dict)())


def plans(name: str):
    """``(seed, epoch, plan)`` of every moment."""
    for seed, epoch in product(SEEDS, EPOCHS):
        clock = Clock(seed, epoch, 10 * epoch, 160)
        yield seed, epoch, policy(name).plan(batch(), clock)


def decisions(name: str) -> list[list[int]]:
    """``[seed, epoch, sample id, position, action, replacement]`` of each selected token, and of
    each token that was put in."""

    def every():
        for seed, epoch, plan in plans(name):
            tokens = plan.batch
            positions = np.concatenate([plan.positions, plan.inserts])
            actions = np.concatenate([plan.actions, np.full(len(plan.inserts), INSERTED)])
            written = np.concatenate([plan.replacements, plan.inserted])
            ids = tokens.sample_ids[tokens.tokens.rows[positions]]
            places = tokens.tokens.positions[positions]
            columns = (ids, places, actions, written)
            for row in zip(*(column.tolist() for column in columns), strict=True):
                yield [seed, epoch, *row]

    return list(islice(every(), COUNT))


def sentences() -> list[list[int]]:
    """``[seed, epoch, sample id, place, position read there]`` of BART's shuffled sentences."""

    def every():
        for seed, epoch, plan in plans("bart"):
            assert plan.order is not None
            tokens = plan.batch
            moved = np.flatnonzero(plan.order != np.arange(len(plan.order)))
            ids = tokens.sample_ids[tokens.tokens.rows[moved]]
            read = tokens.tokens.positions[plan.order[moved]]
            columns = (ids, tokens.tokens.positions[moved], read)
            for row in zip(*(column.tolist() for column in columns), strict=True):
                yield [seed, epoch, *row]

    return list(islice(every(), COUNT))


def write() -> None:
    entries = {name: decisions(name) for name in RECIPES} | {"bart, sentences": sentences()}
    parts = (
        f'"{name}": [\n' + ",\n".join(map(json.dumps, rows)) + "\n]"
        for name, rows in entries.items()
    )
    FILE.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    write()
    print(f"wrote {FILE.name}")
