"""Collating 64 × 4096 tokens under a rolling window costs what drawing all of them anew costs."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numba import njit

from benchmarks.harness import Row, ratio_row, time_interleaved
from maskwright import Clock, Masking, Ragged, TokenBatch, Vocabulary, randomness
from maskwright.corruption import Above, RollingWindow, Tokens, Weighted
from maskwright.corruption.emit import IGNORE
from maskwright.corruption.fused import lowest_bit
from maskwright.corruption.kernels import draw, sample_key
from maskwright.corruption.rolling import tiles_of
from maskwright.randomness import REPLACE

ROWS, LENGTH, WIDTH, VOCABULARY, EPOCH = 64, 4096, 512, 30_000, 11
POLICIES = {
    "tokens": Masking(Tokens(), refresh="window-512"),
    "exact": Masking(Tokens(), refresh="window-512", exact=True),
    "above": Masking(Above(0.7), rate=0.5, refresh="window-512"),
    "weighted": Masking(Weighted(), refresh="window-512"),
}


def run(quick: bool) -> list[Row]:
    """Ours draws every tile again, as `maskwright` does; the table keeps a byte of each token.

    The table is the best that keeping could be: in memory, warm, with nothing to look up, to lock
    or to fetch from a disk.
    """
    rows = 16 if quick else ROWS
    vocabulary = Vocabulary(VOCABULARY, mask_id=4, pad_id=0, special_ids=(0, 1, 2, 3))
    batch = _batch(rows)
    clock, before = Clock(epoch=EPOCH), Clock(epoch=EPOCH - 1)
    found = []
    for name, unbound in POLICIES.items():
        masking = unbound.bind(vocabulary)
        anew = replace(masking, refresh="dynamic")
        kept = KeptPlans(masking, batch, before)
        _check(kept.collate(clock), masking.mask(batch, clock).tensors)
        seconds = time_interleaved(
            {
                "anew": partial(anew.mask, batch, clock),
                "window": partial(masking.mask, batch, clock),
                "table": partial(kept.collate, clock),
            },
            repeats=3 if quick else 15,
        )
        speed = rows * LENGTH / 1e6 / seconds["window"]
        saved = 1e6 * (seconds["window"] - seconds["table"]) / rows
        found += [
            ratio_row(
                f"{name}: window-512 against all anew",
                seconds["window"],
                seconds["anew"],
                at_least=0.7,
                note=f"{speed:.0f} M tokens/s",
            ),
            ratio_row(
                f"{name}: window-512 against kept plans",
                seconds["window"],
                seconds["table"],
                note=f"a table of a byte a token would save {saved:.0f} µs a sample",
            ),
        ]
    return found


class KeptPlans:
    """The action at each token of a batch, 0 for none; only the window is drawn.

    What a random token is replaced by is hashed again: an id would take 4 bytes in place of 1.
    """

    def __init__(self, masking: Masking, batch: TokenBatch, clock: Clock) -> None:
        assert isinstance(masking.refresh, RollingWindow)
        self.masking, self.batch, self.refresh = masking, batch, masking.refresh
        # how a tile is drawn, as a sample of its own
        self.still = replace(masking, refresh="static")
        self.actions = np.zeros((len(batch), LENGTH), np.uint8)
        plan = masking.plan(batch, clock)
        self.actions.reshape(-1)[plan.positions] = plan.actions

    def collate(self, clock: Clock) -> dict[str, torch.Tensor]:
        batch, vocabulary = self.batch, self.masking.bound
        assert clock.epoch is not None
        tiles = tiles_of(batch, self.refresh, clock)
        turn = clock.epoch % (LENGTH // WIDTH)
        window = slice(turn * WIDTH, (turn + 1) * WIDTH)
        offsets = np.arange(len(batch) + 1) * WIDTH

        def part(column: Ragged | None) -> Ragged | None:
            if column is None:
                return None
            return Ragged(column.values.reshape(-1, LENGTH)[:, window].flatten(), offsets)

        tokens = part(batch.tokens)
        assert tokens is not None
        due = TokenBatch(tokens, tiles.ids[turn :: LENGTH // WIDTH], scores=part(batch.scores))
        plan = self.still.plan(due, clock)
        drawn = np.zeros(len(tokens.values), np.uint8)
        drawn[plan.positions] = plan.actions
        self.actions[:, window] = drawn.reshape(-1, WIDTH)
        block = torch.empty((3, len(batch), LENGTH), dtype=torch.int64)
        _apply(
            batch.tokens.values, tiles.first, tiles.offsets, tiles.ids,
            np.uint64(randomness.run_key(clock.seed, self.masking.stream, 0)),
            self.actions.reshape(-1),
            vocabulary.mask_id, vocabulary.replacements, IGNORE, block.numpy(),
        )  # fmt: skip
        input_ids, attended, labels = block.unbind()
        return {"input_ids": input_ids, "attention_mask": attended, "labels": labels}


@njit(cache=True, nogil=True)
def _apply(
    values, first_tiles, offsets, tile_ids, run_key, actions, mask_id, replacements, ignore, block
):  # fmt: skip
    """Writes a table of actions over full rows, eight tokens at a time where none is selected."""
    many = np.uint64(len(replacements))
    words = actions.view(np.uint64)
    for row in range(len(first_tiles) - 1):
        start = offsets[first_tiles[row]]
        ids, ones, labels = block[0, row], block[1, row], block[2, row]
        for i in range(block.shape[2]):
            labels[i] = ignore
        for i in range(block.shape[2]):
            ids[i] = values[start + i]
        for i in range(block.shape[2]):
            ones[i] = 1
        for tile in range(first_tiles[row], first_tiles[row + 1]):
            begin = offsets[tile]
            key = sample_key(run_key, np.uint64(tile_ids[tile]), np.uint64(REPLACE))
            for number in range(begin // 8, offsets[tile + 1] // 8):
                word = words[number]
                while word:
                    bit = lowest_bit(word) & np.uint64(56)  # pyright: ignore
                    action = (word >> bit) & np.uint64(255)
                    word &= ~(np.uint64(255) << bit)
                    position = np.uint64(8 * number) + (bit >> np.uint64(3))
                    place = position - np.uint64(start)
                    labels[place] = ids[place]
                    if action == 1:
                        ids[place] = mask_id
                    elif action == 2:
                        u = draw(key, position - np.uint64(begin)) >> np.uint64(32)
                        ids[place] = replacements[(u * many) >> np.uint64(32)]


def _batch(rows: int) -> TokenBatch:
    rng = np.random.default_rng(0)
    tokens = Ragged(rng.integers(5, VOCABULARY, rows * LENGTH), np.arange(rows + 1) * LENGTH)
    scores = rng.gamma(1.0, size=rows * LENGTH).astype(np.float32)
    return TokenBatch(tokens, np.arange(rows), scores=tokens.like(scores))


def _check(ours: dict[str, Any], wanted: dict[str, Any]) -> None:
    for name, tensor in wanted.items():
        assert torch.equal(ours[name], tensor), name
