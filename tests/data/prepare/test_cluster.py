"""A Ray cluster writes the same bytes, also where workers are killed in the middle."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path

import pytest

from maskwright.data.prepare import WorkerLost, prepare
from maskwright.errors import MissingExtra
from tests.data.prepare.texts import WITH_PHRASES, contents, small_tokenizer

# Ray, about its own future and its own sockets.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::ResourceWarning")


def dying_once(marks: Path, function, task):
    """The worker that does the first task of a kind dies at the end of its first try."""
    mark = marks / function.__name__
    result = function(task)
    if task.number == 0 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return result


class Dying:
    """Another engine, whose workers die."""

    def __init__(self, engine, marks):
        self.engine, self.marks = engine, marks

    def run(self, function, tasks):
        return self.engine.run(partial(dying_once, self.marks, function), tasks)


@pytest.fixture(scope="module")
def cluster():
    pytest.importorskip("ray")
    from maskwright.data.prepare.cluster import Cluster

    engine = Cluster(2)
    yield engine
    engine.close()


@pytest.mark.slow
def test_killed_workers_change_nothing(cluster, tmp_path, source, whole):
    (tmp_path / "marks").mkdir()
    engine = Dying(cluster, tmp_path / "marks")
    prepare(source, small_tokenizer(), tmp_path / "out", WITH_PHRASES, engine=engine)
    assert contents(tmp_path / "out") == contents(whole)
    died = {path.name for path in (tmp_path / "marks").iterdir()}
    assert died == {"read_piece", "tokenise_piece", "write_shard", "count_block"}


@pytest.mark.slow
def test_errors_come_back(cluster):
    with pytest.raises(MissingExtra, match="pyarrow"):
        list(cluster.run(missing, [1]))
    with pytest.raises(WorkerLost, match="lost its Ray worker 4 times"):
        list(cluster.run(os._exit, [1]))


def missing(task):
    raise MissingExtra("pyarrow", "hf")


def test_without_ray_one_line_names_the_command(monkeypatch):
    import sys

    from maskwright.data.prepare.cluster import Cluster

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r'pip install "maskwright\[scale\]"'):
        Cluster(2)
