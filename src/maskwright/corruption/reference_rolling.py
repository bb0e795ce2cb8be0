"""What a rolling window does, said slowly. Tests compare; nothing imports it.

A tile is masked as a sample of its own is under a draw that never changes: what changes is its id.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from maskwright import randomness
from maskwright.batch import TokenBatch
from maskwright.clock import Clock
from maskwright.corruption.masking import Masking
from maskwright.corruption.plan import MaskPlan
from maskwright.corruption.reference import key_of
from maskwright.ragged import Ragged


def last_turn(tile: int, tiles: int, epoch: int) -> int:
    """The last epoch up to ``epoch`` that drew this tile; 0 if its turn has not come."""
    turns = [past for past in range(epoch + 1) if past % tiles == tile]
    return turns[-1] if turns else 0


def tile_id(sample_id: int, tile: int, drawn: int) -> int:
    """What the draws of a tile are keyed by."""
    key = key_of(0, sample_id, randomness.TILE)
    return randomness.draw(key, tile + (drawn << 32)) >> 1


def tiles(
    sample_id: int, length: int, width: int, epoch: int, goes_on: Container[int] = ()
) -> list[tuple[int, int, int]]:
    """(begin, end, id) of each tile of a sample.

    Args:
        goes_on: positions of tokens that go on with a word: no tile begins at them.
    """
    many = -(-length // width)
    edges = [tile * width for tile in range(many)] + [length]
    for number in range(many):
        while edges[number] in goes_on:
            edges[number] += 1
    ids = [tile_id(sample_id, tile, last_turn(tile, many, epoch)) for tile in range(many)]
    return list(zip(edges[:-1], edges[1:], ids, strict=True))


def plan(
    masking: Masking, batch: TokenBatch, clock: Clock, goes_on: Sequence[Container[int]] = ()
) -> list[list[tuple[int, int, int]]]:
    """For each sample, (position in it, action, replacement) of each selected token."""
    width = masking.refresh.width  # type: ignore[union-attr]
    still = replace(masking, refresh="static")
    assert clock.epoch is not None
    samples = []
    for row, sample_id in enumerate(batch.sample_ids.tolist()):
        words = goes_on[row] if goes_on else ()
        sample = []
        length = int(batch.tokens.lengths[row])
        for begin, end, own in tiles(sample_id, length, width, clock.epoch, words):
            first = int(batch.tokens.offsets[row])
            made = still.plan(_part(batch, first + begin, first + end, own), clock)
            sample += [(begin + place, action, token) for place, action, token in _decisions(made)]
        samples.append(sample)
    return samples


def _part(batch: TokenBatch, begin: int, end: int, own: int) -> TokenBatch:
    columns: dict[str, Any] = {}
    for column in fields(batch):
        value = getattr(batch, column.name)
        if isinstance(value, Ragged):
            columns[column.name] = Ragged.from_lists([value.values[begin:end]], value.values.dtype)
    return replace(batch, sample_ids=np.array([own]), **columns)


def _decisions(plan: MaskPlan) -> list[tuple[int, int, int]]:
    columns = (plan.positions, plan.actions, plan.replacements)
    return list(zip(*(column.tolist() for column in columns), strict=True))
