"""Small tables and tokenizers for the data tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from maskwright.data.table import TokenTable
from maskwright.data.table_writer import TableWriter
from maskwright.data.tokenizer import train_bpe

Write = Callable[..., TokenTable]

TEXTS = [
    "The state of our union is strong, because our people are strong.",
    "It's 1790 - the people's naïve café.",
    "Four score and seven years ago our fathers brought forth a new nation.",
] * 3


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write rows of ids as a table in ``tmp_path`` and open it."""

    def write(rows, *, vocabulary_size=100, starts=True, name="table", documents=None):
        lengths = np.array([len(row) for row in rows])
        tokens = np.array([i for row in rows for i in row], np.int64)
        with TableWriter(
            tmp_path / f"{name}.arrow",
            vocabulary_size=vocabulary_size,
            meta={"split": "train"},
            word_starts=starts,
        ) as writer:
            writer.add(
                tokens,
                lengths,
                documents=np.arange(len(rows)) if documents is None else np.array(documents),
                word_starts=tokens % 2 if starts else None,
            )
        return writer.table

    return write


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory):
    return train_bpe(TEXTS, 120, cache_dir=tmp_path_factory.mktemp("tokenizer"))
