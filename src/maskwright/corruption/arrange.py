"""In which order the tokens of a sample are read after corruption.

Tokens move within a *stretch*: a run of tokens of one sample that may be selected. Special and
protected tokens stay where they are, and nothing moves past them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np

from maskwright import randomness
from maskwright.batch import TokenBatch
from maskwright.corruption.selection import eligible
from maskwright.corruption.structure import check_ends, row_begins, sentence_begins
from maskwright.errors import BatchError, PolicyError
from maskwright.vocabulary import Vocabulary


@runtime_checkable
class Arrange(Protocol):
    """Rearranges the tokens of each sample; special tokens stay where they are."""

    def __call__(self, batch: TokenBatch, vocabulary: Vocabulary, run_key: int) -> np.ndarray:
        """``(N,)`` int64: for each place of the batch, the position that is read there; a
        permutation within each sample."""
        ...


@dataclass(frozen=True)
class ShuffleSentences:
    """The sentences in random order: sentence permutation (BART, 1910.13461, section 2.2).

    Args:
        ends: ids of the tokens that end a sentence; see `structure.sentence_ends`.
    """

    ends: tuple[int, ...]

    def __post_init__(self) -> None:
        check_ends(self, self.ends)

    def __call__(self, batch: TokenBatch, vocabulary: Vocabulary, run_key: int) -> np.ndarray:
        begins = sentence_begins(batch, vocabulary, self.ends)
        stretches = _Stretches(batch, vocabulary, run_key)
        blocks = stretches.blocks(begins)
        return stretches.order(blocks, stretches.draws(blocks))

    def __str__(self) -> str:
        return "sentences shuffled"


@dataclass(frozen=True)
class ShuffleWindow:
    """Tokens, or words, in an order that is shuffled only locally.

    Number ``i`` of a stretch is sorted by ``i + u_i * size`` with uniform ``u_i``, so that none
    moves by ``size`` places or more; Lample et al. 1711.00043, section 2.3, with their ``k`` being
    ``size - 1``, shuffle words.

    Args:
        size: of the window; 1 moves nothing.
        words: move whole words, which needs ``word_starts`` in the batch.
    """

    size: int
    words: bool = False

    def __post_init__(self) -> None:
        if self.size < 1:
            raise PolicyError(f"ShuffleWindow: size must be at least 1, got {self.size}.")

    def __call__(self, batch: TokenBatch, vocabulary: Vocabulary, run_key: int) -> np.ndarray:
        begins = np.ones(len(batch.tokens.values), np.bool_)
        if self.words:
            if batch.word_starts is None:
                raise BatchError(
                    "ShuffleWindow(words=True) moves whole words, but the batch has no "
                    "word_starts. Give each sample a column word_starts, or shuffle tokens: "
                    f"ShuffleWindow({self.size})."
                )
            begins = batch.word_starts.values != 0
        stretches = _Stretches(batch, vocabulary, run_key)
        blocks = stretches.blocks(begins)
        uniforms = (stretches.draws(blocks) >> np.uint64(11)).astype(np.float64) * 2.0**-53
        stretch = stretches.number[blocks]
        places = np.arange(len(blocks)) - np.searchsorted(stretch, stretch)
        return stretches.order(blocks, places + uniforms * self.size)

    def __str__(self) -> str:
        return f"{'words' if self.words else 'tokens'} shuffled within {self.size}"


@dataclass(frozen=True)
class Rotate:
    """Each stretch begins at a token drawn uniformly and wraps round: document rotation (BART,
    1910.13461, section 2.2)."""

    def __call__(self, batch: TokenBatch, vocabulary: Vocabulary, run_key: int) -> np.ndarray:
        stretches = _Stretches(batch, vocabulary, run_key)
        firsts = stretches.blocks(np.zeros(len(batch.tokens.values), np.bool_))
        order = np.arange(len(batch.tokens.values))
        inside = np.flatnonzero(stretches.allowed)
        number = np.cumsum(np.isin(inside, firsts, assume_unique=True)) - 1
        sizes = np.bincount(number, minlength=len(firsts))
        shifts = (stretches.draws(firsts) >> np.uint64(32)) * sizes.astype(np.uint64)
        shifts = (shifts >> np.uint64(32)).astype(np.int64)
        first = firsts[number]
        order[inside] = first + (inside - first + shifts[number]) % sizes[number]
        return order

    def __str__(self) -> str:
        return "rotated"


@dataclass(frozen=True)
class Then:
    """One arrangement after another: ``Then(ShuffleSentences(ends), ShuffleWindow(3))``.

    Each draws with a key of its own.
    """

    first: Arrange
    second: Arrange

    def __call__(self, batch: TokenBatch, vocabulary: Vocabulary, run_key: int) -> np.ndarray:
        one, two = (randomness.absorb(run_key, number) for number in (1, 2))
        order = self.first(batch, vocabulary, one)
        moved = {"tokens": batch.tokens.like(batch.tokens.values[order])}
        for name in ("word_starts", "protected", "labels", "marks"):
            column = getattr(batch, name)
            if column is not None:
                moved[name] = column.like(column.values[order])
        return order[self.second(replace(batch, **moved), vocabulary, two)]

    def __str__(self) -> str:
        return f"{self.first}, then {self.second}"


class _Stretches:
    """The stretches of a batch, and the draws of what moves in them."""

    def __init__(self, batch: TokenBatch, vocabulary: Vocabulary, run_key: int) -> None:
        self.batch = batch
        self.allowed = eligible(batch, vocabulary)
        self.keys = randomness.sample_keys(run_key, batch.sample_ids, randomness.ARRANGE)
        begins = row_begins(batch)
        begins[1:] |= ~self.allowed[:-1]
        self.begins = begins & self.allowed
        self.number = np.cumsum(self.begins)

    def blocks(self, begins: np.ndarray) -> np.ndarray:
        """The first token of each block; blocks begin at ``begins`` and with each stretch."""
        return np.flatnonzero((begins & self.allowed) | self.begins)

    def draws(self, blocks: np.ndarray) -> np.ndarray:
        """64 bits for each block, by the position of its first token."""
        tokens = self.batch.tokens
        return randomness.draw_array(self.keys[tokens.rows[blocks]], tokens.positions[blocks])

    def order(self, blocks: np.ndarray, ranks: np.ndarray) -> np.ndarray:
        """The order in which the blocks of each stretch are sorted by ``ranks``."""
        from maskwright.corruption import structure_kernels as kernels

        order = np.arange(len(self.allowed))
        # a block ends where the next begins, or at a token that stays
        ends = np.flatnonzero(~self.allowed)
        ends = np.union1d(np.union1d(ends, self.batch.tokens.offsets[1:]), blocks)
        stops = ends[np.searchsorted(ends, blocks, side="right")]
        kernels.order_blocks(blocks, stops, self.number[blocks], ranks, order)
        return order
