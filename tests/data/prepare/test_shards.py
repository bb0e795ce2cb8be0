"""Shards are cut by the lengths of samples alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from maskwright.data.prepare.shards import shard_ends, slices_of
from maskwright.data.prepare.tasks import Slice
from maskwright.ragged import offsets_of


def slow(lengths, target):
    ends, held = [], 0
    for number, length in enumerate(lengths):
        if held + length > target:
            ends.append(number)
            held = 0
        held += length
    return [*ends, len(lengths)] if lengths else []


@given(st.lists(st.lists(st.integers(1, 9), max_size=12), max_size=5), st.integers(9, 40))
def test_each_shard_takes_what_it_holds(chunks, target):
    lengths = [length for chunk in chunks for length in chunk]
    ends = shard_ends((offsets_of(chunk) for chunk in chunks if chunk), target)
    assert ends == slow(lengths, target)


@given(st.lists(st.lists(st.integers(1, 9), max_size=12), max_size=5), st.integers(9, 40))
def test_slices_are_the_samples_in_order(chunks, target):
    ends = shard_ends((offsets_of(chunk) for chunk in chunks if chunk), target)
    shards = slices_of(ends, [len(chunk) for chunk in chunks], [2 * len(c) for c in chunks])
    found = [
        (part.piece, sample, part.first_document)
        for parts in shards
        for part in parts
        for sample in range(part.start, part.stop)
    ]
    before = [2 * sum(map(len, chunks[:piece])) for piece in range(len(chunks))]
    assert found == [
        (piece, sample, before[piece])
        for piece, chunk in enumerate(chunks)
        for sample in range(len(chunk))
    ]
    assert [sum(p.stop - p.start for p in parts) for parts in shards] == [
        end - start for start, end in zip([0, *ends], ends, strict=False)
    ]


def test_a_literal_case():
    ends = shard_ends([offsets_of([4, 4, 4]), offsets_of([2, 9])], 10)
    assert ends == [2, 4, 5]
    assert slices_of(ends, [3, 0, 2], [1, 0, 1]) == [
        (Slice(0, 0, 2, 0),),
        (Slice(0, 2, 3, 0), Slice(2, 0, 1, 1)),
        (Slice(2, 1, 2, 1),),
    ]
