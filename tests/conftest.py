"""What holds for every test: no network, no user files, one thread, the same examples each time."""

from __future__ import annotations

import os
import tempfile

import pytest

# Before anything imports torch or a Hugging Face library: they read these once, on import.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["OMP_NUM_THREADS"] = "1"

import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)

# "ci" tries the same examples everywhere, so that a change is judged and not the luck of a draw.
# "thorough" draws afresh: HYPOTHESIS_PROFILE=thorough make test
settings.register_profile("ci", derandomize=True, deadline=None, max_examples=60, database=None)
settings.register_profile(
    "thorough",
    deadline=None,
    max_examples=2000,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

_cache = pytest.StashKey[tempfile.TemporaryDirectory[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Give this process, each xdist worker too, a cache of its own before a test is imported."""
    config.stash[_cache] = tempfile.TemporaryDirectory(prefix="maskwright-tests-")
    os.environ["MASKWRIGHT_CACHE"] = config.stash[_cache].name


def pytest_unconfigure(config: pytest.Config) -> None:
    if _cache in config.stash:
        config.stash[_cache].cleanup()
