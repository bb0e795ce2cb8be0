"""A store for a rolling window: a visit writes the tile that the next one draws anew, no more."""

from __future__ import annotations

import math
import pickle
import tempfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskwright import Ragged
from maskwright.errors import CacheError, ConfigError, PolicyError
from maskwright.guidance import KnownScores, ScoreStore

NAN = math.nan


def rows(*lists: list[float]) -> Ragged:
    return Ragged.from_lists(lists, np.float32)


def ids(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def test_one_tile_a_visit_literally(tmp_path):
    seen = []
    with ScoreStore.create(tmp_path / "s", np.array([5, 2]), decay=0.5, update_window=2) as store:
        for epoch in range(5):
            new = float(epoch + 1)
            store.update(ids(0, 1), rows([new] * 5, [new] * 2), step=epoch, epoch=epoch)
            seen.append(store.read(ids(0)).to_lists()[0])
            assert store.visits(ids(0)).tolist() == [epoch + 1]
        np.testing.assert_array_equal(
            seen,
            [
                [NAN, NAN, 1, 1, NAN],
                [NAN, NAN, 1, 1, 2],
                [3, 3, 1, 1, 2],
                [3, 3, 2.5, 2.5, 2],  # 0.5 · 1 + 0.5 · 4
                [3, 3, 2.5, 2.5, 3.5],
            ],
        )
        # a sample of one tile is drawn anew at every visit, and so written at every one
        assert store.read(ids(1)).to_lists() == [[4.0625, 4.0625]]


@given(
    length=st.integers(0, 12),
    width=st.integers(1, 13),
    epochs=st.lists(st.integers(0, 20), unique=True, max_size=12).map(sorted),
    window=st.sampled_from([None, 1, 2]),
    prior=st.booleans(),
    seed=st.integers(0, 9),
)
def test_against_one_token_at_a_time(length, width, epochs, window, prior, seed):
    """Each token's scores are those of a plain store that was shown only the visits of its turn."""
    rng = np.random.default_rng(seed)
    tiles = max(-(-length // width), 1)
    lengths = np.array([length, 3])
    with tempfile.TemporaryDirectory() as folder:
        store = ScoreStore.create(f"{folder}/s", lengths, window=window, update_window=width)
        plain = ScoreStore.create(f"{folder}/p", lengths, window=window)
        if prior:
            known = KnownScores(rows(rng.random(length).tolist(), [1, 2, 3]))
            store.initialise(known)
            plain.initialise(known)
        for epoch in epochs:
            new = rng.random(length).astype(np.float32)
            new[rng.random(length) < 0.2] = NAN
            before = store.read(ids(0))
            store.update(ids(0), rows(new.tolist()), step=epoch, epoch=epoch)
            turn = (epoch + 1) % tiles
            due = np.arange(length) // width == turn
            after = store.read(ids(0)).values
            np.testing.assert_array_equal(after[~due], before.values[~due])
            if not prior:  # then a first visit takes its place, which is another in each tile
                plain.update(ids(0), rows(np.where(due, new, NAN).tolist()), step=epoch)
                np.testing.assert_array_equal(after, plain.read(ids(0)).values)
            elif epoch < tiles:  # of each tile
                np.testing.assert_array_equal(
                    after[due], np.where(np.isnan(new), before.values, new.astype(np.float16))[due]
                )
        store.close()
        plain.close()


def test_it_needs_the_epoch(tmp_path):
    with ScoreStore.create(tmp_path / "s", np.array([2]), update_window=2) as store:
        for epoch in (None, -1):
            with pytest.raises(ConfigError, match=r"update_window=2 .* needs the epoch of the vis"):
                store.update(ids(0), rows([1, 2]), step=0, epoch=epoch)
        assert store.visits(ids(0)).tolist() == [0]


@pytest.mark.parametrize("width", [0, -5, 1.5, "512"])
def test_a_width_that_is_none(tmp_path, width):
    with pytest.raises(PolicyError, match="at least 1"):
        ScoreStore.create(tmp_path / "s", np.array([2]), update_window=width)
    assert not list(tmp_path.iterdir())


def test_it_is_in_the_file(tmp_path):
    with ScoreStore.create(tmp_path / "s", np.array([4]), update_window=3) as store:
        assert store.update_window == 3
        assert "update_window=3" in repr(store)
        store.update(ids(0), rows([1, 2, 3, 4]), step=0, epoch=0)
        copy = pickle.loads(pickle.dumps(store))
        assert copy.update_window == 3
        store.snapshot(tmp_path / "saved")
    with ScoreStore.open(tmp_path / "s") as store:
        store.update(ids(0), rows([5, 6, 7, 8]), step=1, epoch=1)
        np.testing.assert_array_equal(store.read(ids(0)).to_lists(), [[5, 6, 7, 4]])
        store.restore(tmp_path / "saved")
        np.testing.assert_array_equal(store.read(ids(0)).to_lists(), [[NAN, NAN, NAN, 4]])
    with ScoreStore.create(tmp_path / "other", np.array([4])) as other:
        assert other.update_window is None
        with pytest.raises(CacheError, match=r"update_window 3 \(here None\)"):
            other.restore(tmp_path / "saved")


def test_it_takes_no_more_bytes(tmp_path):
    lengths = np.full(50, 100)
    for name, width in (("plain", None), ("window", 8)):
        ScoreStore.create(tmp_path / name, lengths, update_window=width).close()
    sizes = [(tmp_path / name).stat().st_size for name in ("plain", "window")]
    assert sizes[0] == sizes[1]
