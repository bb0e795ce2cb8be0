"""Selects that follow the structure of a text: sentences, the beginning, the end.

Also what every select of larger units needs: `units_where` cuts tokens into units, `choose` draws
among them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from maskwright import randomness
from maskwright.batch import TokenBatch
from maskwright.corruption.select import Select, runs, thresholds
from maskwright.corruption.selection import Draw, Selection, budgets, eligible
from maskwright.errors import PolicyError, VocabularyError
from maskwright.vocabulary import Vocabulary

# . ! ? and their kin in other scripts, with the quotes and brackets that close after them
_END = re.compile(r"""^[.!?…。．！？｡؟۔।॥‽]+["'”’»)\]}」』]*$""")
# what vocabularies write before a piece: Metaspace, byte-level space and newline, WordPiece
_PREFIX = re.compile(r"^(##|[▁ĠĊ\s]+)")


@dataclass(frozen=True)
class Sentences(Select):
    """Whole sentences.

    A sentence ends after a token of ``ends``, or after several of them in a row (``?!``), and at
    every special token. Each sentence is drawn with probability ``rate``. With ``exact``, sentences
    are gone through in the order of their draws and each that still fits the budget is taken, so
    that a sample never has more selected tokens than its budget and may have fewer (one sentence
    all the same where ``at_least`` asks for a token and none fits). Under a coverage refresh a
    sentence has its turn when its middle token, counted in that order, comes to the budget, and a
    turn may have more or fewer tokens.

    A protected token inside a sentence is left out, and cuts what is selected in two.

    Args:
        ends: ids of the tokens that end a sentence; see `sentence_ends`.
    """

    ends: tuple[int, ...]

    def __post_init__(self) -> None:
        check_ends(self, self.ends)

    def __call__(self, batch: TokenBatch, vocabulary: Vocabulary, draw: Draw) -> Selection:
        allowed = eligible(batch, vocabulary)
        begins = sentence_begins(batch, vocabulary, self.ends)
        return choose(*units_where(allowed, begins), batch, draw, allowed, self)

    def __str__(self) -> str:
        return "sentences"


@dataclass(frozen=True)
class Prefix(Select):
    """The first ``rate`` times the sample's maskable tokens, as one unit.

    The number is rounded up or down by chance, with ``exact`` or without; a special or protected
    token between them is passed over, and cuts the unit.
    """

    def __call__(self, batch: TokenBatch, vocabulary: Vocabulary, draw: Draw) -> Selection:
        return _edge(batch, vocabulary, draw, self, last=False)

    def __str__(self) -> str:
        return "prefix"


@dataclass(frozen=True)
class Suffix(Select):
    """The last ``rate`` times the sample's maskable tokens, as one unit.

    With ``rate=SampledRate(...)`` the target of a prefix language model (T5, 1910.10683, section
    3.2.1) and the S-denoiser of UL2 (2205.05131, section 3.1). Numbers as in `Prefix`.
    """

    def __call__(self, batch: TokenBatch, vocabulary: Vocabulary, draw: Draw) -> Selection:
        return _edge(batch, vocabulary, draw, self, last=True)

    def __str__(self) -> str:
        return "suffix"


def _edge(
    batch: TokenBatch, vocabulary: Vocabulary, draw: Draw, select: Select, *, last: bool
) -> Selection:
    require_one_turn(draw, select)
    allowed = eligible(batch, vocabulary)
    positions = np.flatnonzero(allowed)
    rows = batch.tokens.rows[positions]
    many = np.bincount(rows, minlength=len(batch))
    rank = np.arange(len(positions)) - (np.cumsum(many) - many)[rows]
    wanted = budgets(draw, batch, allowed)
    taken = rank >= (many - wanted)[rows] if last else rank < wanted[rows]
    return Selection(positions[taken], cut(positions[taken], rows[taken]))


def sentence_ends(tokenizer: Any) -> tuple[int, ...]:
    """The ids of a Hugging Face tokenizer that end a sentence.

    They are found by their text: ``.``, ``!``, ``?`` and their kin in other scripts, alone or in a
    row, with closing quotes or brackets after them, with or without a space before.

    Raises:
        VocabularyError: the vocabulary has none.
    """
    special = set(tokenizer.all_special_ids)
    ends = []
    for token, number in tokenizer.get_vocab().items():
        text = _PREFIX.sub("", token)
        # byte-level vocabularies write other scripts in an alphabet of their own
        if text and not text.isascii() and not _END.match(text):
            text = _PREFIX.sub("", tokenizer.convert_tokens_to_string([token]))
        if _END.match(text) and number not in special:
            ends.append(number)
    if not ends:
        raise VocabularyError(
            "No token of the vocabulary ends a sentence (. ! ? …). Give the ids that do: "
            "Sentences(ends=(…,))."
        )
    return tuple(sorted(ends))


def check_ends(owner: object, ends: object) -> None:
    """Raises `PolicyError` unless ``ends`` is a tuple of ids."""
    good = isinstance(ends, tuple) and all(isinstance(i, int) and i >= 0 for i in ends)
    if not good or not ends:
        raise PolicyError(
            f"{type(owner).__name__}: ends must be a tuple of the ids that end a sentence, got "
            f"{ends!r}. Find them: sentence_ends(tokenizer)."
        )


def sentence_begins(batch: TokenBatch, vocabulary: Vocabulary, ends: tuple[int, ...]) -> np.ndarray:
    """Where a sentence begins, ``(N,)`` bool."""
    if max(ends) >= vocabulary.size:
        raise PolicyError(
            f"The sentence end {max(ends)} is no id of {vocabulary.name or 'the vocabulary'} "
            f"(0 … {vocabulary.size - 1}). Find them again: sentence_ends(tokenizer)."
        )
    table = np.zeros(vocabulary.size, np.bool_)
    table[list(ends)] = True
    values = batch.tokens.values
    ending, special = table[values], ~vocabulary.maskable[values]
    begins = row_begins(batch)
    begins[1:] |= (ending[:-1] & ~ending[1:]) | special[:-1]
    return begins


def row_begins(batch: TokenBatch) -> np.ndarray:
    """Where a sample begins, ``(N,)`` bool."""
    begins = np.zeros(len(batch.tokens.values), np.bool_)
    firsts = batch.tokens.offsets[:-1]
    begins[firsts[firsts < len(begins)]] = True
    return begins


def units_where(kept: np.ndarray, begins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The kept tokens ``(K,)`` and the unit of each, numbered from 0; units begin at ``begins``."""
    positions = np.flatnonzero(kept)
    return positions, runs(np.cumsum(begins)[positions])


def choose(
    positions: np.ndarray, units: np.ndarray, batch: TokenBatch, draw: Draw,
    counted: np.ndarray, select: Select, *, budget: bool = False,
) -> Selection:  # fmt: skip
    """Draws among units, each by the position of its first token in its sample.

    Args:
        positions, units: of `units_where`.
        counted: ``(N,)`` bool: the tokens that an exact budget is a share of.
        select: who asks, for errors.
        budget: keep to a budget even without ``draw.exact``.
    """
    from maskwright.corruption import structure_kernels as kernels

    first = np.ones(len(units), np.bool_)
    first[1:] = units[1:] != units[:-1]
    starts, offsets = positions[first], batch.tokens.offsets
    keys = draw.keys(batch, randomness.SELECT)
    chosen = np.zeros(len(starts), np.bool_)
    sizes = np.bincount(units, minlength=len(starts))
    if draw.exact and draw.covering and not budget:
        turn = turn_bounds(draw, batch, counted)
        kernels.choose_in_turn(starts, sizes, offsets, keys, *turn, chosen)
    elif draw.exact or budget:
        require_one_turn(draw, select)
        wanted = budgets(draw, batch, counted)
        kernels.choose_within(starts, sizes, offsets, keys, wanted, draw.at_least, chosen)
    else:
        kernels.choose_by_chance(starts, offsets, keys, *thresholds(draw), chosen)
    taken = chosen[units]
    return Selection(positions[taken], cut(positions[taken], units[taken]))


def turn_bounds(
    draw: Draw, batch: TokenBatch, counted: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """From which to which of its counted tokens a sample goes in this turn, ``(B,)`` int64 each.

    A turn begins where the one before ended; with ``at_least`` the first goes at least that far.
    """
    many = np.bincount(batch.tokens.rows[counted], minlength=len(batch))
    u = draw.uniforms(batch, randomness.ROUND)
    skipped, reached = (
        np.minimum(np.maximum(np.floor(bound * many + u).astype(np.int64), draw.at_least), many)
        for bound in (draw.low, draw.high)
    )
    return np.where(draw.low > 0, skipped, 0), reached


def cut(positions: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Numbers the units anew, each cut where it misses a token."""
    if not len(positions):
        return np.empty(0, np.int64)
    breaks = (np.diff(positions) != 1) | (np.diff(units) != 0)
    return np.concatenate(([0], np.cumsum(breaks)))


def require_one_turn(draw: Draw, select: Select) -> None:
    """Raises `PolicyError` where units are gone through without replacement."""
    if draw.covering:
        raise PolicyError(
            f"The select {select} cannot go through a sample without replacement, as a coverage "
            'refresh asks. Use refresh="dynamic", or Tokens().'
        )
