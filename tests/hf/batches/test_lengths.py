"""Lengths of samples: asked for, or read from the data set."""

from __future__ import annotations

import numpy as np
import pytest
from datasets import Dataset

from maskwright.errors import DataError
from maskwright.hf import with_sample_ids
from maskwright.hf.batches import lengths as module
from maskwright.hf.batches.lengths import checked_lengths, lengths_of, take_lengths

ROWS = [{"input_ids": [5] * n} for n in (3, 0, 7, 1)]
PADDED = [{"input_ids": [5, 6, 0], "attention_mask": mask} for mask in ([1, 1, 0], [0, 0, 0])]


@pytest.mark.parametrize("make", [list, Dataset.from_list], ids=["list", "datasets"])
@pytest.mark.parametrize("identified", [False, True])
def test_they_are_read(make, identified, monkeypatch):
    monkeypatch.setattr(module, "_RUN", 3)
    for rows, want in [(ROWS, [3, 0, 7, 1]), (PADDED, [2, 0])]:
        data = make(rows)
        assert lengths_of(with_sample_ids(data) if identified else data).tolist() == want


def test_rows_that_were_chosen_from_a_data_set():
    data = Dataset.from_list(ROWS).select([2, 0])
    assert lengths_of(data).tolist() == [7, 3]


def test_a_table_is_asked():
    class Table:
        lengths = np.array([4, 9])

        def __len__(self):
            return 2

        def __getitem__(self, index):
            raise AssertionError("nothing needs to be read")

    assert lengths_of(with_sample_ids(Table())).tolist() == [4, 9]


def test_a_bar_is_drawn_where_it_is_asked_for(capsys):
    lengths_of(ROWS)
    assert capsys.readouterr().err == ""
    lengths_of(ROWS, progress=True)
    assert "Lengths: 100%" in capsys.readouterr().err


@pytest.mark.parametrize("name, column", [("length", "length"), ("n", "n"), ("lengths", "length")])
def test_a_column_of_lengths_is_taken_out(name, column):
    data = Dataset.from_list([row | {name: len(row["input_ids"])} for row in ROWS])
    left, lengths = take_lengths(data, column)
    assert lengths.tolist() == [3, 0, 7, 1]
    assert left.column_names == ["input_ids"]


def test_without_such_a_column_nothing_is_taken():
    for data in (Dataset.from_list(ROWS), ROWS, None):
        assert take_lengths(data) == (data, None)


def test_what_has_no_lengths():
    with pytest.raises(DataError, match="Sample 1 is no mapping"):
        lengths_of([ROWS[0], [1, 2]])
    with pytest.raises(DataError, match=r"no input_ids, only \['text'\]"):
        lengths_of(Dataset.from_list([{"text": "a"}]))
    with pytest.raises(DataError, match=r"2 samples .* got int64 of shape \(3,\)"):
        checked_lengths([1, 2, 3], 2)
    with pytest.raises(DataError, match="got float64"):
        checked_lengths([1.0, 2.0], 2)
