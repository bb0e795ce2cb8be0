"""split_by_source: train, validation and test, divided by a hash of the source sentence.

All translations of one source are in one part, so no source that a model is judged on was seen in
training. The part of a source depends on its text alone: not on a seed, an order, or on what else
is in the corpus.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from maskwright.data.pairs.pair import Pair, Pairs, fingerprint
from maskwright.errors import ConfigError, DataError

# Raised when the rule changes: every split made under an older rule is then another split.
_SEED = b"maskwright pairs 1\0"


def source_key(text: str) -> str:
    """What makes two sources the same: NFKC, case folded, each run of white space as a space.

    >>> source_key("Ｙou  CAN")
    'you can'
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def source_place(text: str) -> float:
    """Where the hash of a source sentence falls, from 0 to 1 (1 excluded)."""
    digest = hashlib.sha256(_SEED + source_key(text).encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


@dataclass(frozen=True)
class Part:
    """One part of a divided corpus, in the order of the corpus.

    Args:
        name: ``train``, ``validation`` or ``test``.
        pairs: every pair of its sources.
    """

    name: str
    pairs: tuple[Pair, ...]

    def __len__(self) -> int:
        return len(self.pairs)

    def __repr__(self) -> str:
        return f"Part({self.name!r}, {len(self.sources):,} sources, {len(self):,} pairs)"

    @cached_property
    def _by_source(self) -> dict[str, dict[str, Pair]]:
        """Key of each source → its distinct targets, each with its first pair."""
        found: dict[str, dict[str, Pair]] = {}
        for pair in self.pairs:
            found.setdefault(source_key(pair.source), {}).setdefault(pair.target, pair)
        return found

    @cached_property
    def sources(self) -> tuple[str, ...]:
        """Each source once, as it is first written: what is to be translated."""
        return tuple(next(iter(rows.values())).source for rows in self._by_source.values())

    @cached_property
    def references(self) -> tuple[tuple[str, ...], ...]:
        """Of each of `sources`, all its distinct targets in the order of the corpus."""
        return tuple(tuple(rows) for rows in self._by_source.values())

    @property
    def fingerprint(self) -> str:
        """sha256 of the sentences in their order, 64 hex digits."""
        return fingerprint(self.pairs)

    def draw(self, sources: int) -> Part:
        """``sources`` sources with all their pairs, by the hash: a larger draw contains a smaller.

        Raises:
            ConfigError: the part has not so many.
        """
        if not 1 <= sources <= len(self.sources):
            raise ConfigError(
                f"The {self.name} part has {len(self.sources):,} sources, of which {sources:,} "
                "cannot be drawn. Ask for at least 1 and at most as many as there are."
            )
        ranked = sorted(self._by_source, key=lambda key: (source_place(key), key), reverse=True)
        chosen = set(ranked[:sources])
        kept = (pair for pair in self.pairs if source_key(pair.source) in chosen)
        return Part(self.name, tuple(kept))


@dataclass(frozen=True)
class PairSplit:
    """A corpus in three parts; no source is in two of them.

    Args:
        notes: what was decided, one sentence each, for people to read.
    """

    train: Part
    validation: Part
    test: Part
    notes: tuple[str, ...] = ()


def split_by_source(
    pairs: Pairs | Iterable[Pair],
    *,
    validation: float | int = 0.01,
    test: float | int = 0.01,
) -> PairSplit:
    """Divide pairs by the hash of their source.

    Args:
        validation, test: a share of the sources, below 1; or a number of sources (an integer).
            With shares a source stays in its part whatever comes or goes beside it; with numbers
            the sources of the highest hashes are taken, so another corpus may move a few.

    Raises:
        ConfigError: a share or number is negative, or a share is 1 or more.
        DataError: too few sources for the parts that are wanted.
    """
    rows = tuple(pairs)
    places: dict[str, float] = {}
    keys = [source_key(pair.source) for pair in rows]
    for key in keys:
        if key not in places:
            places[key] = source_place(key)
    wanted = {"test": _wanted("test", test), "validation": _wanted("validation", validation)}
    chosen, notes = _choose(places, wanted)
    parts: dict[str, list[Pair]] = {"train": [], "validation": [], "test": []}
    for key, pair in zip(keys, rows, strict=True):
        parts[chosen.get(key, "train")].append(pair)
    if not parts["train"]:
        raise DataError(
            f"{len(places):,} different sources leave none for training beside validation="
            f"{validation} and test={test}. Ask for less, or give more pairs."
        )
    held_out = {pair.target for name in ("validation", "test") for pair in parts[name]}
    shared = len(held_out.intersection(pair.target for pair in parts["train"]))
    if shared:
        notes.append(
            f"Of the {len(held_out):,} different targets held out, {shared:,} also translate "
            "another source that is in train."
        )
    made = {name: Part(name, tuple(found)) for name, found in parts.items()}
    return PairSplit(made["train"], made["validation"], made["test"], tuple(notes))


def _wanted(name: str, value: float | int) -> float | int:
    if isinstance(value, bool) or value < 0 or (isinstance(value, float) and value >= 1):
        raise ConfigError(
            f"{name}={value!r} is neither a share of the sources (from 0 to below 1, such as 0.01) "
            "nor a number of them (an integer)."
        )
    return value


def _choose(
    places: dict[str, float], wanted: dict[str, float | int]
) -> tuple[dict[str, str], list[str]]:
    """Key → part, for the keys that are held out; from the highest hash down, test first."""
    ranked = sorted(places, key=lambda key: (places[key], key), reverse=True)
    chosen: dict[str, str] = {}
    notes: list[str] = []
    below = 1.0  # a share is that of the line from 0 to 1, from here down
    first = 0
    for name, value in wanted.items():
        if isinstance(value, int):
            last = first + value
            if last >= len(ranked) and value:
                raise DataError(
                    f"{name}={value:,} sources are asked for, and {len(ranked) - first:,} of "
                    f"{len(ranked):,} are left, of which one must stay for training."
                )
        else:
            last, below = first, below - value
            while last < len(ranked) and places[ranked[last]] >= below:
                last += 1
            if value and last == first:
                if first >= len(ranked) - 1:
                    raise DataError(
                        f"{len(ranked):,} different sources are too few to hold one out for {name} "
                        f"({name}={value}). Give more pairs, or {name}=0."
                    )
                last = first + 1
                notes.append(
                    f"With {len(ranked):,} different sources, one is held out for {name}: too few "
                    "to judge a model by."
                )
        if last > first:
            below = min(below, places[ranked[last - 1]])
        chosen |= dict.fromkeys(ranked[first:last], name)
        first = last
    return chosen, notes
