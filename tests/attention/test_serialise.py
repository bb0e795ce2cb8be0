"""Patterns as JSON, and patterns and axes through pickle, copies and workers."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch.utils.data import DataLoader

from maskwright.attention import (
    Axis,
    aligned,
    causal,
    from_json,
    full,
    monotonic_window,
    threshold,
    to_json,
    top_k,
    visible,
    window,
)
from maskwright.errors import PatternError
from tests.attention.strategies import attentions

quick = settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
MATRIX = [[True, False, True], [False, True, True]]


@quick
@given(attentions())
def test_what_is_written_is_read(attention):
    pattern, q, kv = attention
    again = from_json(to_json(pattern))
    assert again == pattern
    assert str(again) == str(pattern)
    assert torch.equal(again.dense(q, kv), pattern.dense(q, kv))
    assert to_json(again) == to_json(pattern)


@quick
@given(attentions())
def test_pickles_and_copies_are_equal(attention):
    pattern, q, kv = attention
    mask = pattern.dense(q, kv)
    for again in (
        pickle.loads(pickle.dumps((pattern, q, kv))),
        copy.deepcopy((pattern, q, kv)),
        tuple(copy.copy(one) for one in attention),
    ):
        assert again[0] == pattern
        assert hash(again[0]) == hash(pattern)
        assert torch.equal(again[0].dense(*again[1:]), mask)


def test_axes_keep_their_columns():
    axis = Axis(2, positions=[[3, 4], [0, 1]], valid=[True, False], speaker=[1, 2])
    _ = axis.ranks
    for again in (pickle.loads(pickle.dumps(axis)), copy.deepcopy(axis), copy.copy(axis)):
        assert repr(again) == repr(axis)
        assert (again.length, again.batch) == (2, 2)
    deep = copy.deepcopy(axis)
    deep.columns["speaker"].zero_()
    assert axis.columns["speaker"].tolist() == [1, 2]


def _masks(pairs):
    """A collate function: masks are made in the worker, and patterns and axes come back."""
    (pattern, axis), *_ = pairs
    return pattern, axis, pattern.dense(axis)


def test_patterns_and_axes_go_through_workers():
    pattern = causal & (window(1) | visible(torch.eye(3) > 0)) & monotonic_window(2)
    axis = Axis(3, valid=[True, True, False])
    loader = DataLoader([(pattern, axis)] * 2, num_workers=1, collate_fn=_masks)
    for again, other, mask in loader:
        assert again == pattern
        assert repr(other) == repr(axis)
        assert torch.equal(mask, pattern.dense(axis))


def test_the_format():
    """What older files look like must stay readable: this is one."""
    written = {
        "format": 1,
        "pattern": 'causal & visible(table("1×1×2×3 c1fdc1b1a320a6d8"))',
        "tables": {"1×1×2×3 c1fdc1b1a320a6d8": {"shape": [1, 1, 2, 3], "bits": "rA=="}},
    }
    assert from_json(json.dumps(written)) == causal & visible(MATRIX)
    assert json.loads(to_json(causal & visible(MATRIX))) == written


def test_a_table_is_written_once():
    pattern = visible(MATRIX) & (causal | ~visible(MATRIX)) & threshold([[1, 0, 1], [0, 1, 1]], 1)
    assert len(json.loads(to_json(pattern))["tables"]) == 1
    assert from_json(to_json(pattern)) == pattern


def test_no_array_of_all_pairs_for_links():
    text = to_json(aligned([(t, t) for t in range(300)]))
    assert json.loads(text)["tables"] == {}
    assert len(text) < 5000


def _changed(**changes):
    return json.dumps({**json.loads(to_json(causal & top_k([[1, 2], [2, 1]], 1))), **changes})


def _table(**changes):
    content = json.loads(_changed())
    (name, table), *_ = content["tables"].items()
    return _changed(tables={name: {**table, **changes}})


WRONG = [
    ("", "This is no saved pattern"),
    ("causal", "This is no saved pattern"),
    ("[" * 100_000, "This is no saved pattern"),
    (None, "This is no saved pattern"),
    ("[1]", "it has no format"),
    ("{}", "it has no format"),
    (_changed(format=2), "saved in format 2, and this maskwright reads format 1"),
    (_changed(pattern=3), "It is damaged"),
    (_changed(tables=[]), "It is damaged"),
    (_changed(more=1), "It is damaged"),
    (_changed(pattern="causl"), "Did you mean 'causal'?"),
    (_changed(tables={}), "contents of a table are not in its source"),
    (_table(bits="AA=="), "its contents are 1×1×2×2"),
    (_table(bits="A"), "is damaged (Error"),
    (_table(bits="AAAA"), "3 bytes for the shape [1, 1, 2, 2]"),
    (_table(bits=3), "is damaged"),
    (_table(shape=[1, 1, 4, 1]), "its contents are 1×1×4×1"),
    (_table(shape=[2, 2]), "1 bytes for the shape [2, 2]"),
    (_table(shape=[-1, 1, -2, 2]), "is damaged"),
    (_table(shape=None), "is damaged"),
    (_changed(tables={"x": None}), "Table x of a saved pattern is damaged"),
]


@pytest.mark.parametrize("text, message", WRONG, ids=[message[:40] for _, message in WRONG])
def test_damaged_text(text, message):
    with pytest.raises(PatternError) as caught:
        from_json(text)
    assert message in str(caught.value)


def test_only_patterns():
    with pytest.raises(PatternError, match="to_json takes a pattern, not str"):
        to_json("causal")  # type: ignore[arg-type]
    assert from_json(to_json(full)) == full
