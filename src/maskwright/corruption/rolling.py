"""The tiles of a batch under a rolling window, and which policies can have one.

A tile is drawn as a sample of its own would be. Its id is a hash of (sample id, tile, the epoch
whose draw it has), so selects and kernels work on tiles as they do on samples, and a tile that was
not drawn anew has the same id as in the epoch before, and so the same masks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from maskwright.batch import TokenBatch
from maskwright.clock import Clock
from maskwright.corruption.cautious import Cautious
from maskwright.corruption.plan import IN_PLACE
from maskwright.corruption.rate import SampledRate, TwoPointRate
from maskwright.corruption.refresh import RollingWindow
from maskwright.corruption.scored import Above, Weighted
from maskwright.corruption.select import At, Both, Either, Select, Tokens, Without
from maskwright.corruption.words import WholeWords, mark_units
from maskwright.errors import PolicyError
from maskwright.ragged import Ragged
from maskwright.schedule import Constant, Schedule
from maskwright.vocabulary import Vocabulary

if TYPE_CHECKING:
    from maskwright.corruption.masking import Masking

# A select of somebody else may look further than its tile.
_SELECTS = (Tokens, WholeWords, Above, Weighted, Cautious, At, Either, Both, Without)
_GOES_ON = 1  # `unit_kernels.GOES_ON`; importing that would compile


@dataclass(frozen=True, eq=False)
class Tiles:
    """The ``T`` tiles of ``B`` samples, in the order of their tokens.

    Args:
        first: ``(B + 1,)`` int64: sample ``i`` has tiles ``first[i]`` to ``first[i + 1] - 1``.
        offsets: ``(T + 1,)`` int64: where the tokens of each begin, counted through the batch.
        ids: ``(T,)`` int64, at least 0: what its draws are keyed by in place of a sample id.
    """

    first: np.ndarray
    offsets: np.ndarray
    ids: np.ndarray


def tiles_of(
    batch: TokenBatch, refresh: RollingWindow, clock: Clock, marks: np.ndarray | None = None
) -> Tiles:
    """Where the tiles of a batch are, and which draw each has.

    Args:
        marks: of `mark_units`: a tile then begins with a unit, at its place or after it.
    """
    # numba is slow to import: only those who draw masks wait for it
    from maskwright.corruption import rolling_kernels

    tokens = batch.tokens
    size, samples = len(tokens.values), len(batch)
    room = size // refresh.width + samples  # each sample's last tile may be a short one
    first, starts = np.empty(samples + 1, np.int64), np.empty(room + 1, np.int64)
    ids = np.empty(room, np.int64)
    count = rolling_kernels.cut(
        tokens.offsets, batch.sample_ids, refresh.width, refresh.epoch(clock), first, starts, ids
    )
    starts[count] = size
    offsets = starts[: count + 1]
    if marks is not None:
        begins = np.append(np.flatnonzero(marks != _GOES_ON), size)
        offsets = begins[np.searchsorted(begins, offsets)]
    return Tiles(first, offsets, ids[:count])


def tiled(masking: Masking, batch: TokenBatch, vocabulary: Vocabulary, clock: Clock) -> TokenBatch:
    """The batch with each tile as a sample; its tokens stay where they are.

    Raises:
        VocabularyError: words are selected, and where they begin is not known.
    """
    assert isinstance(masking.refresh, RollingWindow)
    marks, columns = None, {}
    if any(isinstance(part, WholeWords) for part in _parts(masking.select)):
        marks = mark_units(batch, vocabulary, "words")
        # so that no tile is without a beginning; those that the marks say are those of the batch
        columns["word_starts"] = batch.tokens.like((marks > _GOES_ON).view(np.uint8))
    tiles = tiles_of(batch, masking.refresh, clock, marks)
    for column in fields(batch):
        value = columns.get(column.name, getattr(batch, column.name))
        if isinstance(value, Ragged):
            columns[column.name] = Ragged(value.values, tiles.offsets)
    return replace(batch, sample_ids=tiles.ids, **columns)


def check_rolling(masking: Masking) -> None:
    """Raises `PolicyError` where a kept tile would not keep its masks, or could not be cut out."""
    refresh, parts = masking.refresh, list(_parts(masking.select))
    foreign = next((part for part in parts if type(part) not in _SELECTS), None)
    if foreign is not None:
        raise PolicyError(
            f'refresh="{refresh}" draws a sample tile by tile, and {foreign} may look at all of '
            "it. It goes with Tokens, WholeWords, Above, Weighted and Cautious, and what is made "
            'of them; use another of these, or refresh="dynamic".'
        )
    if masking.reads_scores and any(isinstance(part, WholeWords) for part in parts):
        raise PolicyError(
            f'refresh="{refresh}": a word belongs to the tile of its first token, and scores to '
            f"that of their own; {masking.select} goes by both. Select tokens by their scores, or "
            'words without; or use refresh="dynamic".'
        )
    for owner, name, value in _settings(masking, parts):
        if isinstance(value, Schedule) and not isinstance(value, Constant):
            raise PolicyError(
                f'refresh="{refresh}" keeps tiles as they were drawn, but {name}={value} of '
                f"{owner} changes from step to step, and a plan cannot know what it was. Give a "
                'number; or use refresh="dynamic".'
            )
        if isinstance(value, SampledRate | TwoPointRate):
            raise PolicyError(
                f'refresh="{refresh}" draws a sample tile by tile, but {name}={value} of {owner} '
                'is one rate for all of it. Give a number; or use refresh="dynamic".'
            )
        if name == "warmup" and value:
            raise PolicyError(
                f'refresh="{refresh}" keeps tiles as they were drawn, but Cautious(warmup={value}) '
                "would draw them otherwise when it ends. Leave warmup out: tokens without a score "
                "are drawn by chance all the same."
            )
    moving = [str(act) for share, act in masking.act.parts if share and act.code not in IN_PLACE]
    if masking.arrange is not None:
        moving.append(str(masking.arrange))
    if moving:
        raise PolicyError(
            f'refresh="{refresh}" keeps the tokens outside the window, but {moving[0]} moves them. '
            'Use Mask, Random and Keep; or refresh="dynamic".'
        )


def _parts(select: Any) -> Iterator[Select]:
    """A select, and those that it is made of."""
    yield select
    if is_dataclass(select):
        for field in fields(select):
            inside = getattr(select, field.name)
            if isinstance(inside, Select):
                yield from _parts(inside)


def _settings(masking: Masking, parts: list[Select]) -> Iterator[tuple[str, str, object]]:
    """(owner, name, value) of every setting but the selects."""
    yield "the policy", "rate", masking.rate
    for part in parts:
        for field in fields(part):  # pyright: ignore[reportArgumentType]
            value = getattr(part, field.name)
            if not isinstance(value, Select):
                yield type(part).__name__, field.name, value
