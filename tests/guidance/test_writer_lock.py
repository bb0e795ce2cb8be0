"""Two writers of one store are refused; what a killed one leaves behind is not."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys

import numpy as np
import pytest

from maskwright import Ragged
from maskwright.errors import ConfigError
from maskwright.guidance import ScoreStore, writer_lock

pytestmark = pytest.mark.skipif(writer_lock.fcntl is None, reason="this system has no flock")

# Holds the store, and has a fork that outlives it, as a DataLoader's worker may.
HOLDER = """
import os, sys, time
import numpy as np
from maskwright.guidance import ScoreStore
store = ScoreStore.open(sys.argv[1])
child = os.fork()
if child == 0:
    time.sleep(60)
    os._exit(0)
print(child, flush=True)
time.sleep(60)
"""


@pytest.fixture
def path(tmp_path):
    ScoreStore.create(tmp_path / "scores", np.array([2, 3])).close()
    return tmp_path / "scores"


def refused(path) -> bool:
    """Whether another process may not write."""
    fork = multiprocessing.get_context("fork")
    here, there = fork.Pipe()
    process = fork.Process(target=_open, args=(path, there))
    process.start()
    said = here.recv()
    process.join()
    return "open for writing in another process" in said


def _open(path, pipe) -> None:
    try:
        ScoreStore.open(path)
        pipe.send("")
    except ConfigError as error:
        pipe.send(str(error))


def test_a_second_process_is_refused_and_readers_take_nothing_away(path):
    store = ScoreStore.open(path)
    assert len(ScoreStore.open(path, write=False)) == 2
    assert not pickle.loads(pickle.dumps(store)).writable
    assert refused(path)
    store.close()
    store.close()
    assert not refused(path)


def test_in_one_process_the_last_writer_is_the_writer(path):
    """As where a training was broken off in a notebook, and its cell runs again."""
    first = ScoreStore.open(path)
    scores = Ragged.from_lists([[1.0, 2.0]], np.float32)
    first.update(np.array([0]), scores, 0)
    second = ScoreStore.open(path)
    assert second.read(np.array([0])).to_lists() == [[1.0, 2.0]]  # what waited was written
    with pytest.raises(ConfigError, match="is closed"):
        first.update(np.array([0]), scores, 1)
    first.close()  # takes nothing from the second
    second.update(np.array([0]), scores, 1)
    second.flush()
    assert first.visits(np.array([0])).tolist() == [2]  # reading goes on


def test_a_store_that_is_forgotten_is_free(path):
    status = path.stat()
    file = status.st_dev, status.st_ino
    store = ScoreStore.open(path)
    assert file in writer_lock._HELD
    del store
    assert file not in writer_lock._HELD


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_killed_writer_leaves_no_lock_even_while_its_fork_lives(path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    child = int(holder.stdout.readline())
    try:
        with pytest.raises(ConfigError, match="another process"):
            ScoreStore.open(path)
        assert len(ScoreStore.open(path, write=False)) == 2
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        os.kill(child, 0)  # it is still there
        ScoreStore.open(path).close()
    finally:
        holder.kill()
        holder.stdout.close()
        os.kill(child, signal.SIGKILL)


def test_without_locks_stores_open_as_before(path, monkeypatch):
    monkeypatch.setattr(writer_lock, "fcntl", None)
    with ScoreStore.open(path) as store:
        assert store.writable
        monkeypatch.undo()
        assert not refused(path)  # nobody was asked for a lock
