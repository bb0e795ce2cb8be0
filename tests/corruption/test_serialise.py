"""A plan in a file, and a file that is damaged."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings

from maskwright import Clock, Masking, MaskPlan, Ragged, TokenBatch, mlm
from maskwright.corruption import Action
from maskwright.errors import CacheError, PolicyError, SaveError
from tests.corruption.rows import WORDS
from tests.corruption.test_show import plan_of
from tests.strategies import draws_of_masks

ARRAYS = ("positions", "actions", "replacements", "rates", "units", "inserts", "inserted", "order")
FULL = plan_of(
    [[2, 5, 6, 7, 8, 3]],
    [(1, Action.INFILL, 4), (2, Action.INFILL, -1), (4, Action.DELETE, -1)],
    units=[0, 0, 1],
    inserts=[(3, 6)],
    order=[0, 2, 1, 3, 4, 5],
)


def assert_equal(one: MaskPlan, two: MaskPlan) -> None:
    for name in ARRAYS:
        ours, theirs = getattr(one, name), getattr(two, name)
        assert (ours is None) == (theirs is None), name
        if ours is not None:
            assert ours.dtype == theirs.dtype, name
            np.testing.assert_array_equal(ours, theirs)
    assert one.batch.tokens == two.batch.tokens
    assert one.batch.tokens.values.dtype == two.batch.tokens.values.dtype
    assert one.batch.sample_ids.tolist() == two.batch.sample_ids.tolist()
    for name in ("word_starts", "protected", "labels"):
        assert getattr(one.batch, name) == getattr(two.batch, name), name
    assert one.clock == two.clock
    assert repr(one.masking) == repr(two.masking)
    assert one.masking.bound == two.masking.bound
    assert repr(one) == repr(two)


@settings(max_examples=30)
@given(draws_of_masks())
def test_it_comes_back_as_it_was(tmp_path_factory, drawn):
    masking, batch, clock = drawn
    plan = masking.plan(batch, clock)
    path = plan.save(tmp_path_factory.mktemp("plan") / "plan.npz")
    again = MaskPlan.load(path)
    assert_equal(plan, again)
    assert not plan.diff(again)
    assert again.corrupted == plan.corrupted


def test_all_columns_and_every_part(tmp_path):
    assert_equal(FULL, MaskPlan.load(FULL.save(tmp_path / "plan")))  # the name is left as it is
    assert [path.name for path in tmp_path.iterdir()] == ["plan"]
    tokens = Ragged.from_lists([[5, 6], [7]], np.uint16)
    ones = tokens.like(np.array([1, 0, 1], np.uint8))
    labels = tokens.like(np.array([8, -100, 9]))
    batch = TokenBatch(tokens, np.array([2**62, 0]), ones, ones, labels)
    masking = Masking(rate=0.9, refresh="static").bind(WORDS)
    plan = masking.plan(batch, Clock(2**64 - 1, None, None, 7))
    assert_equal(plan, MaskPlan.load(plan.save(tmp_path / "other")))


def test_what_is_loaded_can_be_used_but_not_drawn_again(tmp_path):
    batch = TokenBatch(Ragged.from_lists([list(range(5, 90))]), np.array([3]))
    plan = Masking(rate=0.4).bind(WORDS).plan(batch, Clock(4))
    again = MaskPlan.load(plan.save(tmp_path / "plan.npz"))
    assert mlm(again).input_ids.tolist() == mlm(plan).input_ids.tolist()
    assert again.show().plain == plan.show().plain
    with pytest.raises(PolicyError, match=r"cannot draw again. Build it: Masking\(tokens, rate"):
        again.masking.plan(batch)
    moved = MaskPlan.load(FULL.save(tmp_path / "moved.npz"))
    assert moved.corrupted.to_lists() == FULL.corrupted.to_lists()


def test_every_damaged_byte_is_noticed_or_changes_nothing(tmp_path):
    whole = FULL.save(tmp_path / "plan.npz").read_bytes()
    bad = tmp_path / "bad.npz"
    noticed = 0
    for place in range(0, len(whole), 13):
        bad.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        try:
            again = MaskPlan.load(bad)
        except CacheError:
            noticed += 1
        else:
            assert_equal(FULL, again)
    assert noticed > 50


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_file_that_is_cut_off(tmp_path, share):
    path = FULL.save(tmp_path / "plan.npz")
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(CacheError, match="is no saved plan, or is damaged"):
        MaskPlan.load(path)


def test_no_file(tmp_path):
    with pytest.raises(CacheError, match="There is no plan at"):
        MaskPlan.load(tmp_path / "plan.npz")


def rewritten(tmp_path, change):
    path = FULL.save(tmp_path / "plan.npz")
    with np.load(path) as file:
        arrays = dict(file)
    change(arrays)
    with path.open("wb") as file:
        np.savez(file, **arrays)
    return path


def test_another_version(tmp_path):
    def newer(arrays):
        meta = json.loads(arrays["meta"].tobytes()) | {"format": 99}
        arrays["meta"] = np.frombuffer(json.dumps(meta).encode(), np.uint8)

    with pytest.raises(CacheError, match="in format 99, and this maskwright reads format 1"):
        MaskPlan.load(rewritten(tmp_path, newer))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda a: a.pop("units"), "it has the arrays"),
        (lambda a: a.update(actions=a["actions"][:1]), "are not all 3 long"),
        (lambda a: a.update(positions=a["positions"] + 9), "outside 0 … 5"),
        (lambda a: a.update(positions=a["positions"][::-1]), "positions do not rise"),
        (lambda a: a.update(order=a["order"] * 0), "no permutation"),
        (lambda a: a.update(inserted=a["inserted"][:0]), "not equally long"),
        (lambda a: a.update(sample_ids=np.array([None])), "allow_pickle"),
    ],
)
def test_arrays_that_do_not_fit_each_other(tmp_path, change, message):
    with pytest.raises(CacheError, match=message):
        MaskPlan.load(rewritten(tmp_path, change))


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SaveError, match="nothing was left half-written"):
        FULL.save(tmp_path / "file" / "plan.npz")


def test_an_interrupted_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = FULL.save(tmp_path / "plan.npz")
    before = path.read_bytes()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    other = dataclasses.replace(FULL, order=None)
    with pytest.raises(SaveError, match="No space left"):
        other.save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["plan.npz"]
    assert path.read_bytes() == before
