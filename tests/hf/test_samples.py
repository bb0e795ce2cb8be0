"""Samples that know their id and clock, and the sampler that gives it to them."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from accelerate.data_loader import BatchSamplerShard
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import BatchSampler

from maskwright import Clock, Ragged, TokenBatch, order
from maskwright.errors import ConfigError, DataError
from maskwright.hf import ClockedIndex, ClockedSampler, Sample, with_sample_ids
from tests.hf import tiny

ROWS = tiny.samples(6)


def test_an_index_with_a_clock_is_an_index():
    index = ClockedIndex(3, Clock(1, 2, 4))
    assert index == 3
    assert isinstance(index, int)
    assert [10, 11, 12, 13][index] == 13
    for again in (pickle.loads(pickle.dumps(index)), copy.copy(index), copy.deepcopy(index)):
        assert again == 3
        assert again.clock == Clock(1, 2, 4)


@pytest.mark.parametrize("make", [list, Dataset.from_list], ids=["list", "datasets"])
def test_samples_get_their_index_for_an_id(make):
    data = with_sample_ids(make(ROWS))
    assert len(data) == 6
    assert with_sample_ids(data) is data
    clock = Clock(0, 1, 2)
    assert data[ClockedIndex(4, clock)] == Sample(ROWS[4], 4, clock)
    assert data[4] == Sample(ROWS[4], 4, None)
    batch = data.__getitems__([ClockedIndex(5, clock), ClockedIndex(0, clock)])
    assert batch == [Sample(ROWS[5], 5, clock), Sample(ROWS[0], 0, clock)]


def test_a_column_of_ids_wins():
    data = with_sample_ids([row | {"sample_id": 100 + i} for i, row in enumerate(ROWS)])
    assert data[2].sample_id == 102
    shuffled = Dataset.from_list([row | {"sample_id": i} for i, row in enumerate(ROWS)])
    shuffled = with_sample_ids(shuffled.shuffle(seed=1))
    assert all(shuffled[i].columns["input_ids"] == ROWS[shuffled[i].sample_id]["input_ids"]
               for i in range(6))  # fmt: skip


class Table:
    """A data set that hands out whole batches."""

    def __len__(self) -> int:
        return len(ROWS)

    def __getitem__(self, index: int):
        raise AssertionError("a batch is fetched at once")

    def batch(self, sample_ids: np.ndarray) -> TokenBatch:
        return TokenBatch(Ragged.from_lists([ROWS[i]["input_ids"] for i in sample_ids]), sample_ids)


def test_a_table_is_asked_once_a_batch():
    clock = Clock(0, 1, 2)
    fetched = with_sample_ids(Table()).__getitems__([ClockedIndex(i, clock) for i in (4, 1)])
    assert len(fetched) == 2
    assert fetched.clock == clock
    assert [sample.sample_id for sample in fetched] == [4, 1]
    assert fetched[0].columns["input_ids"].tolist() == ROWS[4]["input_ids"]
    assert len(fetched[:1]) == 1


def test_a_table_without_a_fetched_batch_gives_single_samples():
    sample = with_sample_ids(ROWS)[1]
    assert (sample.sample_id, sample.columns) == (1, ROWS[1])


def test_streams_and_other_samples_are_refused():
    with pytest.raises(DataError, match=r"generator is a stream.*with_indices=True"):
        with_sample_ids(row for row in ROWS)
    with pytest.raises(DataError, match="Sample 0 is a list"):
        with_sample_ids([[1, 2]])[0]


def test_steps_literally():
    sampler = ClockedSampler(10, 2, shuffle=False, accumulation=2)
    assert [int(index) for index in sampler] == list(range(10))
    assert [index.clock.step for index in sampler] == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]
    assert sampler.steps_per_epoch == 3
    sampler.set_epoch(2)
    assert [index.clock.step for index in sampler][:5] == [6, 6, 6, 6, 7]
    assert {index.clock.epoch for index in sampler} == {2}


@pytest.mark.parametrize(
    "size, batch, accumulation, processes, drop_last, steps",
    [
        (10, 2, 1, 1, False, 5),
        (11, 2, 1, 1, False, 6),
        (11, 2, 1, 1, True, 5),
        (11, 2, 4, 1, False, 2),
        (11, 2, 4, 1, True, 2),
        (24, 2, 2, 3, False, 2),
        (25, 2, 2, 3, False, 3),
        (25, 2, 2, 3, True, 2),
        (3, 8, 1, 1, False, 1),
        (3, 8, 1, 1, True, 1),
    ],
)
def test_steps_of_an_epoch(size, batch, accumulation, processes, drop_last, steps):
    sampler = ClockedSampler(
        size, batch, accumulation=accumulation, processes=processes, drop_last=drop_last
    )
    assert sampler.steps_per_epoch == steps


@given(st.integers(1, 200), st.booleans(), st.integers(0, 2**63), st.integers(0, 9))
def test_each_epoch_visits_each_sample_once(size, shuffle, seed, epoch):
    sampler = ClockedSampler(size, 3, seed=seed, shuffle=shuffle, total_steps=99)
    sampler.set_epoch(epoch)
    visited = list(sampler)
    assert len(visited) == len(sampler) == size
    want = list(order.visit(size, seed=seed, epoch=epoch)) if shuffle else list(range(size))
    assert [int(index) for index in visited] == want
    assert all(index.clock.total_steps == 99 for index in visited)


def test_the_order_is_that_of_any_batch_size_and_number_of_processes():
    orders = {
        tuple(map(int, ClockedSampler(50, batch, seed=4, processes=ranks, accumulation=steps)))[:50]
        for batch in (1, 3, 8)
        for ranks in (1, 2, 3, 4)
        for steps in (1, 4)
    }
    assert len(orders) == 1


@pytest.mark.parametrize("name", ["size", "batch_size", "accumulation", "processes"])
def test_counts_below_1(name):
    settings = {"size": 5, "batch_size": 2} | {name: 0}
    with pytest.raises(ConfigError, match=f"ClockedSampler.{name} must be at least 1, got 0"):
        ClockedSampler(**settings)


@pytest.mark.parametrize("drop_last", [True, False])
@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("ranks", [2, 3, 4])
@pytest.mark.parametrize("size", [1, 3, 5, 9, 12, 22, 24])
def test_ranks_agree_on_the_step_of_each_round(size, ranks, accumulation, drop_last):
    """Accelerate fills a last round up from the beginning: those samples have its clock too."""

    def shards(sampler):
        batches = BatchSampler(sampler, 2, drop_last)
        return [list(BatchSamplerShard(batches, ranks, rank)) for rank in range(ranks)]

    settings = {"accumulation": accumulation, "drop_last": drop_last}
    sampler = ClockedSampler(size, 2, seed=3, processes=ranks, **settings)
    ours = shards(sampler)
    rounds = list(zip(*ours, strict=True))
    for number, batches in enumerate(rounds):
        clocks = {index.clock.step for batch in batches for index in batch}
        assert clocks == {number // accumulation}
    if rounds:
        assert sampler.steps_per_epoch == 1 + (len(rounds) - 1) // accumulation
    # the samples are those that it would have chosen itself
    assert ours == shards(ClockedSampler(size, 2, seed=3, processes=1, **settings))
