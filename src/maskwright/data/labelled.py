"""Text with labels, divided into training and test examples by a hash of each text.

Which examples are drawn depends on their texts alone: not on a seed, and not on what else is in
the source. A larger draw contains the smaller one.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from maskwright.data.splits import normalised, place
from maskwright.errors import DataError

Example = tuple[str, str]  # text, label

TEST_SHARE = 0.25  # of a source without a test set


@dataclass(frozen=True)
class Examples:
    """What a classifier is trained and judged on.

    Args:
        labels: names of the classes, in the order of their numbers.
        train, test: texts with the numbers of their labels.
    """

    labels: tuple[str, ...]
    train: tuple[tuple[str, int], ...]
    test: tuple[tuple[str, int], ...]

    @property
    def fingerprint(self) -> str:
        """sha256 of all that is in it, 64 hex digits."""
        content = json.dumps([self.labels, self.train, self.test], ensure_ascii=True)
        return hashlib.sha256(content.encode()).hexdigest()

    @property
    def majority(self) -> float:
        """Share of the test examples that have the commonest label: what a constant answer gets."""
        return max(Counter(label for _, label in self.test).values()) / len(self.test)


@dataclass(frozen=True)
class Labelled:
    """A classification data set: no text twice, and none both in train and in test.

    Args:
        name: how it was asked for.
        licence: of the text, in words.
        labels: names of the classes, sorted.
        train, test: all examples, in the order in which they are drawn.
        notes: what was dropped or decided, one sentence each.
    """

    name: str
    licence: str
    labels: tuple[str, ...]
    train: tuple[Example, ...]
    test: tuple[Example, ...]
    notes: tuple[str, ...] = ()

    def draw(self, train: int | None, test: int | None) -> Examples:
        """The first ``train`` and ``test`` examples; all of them where the number is ``None``.

        Raises:
            DataError: there are not so many, or they are of one class only.
        """
        numbers = {label: number for number, label in enumerate(self.labels)}
        drawn = {}
        for part, wanted in (("train", train), ("test", test)):
            there: tuple[Example, ...] = getattr(self, part)
            if wanted is not None and wanted > len(there):
                raise DataError(
                    f"{self.name} has {len(there):,} {part} examples, not {wanted:,}. Ask for "
                    f"fewer, or for all of them: {part}: null"
                )
            chosen = there[:wanted]
            if len({label for _, label in chosen}) < 2:
                raise DataError(
                    f"The {len(chosen):,} {part} examples that are drawn from {self.name} do not "
                    f"have two different labels, so nothing can be learned or judged. Ask for more "
                    f"of its {len(there):,}: {part}: null"
                )
            drawn[part] = tuple((text, numbers[label]) for text, label in chosen)
        return Examples(self.labels, drawn["train"], drawn["test"])


def labelled(
    name: str, licence: str, source: Mapping[str, Sequence[Example]], notes: tuple[str, ...] = ()
) -> Labelled:
    """Cleans and divides examples.

    Empty texts and duplicates (up to white space) are dropped, the copy in ``train`` first; of a
    text with two labels no copy is kept.

    Args:
        source: ``train`` and, where the source has one, ``test``.

    Raises:
        DataError: there are fewer than two classes, or as many as texts.
    """
    labels_of: dict[str, set[str]] = {}
    first: dict[str, tuple[str, Example]] = {}
    empty = doubles = 0
    for part in ("test", "train"):
        for text, label in source.get(part, ()):
            key = normalised(text)
            empty += not key
            if not key:
                continue
            doubles += key in first
            labels_of.setdefault(key, set()).add(label)
            first.setdefault(key, (part, (text, label)))
    kept = [first[key] for key, found in labels_of.items() if len(found) == 1]
    labels = tuple(sorted({label for _, (_, label) in kept}))
    _check_labels(name, labels, len(kept))
    parts: dict[str, list[Example]] = {"train": [], "test": []}
    divide = not source.get("test")
    for part, example in kept:
        held_out = place(example[0]) >= 1 - TEST_SHARE if divide else part == "test"
        parts["test" if held_out else "train"].append(example)
    train, test = (sorted(parts[part], key=lambda e: place(e[0])) for part in ("train", "test"))
    contradicted = len(first) - len(kept)
    counted = [
        (empty, "empty texts"),
        (doubles, "duplicates"),
        (contradicted, "texts with two labels"),
    ]
    dropped = tuple(f"{what.capitalize()} dropped: {n:,}." for n, what in counted if n)
    return Labelled(name, licence, labels, tuple(train), tuple(test), (*notes, *dropped))


def _check_labels(name: str, labels: tuple[str, ...], texts: int) -> None:
    if len(labels) < 2:
        found = f"only the label {labels[0]!r}" if labels else "no labelled text"
        raise DataError(
            f"{name} has {found}, and a task needs two classes. Check the file and label_column."
        )
    if 2 * len(labels) > texts:
        raise DataError(
            f"{name} has {len(labels):,} different labels for {texts:,} texts, so they are not "
            "classes. Check label_column, or give more text."
        )
