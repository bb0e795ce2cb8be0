"""A toy corpus, and a comparison of it that was made once."""

from __future__ import annotations

import gc
import queue
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from maskwright.lab import pool
from maskwright.lab.translate import compare as room
from maskwright.lab.translate.config import Translation
from tests.lab.translate import toy


@dataclass(frozen=True)
class Finished:
    experiment: Translation
    out: Path
    results: dict[str, Any]


@pytest.fixture(scope="session", autouse=True)
def quick_collections() -> Iterator[None]:
    """Each training ends with a collection, which is slow with all that pytest has imported."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory) -> Iterator[None]:
    """Toy tokenizers are nobody's business."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MASKWRIGHT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def source(tmp_path_factory) -> Path:
    return toy.write_pairs(tmp_path_factory.mktemp("pairs") / "pairs.tsv", toy.pairs(120))


def run_here(
    jobs: Iterable[Any],
    done: set[str],
    shared: Any,
    *,
    workers: int,
    tell: Callable[[pool.Event], None],
    begin: Any,
    work: Any,
) -> None:
    """`pool.run_all` without processes, which take seconds to start."""
    waiting = [job for job in jobs if job.name not in done]
    if waiting:
        begin(shared, queue.Queue())
    for job in waiting:
        work(job)
        tell(pool.Event(job, job.total_steps, done=True))


@pytest.fixture
def here(monkeypatch) -> None:
    """Comparisons train in this process."""
    monkeypatch.setattr(room, "run_all", run_here)


@pytest.fixture(scope="session")
def finished(source, tmp_path_factory) -> Finished:
    """None, a decoder mask and a cross mask, two seeds, one shared start. Do not write to it."""
    out = tmp_path_factory.mktemp("finished") / "out"
    experiment = toy.experiment(
        source,
        warmup=2,
        seeds=[0, 1],
        decoder_masks={"none": {}, "random": {"mask": "random", "rate": 0.5}},
        cross_masks={"none": {}, "wait-k": {"pattern": "wait_k(2)", "encoder": "causal"}},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "run_all", run_here)
        return Finished(
            experiment, out, room.compare_translation(experiment, out, command="maskwright compare")
        )
