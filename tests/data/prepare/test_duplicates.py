"""Duplicates are found in bounded memory as a set would find them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskwright.data.prepare.duplicates import digest, digest_run, dropped_documents
from maskwright.data.prepare.runs import merged, save_run
from maskwright.data.splits import normalised

TEXTS = st.lists(st.lists(st.text("ab \n", max_size=4), max_size=8), max_size=5)


def dropped(folder, pieces, **options):
    paths = []
    for number, texts in enumerate(pieces):
        paths.append(folder / f"{number}.npy")
        save_run(paths[-1], digest_run(b"".join(map(digest, texts)), number))
    starts = np.cumsum([0, *map(len, pieces)])[:-1]
    found, empty = dropped_documents(paths, starts, **options)
    return found.tolist(), empty


def slow(pieces):
    seen, out, empty = set(), [], 0
    for number, text in enumerate(text for texts in pieces for text in texts):
        if not normalised(text):
            empty += 1
        if not normalised(text) or normalised(text) in seen:
            out.append(number)
        seen.add(normalised(text))
    return out, empty


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@given(TEXTS, st.sampled_from([16, 100, 10**6]))
def test_the_first_one_stays(folder, pieces, limit):
    assert dropped(folder, pieces, limit=limit) == slow(pieces)


def test_a_literal_case(tmp_path):
    pieces = [["a b", "", "c"], ["a\n b", "A B"], [" \t", "c", "d"]]
    assert dropped(tmp_path, pieces) == ([1, 3, 5, 6], 2)
    assert dropped(tmp_path, pieces, deduplicate=False) == ([1, 5], 2)


@given(st.lists(st.lists(st.integers(0, 2**64 - 1)), max_size=4), st.sampled_from([8, 64, 10**6]))
def test_merging_keeps_all_and_parts_no_key(folder, lists, limit):
    paths = []
    for number, keys in enumerate(lists):
        paths.append(folder / f"m{number}.npy")
        save_run(paths[-1], np.array([sorted(keys)], np.uint64).reshape(1, -1))
    parts = [part[0].tolist() for part in merged(paths, limit)]
    together = sorted(key for keys in lists for key in keys)
    assert sorted(key for part in parts for key in part) == together
    assert [key for part in parts for key in sorted(part)] == together  # the ranges rise
    assert len({key for part in parts for key in set(part)}) == sum(map(len, map(set, parts)))
