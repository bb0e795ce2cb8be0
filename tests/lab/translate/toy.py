"""A language of twelve words and its translation, word by word: learned in seconds, and short."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from maskwright.lab.translate.config import Translation, parse_translation
from maskwright.randomness import draw

WORDS = {
    "the": "el", "a": "un", "big": "grande", "small": "chico", "cat": "gato", "dog": "perro",
    "sees": "ve", "likes": "quiere", "bird": "ave", "house": "casa", "and": "y", "old": "viejo",
}  # fmt: skip


def pairs(number: int) -> list[tuple[str, str]]:
    """Sentences of three to six words that all differ, with their translations."""
    words, found, row = list(WORDS), {}, 0
    while len(found) < number:
        length = 3 + row % 4
        chosen = [words[draw(row, place) % len(words)] for place in range(length)]
        found.setdefault(" ".join(chosen), " ".join(WORDS[word] for word in chosen))
        row += 1
    return list(found.items())


def write_pairs(path: Path, rows: Iterable[tuple[str, str]]) -> Path:
    lines = ["\t".join(("en", "es")), *("\t".join(row) for row in rows)]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def settings(source: Path, **changes: Any) -> dict[str, Any]:
    """A model of one layer, twelve steps, two masks and one seed."""
    return {
        "name": "toy",
        "data": {
            "source": str(source),
            "source_column": "en",
            "target_column": "es",
            "vocabulary_size": 80,
            "max_length": 24,
            "validation": 8,
            "test": 8,
        },
        "model": {"layers": 1, "width": 32, "heads": 2, "feedforward": 32, "dropout": 0.0},
        "training": {"tokens_per_batch": 256, "warmup_steps": 2, "steps": 6, "bf16": False},
        "evaluation": {"every": 4, "batch_size": 8, "beams": [1]},
        "seeds": [0],
        "workers": 1,
    } | changes


def experiment(source: Path, **changes: Any) -> Translation:
    return parse_translation(settings(source, **changes))
