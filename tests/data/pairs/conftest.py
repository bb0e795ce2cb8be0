"""A sample of Tatoeba, and a small tokenizer of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from maskwright.data.pairs import Pairs, read_pairs, train_pair_tokenizer

SAMPLE = Path(__file__).parent / "tatoeba" / "sample.tsv"


@pytest.fixture(scope="session")
def sample_path() -> Path:
    return SAMPLE


@pytest.fixture(scope="session")
def pairs() -> Pairs:
    return read_pairs(SAMPLE, source_column=0, target_column=1)


@pytest.fixture(scope="session")
def tokenizer(pairs, tmp_path_factory):
    return train_pair_tokenizer(pairs, 200, cache_dir=tmp_path_factory.mktemp("tokenizer"))
