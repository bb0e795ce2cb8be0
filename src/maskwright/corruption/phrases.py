"""Collocations as units: words that belong together are masked together (PMI-Masking)."""

from __future__ import annotations

import io
import zipfile
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from maskwright import randomness
from maskwright.batch import TokenBatch
from maskwright.corruption.select import Select
from maskwright.corruption.selection import Draw, Selection
from maskwright.corruption.words import UNITS, Unit, mark_units, select_units
from maskwright.errors import DataError, PolicyError, VocabularyError, unknown
from maskwright.ragged import Ragged
from maskwright.vocabulary import Vocabulary


@dataclass(frozen=True, eq=False)
class Phrases:
    """A vocabulary of n-grams, as hashes of their token ids. A value: it pickles and compares.

    Args:
        hashes: ``(P,)`` uint64, rising.
        longest: the most words in one.
        of: what an n-gram is made of.
        size: the ids of the vocabulary it was learned with.
    """

    hashes: np.ndarray
    longest: int
    of: Unit
    size: int

    def __post_init__(self) -> None:
        hashes = np.asarray(self.hashes)
        if hashes.ndim != 1 or hashes.dtype != np.uint64 or (hashes[1:] <= hashes[:-1]).any():
            raise PolicyError(
                "Phrases.hashes must be rising uint64 without repetition, got "
                f"{hashes.dtype} of shape {hashes.shape}. learn_phrases makes them."
            )
        if self.longest < 2:
            raise PolicyError(f"Phrases.longest must be at least 2, got {self.longest}.")
        if self.of not in UNITS:
            raise PolicyError(unknown("Phrases.of", self.of, UNITS))

    def __len__(self) -> int:
        return len(self.hashes)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Phrases):
            return NotImplemented
        mine, theirs = ((p.longest, p.of, p.size) for p in (self, other))
        return mine == theirs and np.array_equal(self.hashes, other.hashes)

    def __hash__(self) -> int:
        return hash((self.longest, self.of, self.size, self.hashes.tobytes()))

    def __repr__(self) -> str:
        return f"Phrases({len(self)} of up to {self.longest} {self.of})"

    def save(self, path: str | Path) -> None:
        """Writes them to one ``.npz`` file."""
        with Path(path).open("wb") as file:
            np.savez_compressed(
                file, hashes=self.hashes, longest=self.longest, of=self.of, size=self.size
            )

    @classmethod
    def load(cls, path: str | Path) -> Phrases:
        """Reads what `save` wrote."""
        try:
            # from memory: where a file is damaged, numpy would leave it open
            with np.load(io.BytesIO(Path(path).read_bytes()), allow_pickle=False) as file:
                of: Unit = "words" if str(file["of"]) == "words" else "tokens"
                return cls(file["hashes"], int(file["longest"]), of, int(file["size"]))
        except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise DataError(f"{path} holds no phrases that Phrases.save wrote: {error}") from None

    @cached_property
    def table(self) -> tuple[np.ndarray, int]:
        """Where the hashes of each leading bits begin, int64, and how far to shift for them."""
        bits = max(1, len(self.hashes).bit_length())
        edges = np.arange(1 << bits, dtype=np.uint64) << np.uint64(64 - bits)
        index = np.searchsorted(self.hashes, edges)
        return np.append(index, len(self.hashes)).astype(np.int64), 64 - bits


@dataclass(frozen=True)
class Collocations(Select):
    """Known phrases as units; every other word (or token) is a unit of its own.

    PMI-Masking (2010.01825). From the left, the longest phrase that begins at a word is taken, then
    the one after it. A phrase never contains a token that may not be selected. Drawn as
    `WholeWords` draws words: independently, by the first token; or with ``exact``.

    Raises:
        VocabularyError: of the call, where the phrases were learned with another vocabulary, or
            are made of words and these are not known (see `WholeWords`).
    """

    phrases: Phrases

    def __post_init__(self) -> None:
        if not isinstance(self.phrases, Phrases):
            raise PolicyError(
                f"Collocations.phrases got a {type(self.phrases).__name__}; learn_phrases makes "
                "them."
            )

    def __call__(self, batch: TokenBatch, vocabulary: Vocabulary, draw: Draw) -> Selection:
        from maskwright.corruption import phrase_kernels

        phrases = self.phrases
        if vocabulary.size != phrases.size:
            raise VocabularyError(
                f"The phrases were learned with a vocabulary of {phrases.size} ids, and "
                f"{vocabulary.name!r} has {vocabulary.size}. Learn them again with this tokenizer."
            )
        marks = mark_units(batch, vocabulary, phrases.of)
        if len(phrases):
            words = word_hashes(batch.tokens, marks)
            phrase_kernels.join(
                *words, len(words[0]), phrases.hashes, *phrases.table, phrases.longest, marks
            )
        return select_units(marks, batch, draw)

    def __str__(self) -> str:
        return f"collocations ({len(self.phrases)})"


def learn_phrases(
    tokens: Ragged,
    vocabulary: Vocabulary,
    *,
    longest: int = 5,
    size: int = 800_000,
    min_count: int = 10,
    word_starts: Ragged | None = None,
) -> Phrases:
    """The n-grams of a corpus whose words belong together most.

    Of the n-grams from 2 to ``longest`` words that occur at least ``min_count`` times, those of
    highest ``PMI_n`` (2010.01825, equation 3): the least, over all ways to cut an n-gram into
    shorter ones, of ``log p(n-gram) / ∏ p(part)``. So an n-gram that merely holds a collocation
    scores low. Half of the vocabulary are bigrams, a quarter trigrams, and so on, the last length
    having the share of the one before (the lists that the authors published: 50, 25, 12.5, 12.5
    per cent); what scores 0 or less is left out. Their 800,000 phrases cover half of the tokens of
    Wikipedia and BookCorpus: give a ``size`` that does so in yours.

    Args:
        tokens: samples; phrases do not cross their ends, nor special tokens.
        word_starts: as in `TokenBatch`; without them the vocabulary's marks; n-grams are of single
            tokens where it has none.

    Raises:
        PolicyError: a setting is outside its rule.
    """
    settings = {"longest": (longest, 2), "size": (size, 1), "min_count": (min_count, 1)}
    for name, (value, least) in settings.items():
        if value < least:
            raise PolicyError(f"learn_phrases: {name} must be at least {least}, got {value}.")
    batch = TokenBatch(tokens, np.arange(len(tokens)), word_starts)
    known = word_starts is not None or vocabulary.word_start is not None
    of: Unit = "words" if known else "tokens"
    hashes, _, apart = word_hashes(tokens, mark_units(batch, vocabulary, of))
    counts = Counts(hashes, apart, longest, min_count)
    return Phrases(best_phrases(counts, longest, size), longest, of, vocabulary.size)


class Scored(Protocol):
    """The n-grams of each length, as rising hashes, and what they score."""

    grams: dict[int, np.ndarray]

    def scores(self, length: int) -> np.ndarray: ...


def best_phrases(counts: Scored, longest: int, size: int) -> np.ndarray:
    """The hashes of the best ``size`` n-grams, each length with its share, rising."""
    kept = []
    for length in range(2, longest + 1):
        share = 2.0 ** -(length - 1 if length < longest else longest - 2)
        scores = counts.scores(length)
        best = np.argsort(-scores, kind="stable")[: round(size * share)]
        kept.append(counts.grams[length][best[scores[best] > 0]])
    return np.unique(np.concatenate(kept))


class Counts:
    """How often each n-gram of a corpus occurs, for those that occur often enough."""

    def __init__(self, words: np.ndarray, apart: np.ndarray, longest: int, least: int) -> None:
        self.grams: dict[int, np.ndarray] = {}  # the hashes, rising
        self.logs: dict[int, np.ndarray] = {}  # their log probabilities
        self.places: dict[int, np.ndarray] = {}  # a place where each occurs
        self.runs: dict[int, np.ndarray] = {}  # the hash of the n-gram at each word
        # words that follow at once, counted from each word on
        breaks = np.append(np.flatnonzero(apart), len(words))
        room = breaks[np.searchsorted(breaks, np.arange(len(words)), side="right")]
        room = room - np.arange(len(words))
        runs = np.zeros(len(words), np.uint64)
        for length in range(1, longest + 1):
            # the last few words have no run of this length; what they hash is never looked at
            runs = absorb_array(runs, np.roll(words, 1 - length))
            starts = np.flatnonzero(room >= length)
            grams, first, counts = np.unique(runs[starts], return_index=True, return_counts=True)
            often = counts >= least
            self.grams[length] = grams[often]
            self.places[length] = starts[first[often]]
            self.logs[length] = np.log(counts[often]) - np.log(max(1, len(starts)))
            self.runs[length] = runs

    def scores(self, length: int) -> np.ndarray:
        """``PMI_n`` of each n-gram of a length."""
        places = self.places[length]
        # likeliest[i]: the greatest log probability of a way to cut the first i words
        likeliest = [np.zeros(len(places))]
        for stop in range(1, length + 1):
            ways = [
                likeliest[start] + self._log(stop - start, places + start)
                for start in range(stop)
                if stop - start < length
            ]
            likeliest.append(np.max(ways, axis=0))
        return self.logs[length] - likeliest[length]

    def _log(self, length: int, places: np.ndarray) -> np.ndarray:
        """Log probabilities of the n-grams at places. A part occurs as often as the whole, so it
        is always among those that were kept."""
        return self.logs[length][np.searchsorted(self.grams[length], self.runs[length][places])]


def absorb_array(keys: np.ndarray, words: np.ndarray) -> np.ndarray:
    """`randomness.absorb`, element by element."""
    return randomness.mix_array(keys ^ randomness.mix_array(words + np.uint64(randomness.GAMMA)))


def word_hashes(tokens: Ragged, marks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hash of each word, its first position, and whether it stands apart from the one before."""
    from maskwright.corruption import phrase_kernels

    hashes, begins = np.empty(len(marks), np.uint64), np.empty(len(marks), np.int64)
    apart = np.empty(len(marks), np.bool_)
    many = phrase_kernels.words_of(tokens.values, tokens.offsets, marks, hashes, begins, apart)
    return hashes[:many], begins[:many], apart[:many]
