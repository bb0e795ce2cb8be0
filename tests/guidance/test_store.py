"""The score store: its arithmetic, its ages, who sees what when, and what it refuses."""

from __future__ import annotations

import math
import multiprocessing
import pickle
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskwright import Ragged
from maskwright.errors import BatchError, CacheError, ConfigError, SampleIdError, SaveError
from maskwright.guidance import KnownScores, ScoreReader, ScoreStore
from maskwright.guidance.store_file import StoreFile

NAN = math.nan


def rows(*lists: list[float]) -> Ragged:
    return Ragged.from_lists(lists, np.float32)


def ids(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "scores"


def same(found: Ragged, wanted: list[list[float]]) -> None:
    assert found.values.dtype == np.float32
    assert found.lengths.tolist() == [len(row) for row in wanted]
    np.testing.assert_array_equal(found.values, np.float32([x for row in wanted for x in row]))


# -------------------------------------------------------------------------- arithmetic


def test_a_moving_average(path):
    with ScoreStore.create(path, np.array([3, 0, 2]), decay=0.75) as store:
        same(store.read(ids(0, 1, 2)), [[NAN] * 3, [], [NAN] * 2])
        store.update(ids(2, 0), rows([8, NAN], [1, 2, NAN]), step=4)
        same(store.read(ids(0, 2)), [[1, 2, NAN], [8, NAN]])
        store.update(ids(0), rows([5, NAN, 6]), step=9)
        # 0.75 · 1 + 0.25 · 5; left; the first score of a token sets it
        same(store.read(ids(0)), [[2, 2, 6]])
        same(store.read(ids(2)), [[8, NAN]])


def test_it_rests_in_half_precision(path):
    with ScoreStore.create(path, np.array([4]), decay=0.5) as store:
        store.update(ids(0), rows([0.1, 1e9, -math.inf, 2049.0]), step=0)
        same(store.read(ids(0)), [[float(np.float16(0.1)), 65504, -65504, 2048]])
        store.update(ids(0), rows([0.2, NAN, NAN, 2051.0]), step=1)
        first = np.float32(0.5) * np.float32(np.float16(0.1)) + np.float32(0.5) * np.float32(0.2)
        same(store.read(ids(0)), [[float(np.float16(first)), 65504, -65504, 2050]])


def test_a_decay_of_0_keeps_the_last_score(path):
    with ScoreStore.create(path, np.array([2]), decay=0) as store:
        for value in (1.0, 7.0):
            store.update(ids(0), rows([value, NAN]), step=0)
        same(store.read(ids(0)), [[7, NAN]])


def test_a_window(path):
    with ScoreStore.create(path, np.array([2]), window=3) as store:
        seen = []
        for value in [[1, NAN], [3, 4], [NAN, 6], [8, NAN], [0, NAN]]:
            store.update(ids(0), rows(value), step=0)
            seen.append(store.read(ids(0)).to_lists()[0])
    # the last three *scores* of each token: a visit that gave it none changes nothing
    np.testing.assert_array_equal(seen, [[1, NAN], [2, 4], [2, 5], [4, 5], [np.float32(11 / 3), 5]])


UPDATES = st.lists(
    st.lists(st.sampled_from([NAN, 0.0, 0.3, -1.7, 1e-6, 70000.0]), min_size=3, max_size=3),
    max_size=6,
)


@given(visits=UPDATES, decay=st.sampled_from([0.0, 0.5, 0.9]), window=st.integers(1, 4))
def test_against_one_token_at_a_time(visits, decay, window):
    with tempfile.TemporaryDirectory() as folder:
        averaged = ScoreStore.create(f"{folder}/a", np.array([1, 3]), decay=decay)
        windowed = ScoreStore.create(f"{folder}/b", np.array([1, 3]), window=window)
        for step, row in enumerate(visits):
            for store in (averaged, windowed):
                store.update(ids(1), rows(row), step)
        for token in range(3):
            kept: list[np.float16] = []
            mean = np.float16(NAN)
            for row in visits:
                if math.isnan(row[token]):
                    continue
                new = np.float32(min(row[token], 65504.0))
                if not math.isnan(mean):
                    mixed = np.float32(decay) * np.float32(mean) + np.float32(1 - decay) * new
                else:
                    mixed = new
                mean = np.float16(min(mixed, np.float32(65504)))
                kept = [*kept, np.float16(new)][-window:]
            total = np.float32(0)
            for value in kept:
                total += np.float32(value)
            of_window = total / np.float32(len(kept)) if kept else NAN
            np.testing.assert_array_equal(averaged.read(ids(1))[0][token], mean)
            np.testing.assert_allclose(windowed.read(ids(1))[0][token], of_window, rtol=1e-6)
        averaged.close()
        windowed.close()


@given(order=st.permutations(range(5)), cut=st.integers(0, 5), seed=st.integers(0, 9))
def test_any_order_of_samples_gives_the_same_file(order, cut, seed):
    lengths = np.array([3, 1, 0, 4, 2])
    values = np.random.default_rng(seed).normal(size=(2, 10)).astype(np.float32)
    files = []
    with tempfile.TemporaryDirectory() as folder:
        for name, places in (("a", [list(range(5))]), ("b", [order[:cut], order[cut:]])):
            with ScoreStore.create(f"{folder}/{name}", lengths, decay=0.9) as store:
                for visit in range(2):
                    scores = Ragged(values[visit], np.append(0, np.cumsum(lengths)))
                    for part in places:
                        store.update(np.array(part, np.int64), scores.take(part), step=visit)
            files.append(Path(folder, name).read_bytes())
    assert files[0] == files[1]


# -------------------------------------------------------------------------------- ages


def test_ages_and_visits(path):
    with ScoreStore.create(path, np.array([1, 1, 1])) as store:
        store.update(ids(0, 2), rows([1], [1]), step=10)
        store.update(ids(2), rows([NAN]), step=15)  # a visit, though it gave no score
        assert store.ages(ids(0, 1, 2), 15).tolist() == [5, -1, 0]
        assert store.visits(ids(2, 1, 0)).tolist() == [2, 0, 1]
        with pytest.raises(ConfigError, match="restore the snapshot"):
            store.ages(ids(2), 14)


# ------------------------------------------------------------------ a beginning from elsewhere


def test_initialise(path):
    prior = KnownScores(Ragged.from_lists([[1, 2], [3, 4]], np.int64))
    assert isinstance(prior, ScoreReader)
    with ScoreStore.create(path, np.array([2, 2]), decay=0.5) as store:
        assert isinstance(store, ScoreReader)
        store.initialise(prior)
        same(store.read(ids(1, 0)), [[3, 4], [1, 2]])
        assert store.ages(ids(0, 1), 7).tolist() == [-1, -1]
        store.update(ids(0), rows([10, NAN]), step=0)
        same(store.read(ids(0)), [[10, 2]])  # it takes the place of the prior; no average
        with pytest.raises(ConfigError, match="scores of 1 samples"):
            store.initialise(prior)


def test_initialise_with_a_window(path):
    with ScoreStore.create(path, np.array([2]), window=2) as store:
        store.initialise(KnownScores(rows([4, 6])))
        same(store.read(ids(0)), [[4, 6]])
        store.update(ids(0), rows([10, NAN]), step=0)
        same(store.read(ids(0)), [[10, 6]])


def test_initialise_with_the_wrong_rows_leaves_it_empty(path):
    with ScoreStore.create(path, np.array([2, 2])) as store:
        with pytest.raises(SampleIdError):
            store.initialise(KnownScores(rows([4, 6])))
        with pytest.raises(BatchError, match="lengths"):
            store.initialise(KnownScores(rows([4, 6], [1])))
        same(store.read(ids(0)), [[NAN, NAN]])


# ------------------------------------------------------------------------- who sees what, when


def test_the_writer_does_not_keep_training_waiting(path, monkeypatch):
    go, join = threading.Event(), StoreFile.join

    def late(self, update):
        go.wait(10)
        join(self, update)

    monkeypatch.setattr(StoreFile, "join", late)
    with ScoreStore.create(path, np.array([1]), decay=0) as store:
        given = rows([1])
        store.update(ids(0), given, step=0)
        given.values[:] = 99  # it was copied
        store.update(ids(0), rows([2]), step=1)
        other = ScoreStore.open(path, write=False)
        same(other.read(ids(0)), [[NAN]])
        go.set()
        store.flush()
        same(other.read(ids(0)), [[2]])  # in the order they were given
        assert other.visits(ids(0)).tolist() == [2]


def test_an_error_of_the_thread_comes_out(path, monkeypatch):
    def fails(self, update):
        raise OSError("the disk is gone")

    monkeypatch.setattr(StoreFile, "join", fails)
    store = ScoreStore.create(path, np.array([1]))
    store.update(ids(0), rows([1]), step=0)
    with pytest.raises(OSError, match="the disk is gone"):
        store.flush()
    with pytest.raises(OSError, match="the disk is gone"):
        store.update(ids(0), rows([1]), step=1)
    with pytest.raises(OSError, match="the disk is gone"):
        store.close()
    assert not store._writer._thread.is_alive()


def _reader(store, pipe):
    pipe.send(store.read(ids(0)).to_lists())
    pipe.recv()
    pipe.send(store.read(ids(0)).to_lists())
    try:
        store.update(ids(0), rows([5, 5]), step=9)
    except ConfigError as error:
        pipe.send(str(error))


def test_a_fork_sees_the_updates_and_may_not_write(path):
    fork = multiprocessing.get_context("fork")
    with ScoreStore.create(path, np.array([2])) as store:
        store.update(ids(0), rows([1, 2]), step=0)
        store.flush()
        here, there = fork.Pipe()
        worker = fork.Process(target=_reader, args=(store, there))
        worker.start()
        assert here.recv() == [[1, 2]]
        store.update(ids(0), rows([3, 4]), step=1)
        store.flush()
        here.send("go")
        assert here.recv() == [[2, 3]]
        assert "is a fork of the one" in here.recv()
        worker.join()
        assert worker.exitcode == 0
        same(store.read(ids(0)), [[2, 3]])


def test_a_pickle_reads_the_same_map(path):
    with ScoreStore.create(path, np.array([2])) as store:
        copy = pickle.loads(pickle.dumps(store))
        assert (store.writable, copy.writable) == (True, False)
        store.update(ids(0), rows([1, 2]), step=3)
        store.flush()
        same(copy.read(ids(0)), [[1, 2]])
        with pytest.raises(ConfigError, match="opened to read"):
            copy.update(ids(0), rows([1, 2]), step=3)
        with pytest.raises(ConfigError, match="opened to read"):
            copy.restore(path.parent)


def test_what_waits_is_written_when_the_store_goes(path):
    store = ScoreStore.create(path, np.array([1]), decay=0)
    for step in range(50):
        store.update(ids(0), rows([step]), step=step)
    del store
    same(ScoreStore.open(path).read(ids(0)), [[49]])


def test_closed(path):
    store = ScoreStore.create(path, np.array([1]))
    store.update(ids(0), rows([1]), step=0)
    store.close()
    store.close()
    same(store.read(ids(0)), [[1]])
    with pytest.raises(ConfigError, match="closed"):
        store.update(ids(0), rows([1]), step=1)


# ---------------------------------------------------------------------------------- the file


@pytest.mark.parametrize("window, planes", [(None, 1), (1, 1), (4, 4)])
def test_two_bytes_a_token(path, window, planes):
    lengths = np.full(3000, 500)
    with ScoreStore.create(path, lengths, window=window) as store:
        assert repr(store).startswith("ScoreStore(3,000 samples, 1,500,000 tokens, ")
        assert len(store) == 3000
        assert np.isnan(store.read(ids(0, 2999)).values).all()
    size = path.stat().st_size
    assert 2 * planes * 1_500_000 + 16 * 3000 < size < 2 * planes * 1_500_000 + 16 * 3000 + 4200
    assert [p.name for p in path.parent.iterdir()] == ["scores"]


def test_nothing_to_store(path):
    with ScoreStore.create(path, np.empty(0, np.int64)) as store:
        assert len(store) == 0
        same(store.read(ids()), [])
        store.update(ids(), rows(), step=0)
        store.initialise(KnownScores(rows()))


def test_of_this_table(path):
    ScoreStore.create(path, np.array([2, 3])).close()
    assert len(ScoreStore.open(path, lengths=np.array([2, 3]))) == 2
    with pytest.raises(CacheError, match="another table"):
        ScoreStore.open(path, lengths=np.array([3, 2]))


WRONG = [
    (lambda s: s.read(ids(3)), SampleIdError, "sample id 3 is outside 0 … 2"),
    (lambda s: s.read(ids(0, -1)), SampleIdError, "sample id -1"),
    (lambda s: s.read(np.array([0.0])), SampleIdError, "float64"),
    (lambda s: s.update(ids(1, 1), rows([1], [1]), 0), SampleIdError, "comes twice"),
    (lambda s: s.update(ids(0), rows([1]), 0), BatchError, r"lengths \[2\]; got \[1\]"),
    (lambda s: s.update(ids(0), rows([1, 2], []), 0), BatchError, "lengths"),
    (lambda s: s.update(ids(0), rows([1, 2]), -1), ConfigError, "step must be"),
    (lambda s: s.update(ids(0), rows([1, 2]), 2**31), ConfigError, "step must be"),
]


@pytest.mark.parametrize("use, error, message", WRONG)
def test_refused(path, use, error, message):
    with ScoreStore.create(path, np.array([2, 1, 1])) as store:
        with pytest.raises(error, match=message):
            use(store)
        assert not store.visits(ids(0, 1, 2)).any()


SETTINGS = [
    ({"decay": 1.0}, "from 0 to less than 1"),
    ({"decay": -0.1}, "from 0 to less than 1"),
    ({"decay": 0.5, "window": 2}, "not both"),
    ({"window": 0}, "whole number from 1"),
    ({"window": 2.5}, "whole number from 1"),
    ({"lengths": np.array([1, -1])}, "of at least 0"),
    ({"lengths": np.array([1.0])}, "whole numbers"),
]


@pytest.mark.parametrize("settings, message", SETTINGS)
def test_settings_refused(path, settings, message):
    with pytest.raises(ConfigError, match=message):
        ScoreStore.create(path, **{"lengths": np.array([1]), **settings})
    assert not path.exists()


def test_it_never_writes_over_a_store(path):
    ScoreStore.create(path, np.array([1])).close()
    with pytest.raises(ConfigError, match="exists"):
        ScoreStore.create(path, np.array([1]))


def test_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SaveError, match="cannot be written"):
        ScoreStore.create(tmp_path / "file" / "scores", np.array([1]))
