"""Golden decisions: the first 1,000 of each recipe. ``python -m tests.golden.regenerate``

Run it only when masks are meant to change, and say so in the changelog: every user's masks of a
given seed change with them.
"""

from __future__ import annotations

import json
from itertools import islice, product
from pathlib import Path

import numpy as np

from maskwright import Clock, Ragged, TokenBatch, Vocabulary, recipe

FILE = Path(__file__).with_name("decisions.json")
COUNT = 1000
VOCABULARY = Vocabulary(
    30522, mask_id=103, pad_id=0, special_ids=(100, 101, 102), unused_ids=tuple(range(1, 100))
)
SEEDS = (0, 1, -7, 2**63 + 11)
EPOCHS = (0, 1, 12)
SAMPLES = (0, 1, 2, 1_000_003, 2**62 + 5)
LENGTHS = (12, 130, 9, 40, 420)


def batch() -> TokenBatch:
    """Five fixed samples; no random generator is involved."""
    rows = [
        [101, *(1000 + (37 * i + 11 * length) % 29000 for i in range(length)), 102]
        for length in LENGTHS
    ]
    return TokenBatch(Ragged.from_lists(rows), np.array(SAMPLES))


def decisions(name: str) -> list[list[int]]:
    """``[seed, epoch, sample id, position, action, replacement]`` of each selected token."""

    def every():
        tokens = batch()
        for seed, epoch in product(SEEDS, EPOCHS):
            plan = recipe(name, VOCABULARY).plan(tokens, Clock(seed, epoch))
            ids = tokens.sample_ids[tokens.tokens.rows[plan.positions]]
            places = tokens.tokens.positions[plan.positions]
            columns = (ids, places, plan.actions, plan.replacements)
            for row in zip(*(column.tolist() for column in columns), strict=True):
                yield [seed, epoch, *row]

    return list(islice(every(), COUNT))


def write() -> None:
    parts = (
        f'"{name}": [\n' + ",\n".join(map(json.dumps, decisions(name))) + "\n]"
        for name in ("bert", "roberta")
    )
    FILE.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    write()
    print(f"wrote {FILE.name}")
