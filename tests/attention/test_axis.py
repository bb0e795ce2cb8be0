"""What an axis takes, what it refuses, and that it never changes."""

from __future__ import annotations

import pickle

import pytest
import torch

from maskwright.attention import Axis, causal
from maskwright.errors import AxisError


def test_columns():
    axis = Axis(
        3,
        positions=[4, 5, 6],
        segments=torch.tensor([0, 0, 1], dtype=torch.int32),
        valid=[True, True, False],
        speaker=[1, 2, 1],
        mark=[True, False, False],
    )
    assert set(axis.columns) == {"positions", "segments", "valid", "speaker", "mark"}
    assert axis.columns["segments"].dtype == torch.int64
    assert axis.columns["mark"].dtype == axis.columns["valid"].dtype == torch.bool
    assert (axis.length, axis.batch, axis.plain) == (3, None, False)
    assert (Axis(5).batch, Axis(5).plain, Axis(0).length) == (None, True, 0)


def test_batches():
    axis = Axis(2, segments=[[0, 1], [0, 0], [1, 1]], speaker=[3, 4])
    assert axis.batch == 3
    assert axis.columns["speaker"].shape == (2,)
    assert Axis(2, segments=[[0, 1]]).batch == 1


def test_of_no_length():
    axis = Axis(0, segments=[], valid=[], tag=[[], []])
    assert axis.columns["segments"].dtype == torch.int64
    assert axis.columns["valid"].dtype == torch.bool
    assert axis.batch == 2
    with pytest.raises(AxisError):
        Axis(0, tag=torch.zeros(0))


def test_packed_and_padded():
    assert repr(Axis.packed([2, 0, 1])) == "Axis(3, segments=[0, 0, 2])"
    assert repr(Axis.packed([])) == "Axis(0, segments=[])"
    assert repr(Axis.packed([1], tag=[7])) == "Axis(1, segments=[0], tag=[7])"
    padded = Axis.padded(torch.tensor([[1, 1, 0], [1, 0, 0]]), speaker=[1, 2, 3])
    assert padded.columns["valid"].tolist() == [[True, True, False], [True, False, False]]
    assert padded.batch == 2
    assert Axis.padded(torch.tensor([1, 0])).batch is None


WRONG = [
    (lambda: Axis(-1), "length=-1 of an axis"),
    (lambda: Axis(2.0), "length=2.0 of an axis"),
    (lambda: Axis(True), "length=True of an axis"),
    (lambda: Axis(3, segments=[0, 1]), "has shape (2,); it is (3,) or (batch, 3)"),
    (lambda: Axis(2, tag=torch.zeros(1, 1, 2, dtype=torch.int64)), "has shape (1, 1, 2)"),
    (lambda: Axis(2, tag=1), "has shape ()"),
    (lambda: Axis(2, tag=[0.0, 1.0]), "is torch.float32; it is of integers or Booleans"),
    (lambda: Axis(2, valid=[1, 0]), "Axis.padded(attention_mask)"),
    (lambda: Axis(2, positions=[True, False]), "positions of an axis is Boolean"),
    (lambda: Axis(2, segments=[True, False]), "segments of an axis is Boolean"),
    (lambda: Axis(1, tag=[[1], [2]], valid=[[True]] * 3), "{'valid': 3, 'tag': 2}"),
    (lambda: Axis(1, tag=[1], segments=torch.zeros(1, dtype=torch.int64, device="meta")),
     "on several devices"),
]  # fmt: skip


@pytest.mark.parametrize("make, message", WRONG, ids=[message[:30] for _, message in WRONG])
def test_refused(make, message):
    with pytest.raises(AxisError) as caught:
        make()
    assert message in str(caught.value)


def test_it_never_changes():
    axis = Axis(2, segments=[0, 1])
    with pytest.raises(AttributeError, match="never changes"):
        axis.length = 3
    with pytest.raises(AttributeError):
        axis.extra = 1
    with pytest.raises(TypeError):
        axis.columns["segments"] = torch.zeros(2)


def test_keys_tell_axes_apart():
    segments = torch.tensor([0, 1])
    assert Axis(2, segments=segments).key == Axis(2, segments=segments).key
    assert Axis(2, segments=segments).key != Axis(2, segments=segments.clone()).key
    assert Axis(2, segments=segments).key != Axis(2, tag=segments).key
    assert Axis(2).key != Axis(3).key
    assert Axis(2).key == Axis(2).key


def test_devices():
    axis = Axis(2, segments=[0, 1], valid=[True, False])
    assert axis.device == torch.device("cpu")
    there = axis.to("meta")
    assert {column.device.type for column in there.columns.values()} == {"meta"}
    assert there.device == torch.device("meta")
    with pytest.raises(AxisError, match="The q axis is on cpu, the kv axis on meta"):
        causal.dense(axis, there)


def test_pickled():
    axis = Axis(2, segments=[0, 1], valid=[[True, False]])
    again = pickle.loads(pickle.dumps(axis))
    assert repr(again) == repr(axis)
    assert again.batch == 1


def test_shown_shortly():
    assert repr(Axis(3)) == "Axis(3)"
    assert repr(Axis(2, tag=[1, 2])) == "Axis(2, tag=[1, 2])"
    assert repr(Axis(17, tag=torch.arange(17))) == "Axis(17, tag=<17>)"
    assert repr(Axis(9, tag=torch.zeros(2, 9, dtype=torch.int64))) == "Axis(9, tag=<2×9>)"
