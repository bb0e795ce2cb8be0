"""Snapshots, damage, and processes that are killed while they write."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from maskwright import Ragged
from maskwright.errors import CacheError, SaveError
from maskwright.guidance import ScoreStore, snapshots
from maskwright.guidance.store_file import FILLING, HEADER, WRITING, StoreFile

LENGTHS = np.random.default_rng(0).integers(0, 400, 300)
EVERY = np.arange(len(LENGTHS))
SNAPSHOT = "scores.maskwright"


def random_rows(samples: np.ndarray, seed: int) -> Ragged:
    offsets = np.append(0, np.cumsum(LENGTHS[samples]))
    values = np.random.default_rng(seed).normal(size=offsets[-1]).astype(np.float32)
    values[::7] = np.nan
    return Ragged(values, offsets)


@pytest.fixture(params=[{"decay": 0.9}, {"window": 3}], ids=["decay", "window"])
def store(request, tmp_path):
    with ScoreStore.create(tmp_path / "scores", LENGTHS, **request.param) as store:
        for step in range(5):
            samples = np.random.default_rng(step).permutation(len(LENGTHS))[:200]
            store.update(samples, random_rows(samples, step), step)
        store.flush()
        yield store


# --------------------------------------------------------------------------- snapshots


def test_a_snapshot_comes_back_bit_for_bit(store, tmp_path):
    before = store.path.read_bytes()
    reader = ScoreStore.open(store.path, write=False)
    scores = reader.read(EVERY).values
    store.update(EVERY, random_rows(EVERY, 98), 98)
    written = store.snapshot(tmp_path / "checkpoint-99")  # it waits for the update
    assert written == tmp_path / "checkpoint-99" / SNAPSHOT
    middle = store.path.read_bytes()
    assert middle != before
    first = tmp_path / "first"
    store.update(EVERY, random_rows(EVERY, 5), 99)
    store.restore(tmp_path / "checkpoint-99")
    assert store.path.read_bytes() == middle
    assert not np.array_equal(reader.read(EVERY).values, scores, equal_nan=True)
    with pytest.raises(CacheError, match="cannot be read"):
        store.restore(first)
    assert store.path.read_bytes() == middle


def test_training_goes_on_after_a_restore_as_after_the_snapshot(store, tmp_path):
    def two_more():
        for step in (10, 11):
            store.update(EVERY, random_rows(EVERY, step), step)
        store.flush()
        return store.path.read_bytes()

    store.snapshot(tmp_path)
    straight = two_more()
    store.restore(tmp_path)
    assert two_more() == straight


def test_a_new_store_takes_the_snapshot(store, tmp_path):
    store.snapshot(tmp_path / "c")
    settings = {"window": 3} if "window" in repr(store) else {"decay": 0.9}
    with ScoreStore.create(tmp_path / "new", LENGTHS, **settings) as new:
        new.restore(tmp_path / "c")
        assert new.path.read_bytes() == store.path.read_bytes()


def test_a_snapshot_of_another_store(store, tmp_path):
    with ScoreStore.create(tmp_path / "other", LENGTHS, decay=0.25) as other:
        other.snapshot(tmp_path / "c")
    longer = ScoreStore.create(tmp_path / "another", LENGTHS + 1, decay=0.25)
    with longer, pytest.raises(CacheError, match=r"another store than .*tokens \d+ \(here \d+\)"):
        longer.restore(tmp_path / "c")
    before = store.path.read_bytes()
    with pytest.raises(CacheError, match=r"decay 0\.25"):
        store.restore(tmp_path / "c")
    assert store.path.read_bytes() == before


@pytest.mark.parametrize("place", [0, 20, 50, HEADER, -1], ids=str)
def test_a_damaged_snapshot_changes_nothing(store, tmp_path, place):
    file = store.snapshot(tmp_path / "c")
    data = bytearray(file.read_bytes())
    data[place] ^= 1
    file.write_bytes(data)
    before = store.path.read_bytes()
    with pytest.raises(CacheError, match=f"{SNAPSHOT} is damaged"):
        store.restore(tmp_path / "c")
    assert store.path.read_bytes() == before


@pytest.mark.parametrize("size", [0, 30, 5000])
def test_a_snapshot_cut_short(store, tmp_path, size):
    file = store.snapshot(tmp_path / "c")
    os.truncate(file, size)
    with pytest.raises(CacheError, match=SNAPSHOT):
        store.restore(tmp_path / "c")


def test_a_snapshot_that_cannot_be_written_leaves_the_last(store, tmp_path, monkeypatch):
    file = store.snapshot(tmp_path / "c")
    before = file.read_bytes()
    store.update(EVERY, random_rows(EVERY, 7), 7)

    def full(_number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SaveError, match="No space left on device"):
        store.snapshot(tmp_path / "c")
    assert file.read_bytes() == before
    assert [p.name for p in (tmp_path / "c").iterdir()] == [SNAPSHOT]


# ------------------------------------------------------------------------------ damage


@pytest.mark.parametrize(
    "place, message",
    [(0, "not a score store"), (30, "damaged header"), (HEADER + 9, "offsets")],
)
def test_a_damaged_store(store, place, message):
    store.close()
    data = bytearray(store.path.read_bytes())
    data[place] ^= 1
    store.path.write_bytes(data)
    with pytest.raises(CacheError, match=f"scores.*{message}"):
        ScoreStore.open(store.path)


@pytest.mark.parametrize("size", [0, 20, HEADER, 20_000])
def test_a_store_cut_short(store, size):
    copy = store.path.with_name("cut")
    copy.write_bytes(store.path.read_bytes()[:size])
    with pytest.raises(CacheError, match="cut"):
        ScoreStore.open(copy)


def test_no_store(tmp_path):
    with pytest.raises(CacheError, match=r"ScoreStore\.create makes a store"):
        ScoreStore.open(tmp_path / "none")


# ------------------------------------------------------------------------------- kills


def test_a_half_written_sample_is_forgotten(store, tmp_path):
    store.snapshot(tmp_path / "c")
    whole = store.path.read_bytes()
    sample, others = 17, np.delete(EVERY, 17)
    rest = store.read(others).values
    store.close()
    file = StoreFile.open(store.path, write=True)  # as a kill in the middle of `join` leaves it
    file.steps[sample] = WRITING
    file.scores[:, file.offsets[sample] : file.offsets[sample] + 3] = 1
    del file
    assert ScoreStore.open(store.path, write=False).recovered == 0  # a reader changes nothing
    with ScoreStore.open(store.path) as again:
        assert again.recovered == 1
        assert np.isnan(again.read(np.array([sample])).values).all()
        assert again.visits(np.array([sample])).tolist() == [0]
        assert again.ages(np.array([sample]), 9).tolist() == [-1]
        np.testing.assert_array_equal(again.read(others).values, rest)
        again.restore(tmp_path / "c")
        assert again.path.read_bytes() == whole


class _Deadly:
    """An array whose second element of a write kills the process."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __getitem__(self, key):
        return self.array[key]

    def __setitem__(self, key, value) -> None:
        self.array[key[:1]] = value[:1] if isinstance(value, np.ndarray) else value
        os.kill(os.getpid(), signal.SIGKILL)


class _DeadlyPlanes(_Deadly):
    def take(self, index, axis):
        return self.array.take(index, axis=axis)

    def __iter__(self):
        return (_Deadly(plane) for plane in self.array)


def _die_in(part: str, path: Path, pipe) -> None:
    store = ScoreStore.open(path)
    deadly = _DeadlyPlanes if part == "scores" else _Deadly
    setattr(store._file, part, deadly(getattr(store._file, part)))
    pipe.send("ready")
    store.update(EVERY[20:30], random_rows(EVERY[20:30], 3), 9)
    store.flush()


@pytest.mark.parametrize("part", ["scores", "visits", "steps"])
def test_killed_in_the_middle_of_each_write(store, part):
    before = store.read(EVERY)
    store.close()
    fork = multiprocessing.get_context("fork")
    here, there = fork.Pipe()
    process = fork.Process(target=_die_in, args=(part, store.path, there))
    process.start()
    assert here.recv() == "ready"
    process.join()
    assert process.exitcode == -signal.SIGKILL
    with ScoreStore.open(store.path) as again:
        after = again.read(EVERY)
        # killed as it marks them, none was touched but the first, which is marked
        marked = EVERY[20:21] if part == "steps" else EVERY[20:30]
        assert again.recovered == len(marked)
        for sample in EVERY:
            wanted = np.full_like(before[sample], np.nan) if sample in marked else before[sample]
            np.testing.assert_array_equal(after[sample], wanted)
        assert not again.visits(marked).any()


def test_a_half_done_restore_is_an_error_until_it_is_done(store, tmp_path):
    store.snapshot(tmp_path / "c")
    whole = store.path.read_bytes()
    store._file.state[0] = FILLING  # as a kill in the middle leaves it
    with ScoreStore.open(store.path) as again:
        for use in (
            lambda: again.read(EVERY),
            lambda: again.ages(EVERY, 9),
            lambda: again.update(EVERY, random_rows(EVERY, 0), 9),
            lambda: again.snapshot(tmp_path / "d"),
        ):
            with pytest.raises(CacheError, match="Restore it from a snapshot"):
                use()
        again.restore(tmp_path / "c")
        again.read(EVERY)
    assert store.path.read_bytes() == whole


def test_a_restore_that_stops_half_way_says_so(store, tmp_path, monkeypatch):
    store.snapshot(tmp_path / "c")
    whole = store.path.read_bytes()
    store.update(EVERY, random_rows(EVERY, 9), 9)
    read_checked = snapshots.read_checked

    @contextmanager
    def fails(path, remedy):
        class Source:
            def read(self, size):
                if file.tell() > 3 * HEADER:
                    raise OSError("the disk is gone")
                return file.read(size)

        with read_checked(path, remedy) as file:
            yield Source()

    monkeypatch.setattr(snapshots, "_CHUNK", 5000)
    with monkeypatch.context() as patch:
        patch.setattr(snapshots, "read_checked", fails)
        with pytest.raises(OSError, match="the disk is gone"):
            store.restore(tmp_path / "c")
    with pytest.raises(CacheError, match="Restore it from a snapshot"):
        ScoreStore.open(store.path, write=False).read(EVERY)
    store.restore(tmp_path / "c")
    assert store.path.read_bytes() == whole


def _write_for_ever(path: Path, pipe) -> None:
    """All tokens of a sample get the same score, so that a mixture shows."""
    store, step = ScoreStore.open(path), 1000
    rng = np.random.default_rng(os.getpid())
    pipe.send("ready")
    while True:
        samples = rng.permutation(len(LENGTHS))[:250]
        offsets = np.append(0, np.cumsum(LENGTHS[samples]))
        values = np.repeat(rng.integers(0, 2000, len(samples)), LENGTHS[samples])
        store.update(samples, Ragged(values.astype(np.float32), offsets), step)
        step += 1


def _snapshot_for_ever(path: Path, pipe) -> None:
    store = ScoreStore.open(path)
    pipe.send("ready")
    while True:
        store.snapshot(path.parent / "often")


def _restore_for_ever(path: Path, pipe) -> None:
    store = ScoreStore.open(path)
    pipe.send("ready")
    while True:
        store.restore(path.parent / "kept")


def _kill(target, path: Path, after: float) -> None:
    fork = multiprocessing.get_context("fork")
    here, there = fork.Pipe()
    process = fork.Process(target=target, args=(path, there))
    process.start()
    assert here.recv() == "ready"
    time.sleep(after)
    assert process.is_alive()
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL


def _whole_rows(store: ScoreStore) -> None:
    """Each sample holds one number, or none; and has been visited exactly if it holds one."""
    scores = store.read(EVERY)
    for row, visits in zip(scores, store.visits(EVERY), strict=True):
        if len(row):
            assert (row == row[0]).all() or np.isnan(row).all()
            assert np.isnan(row[0]) == (visits == 0)


@pytest.fixture
def killed(tmp_path):
    """A store of one number a sample, and its snapshot in ``kept``."""
    path = tmp_path / "scores"
    values = np.repeat(np.arange(len(LENGTHS)), LENGTHS).astype(np.float32)
    with ScoreStore.create(path, LENGTHS, decay=0) as store:
        store.update(EVERY, Ragged(values, np.append(0, np.cumsum(LENGTHS))), 0)
        store.snapshot(tmp_path / "kept")
    return path, path.read_bytes()


def test_killed_while_it_writes(killed):
    path, whole = killed
    moments = random.Random(7)
    for _ in range(20):
        _kill(_write_for_ever, path, moments.uniform(0, 0.04))
        with ScoreStore.open(path) as store:
            _whole_rows(store)
            if moments.random() < 0.5:  # else the next one writes on
                store.restore(path.parent / "kept")
                assert path.read_bytes() == whole


def test_the_look_at_rows_can_fail(killed):
    with ScoreStore.open(killed[0]) as store:
        _whole_rows(store)
        sample = int(np.argmax(LENGTHS))
        store._file.scores[0, store._file.offsets[sample]] += 1
        with pytest.raises(AssertionError):
            _whole_rows(store)


def test_killed_while_it_saves(killed):
    path, whole = killed
    moments = random.Random(8)
    for _ in range(10):
        _kill(_snapshot_for_ever, path, moments.uniform(0, 0.03))
        if (path.parent / "often" / SNAPSHOT).exists():
            with ScoreStore.open(path) as store:
                store.restore(path.parent / "often")
        assert path.read_bytes() == whole


def test_killed_while_it_restores(killed):
    path, whole = killed
    moments = random.Random(9)
    for _ in range(10):
        _kill(_restore_for_ever, path, moments.uniform(0, 0.02))
        with ScoreStore.open(path) as store:
            store.restore(path.parent / "kept")
        assert path.read_bytes() == whole


def test_a_process_of_its_own_is_killed(killed):
    path, whole = killed
    program = f"""
import sys
from pathlib import Path
from tests.guidance.test_store_files import _write_for_ever
class Pipe:
    def send(self, word): print(word, flush=True)
_write_for_ever(Path({str(path)!r}), Pipe())
"""
    run = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    with run:
        assert run.stdout.readline() == "ready\n"
        time.sleep(0.05)
        run.kill()
    with ScoreStore.open(path) as store:
        _whole_rows(store)
        assert store.visits(EVERY).max() > 1
        store.restore(path.parent / "kept")
    assert path.read_bytes() == whole
