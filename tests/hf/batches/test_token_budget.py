"""Batches by their number of tokens: what they hold, and the same for any number of ranks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from accelerate.data_loader import BatchSamplerShard
from hypothesis import given
from hypothesis import strategies as st

from maskwright import order
from maskwright.data.speeches import load_speeches
from maskwright.errors import ConfigError
from maskwright.hf import TokenBudgetSampler

some_lengths = st.lists(st.integers(1, 30), min_size=1, max_size=150).map(np.array)


def numbers(batches) -> list[list[int]]:
    return [[int(index) for index in batch] for batch in batches]


def flat(batches) -> list[int]:
    return [sample for batch in numbers(batches) for sample in batch]


def test_literally():
    lengths = np.array([3, 5, 2, 4, 1, 6])
    sampler = TokenBudgetSampler(lengths, 6, shuffle=False, accumulation=2, total_steps=9)
    assert numbers(sampler) == [[0, 2, 4], [5], [1], [3]]
    assert len(sampler) == sampler.batches_in(0) == 4
    assert [[index.clock.step for index in batch] for batch in sampler] == [
        [0, 0, 0],
        [0],
        [1],
        [1],
    ]
    assert sampler.fill() == 21 / 24
    sampler.set_epoch(2)
    clocks = {index.clock for batch in sampler for index in batch}
    assert {(c.epoch, c.step, c.total_steps) for c in clocks} == {(2, 4, 9), (2, 5, 9)}


@given(some_lengths, st.integers(30, 90), st.integers(1, 5), st.integers(0, 2**63), st.booleans())
def test_every_sample_once_an_epoch_and_no_batch_over_its_budget(
    lengths, budget, open_batches, seed, shuffle
):
    sampler = TokenBudgetSampler(
        lengths, budget, seed=seed, shuffle=shuffle, accumulation=2, open_batches=open_batches
    )
    step = 0
    for epoch in range(3):
        sampler.set_epoch(epoch)
        batches = list(sampler)
        assert sorted(flat(batches)) == list(range(len(lengths)))
        assert len(batches) == len(sampler) == sampler.batches_in(epoch)
        assert all(0 < sum(lengths[i] for i in batch) <= budget for batch in numbers(batches))
        steps = [{index.clock.step for index in batch} for batch in batches]
        assert steps == [{step + number // 2} for number in range(len(batches))]
        assert sampler.steps_before(epoch) == step
        step += sampler.steps_in(epoch)
        assert steps[-1] == {step - 1}


@given(some_lengths, st.integers(0, 40))
def test_the_place_of_a_step(lengths, step):
    sampler = TokenBudgetSampler(lengths, 40, accumulation=3)
    epoch, within = sampler.place_of(step)
    assert sampler.steps_before(epoch) + within == step
    assert 0 <= within < sampler.steps_in(epoch)


def test_epochs_have_orders_of_their_own_and_the_seed_decides():
    lengths = np.random.default_rng(0).integers(5, 30, 400)

    def epoch(number: int, seed: int) -> list[list[int]]:
        sampler = TokenBudgetSampler(lengths, 100, seed=seed)
        sampler.set_epoch(number)
        return numbers(sampler)

    assert epoch(1, 3) == epoch(1, 3)
    assert len({str(epoch(*which)) for which in [(0, 3), (1, 3), (0, 4)]}) == 3
    # samples come as they do in any order of ours: at first, those that come first
    first = {sample for batch in epoch(0, 3)[:4] for sample in batch}
    assert first <= set(itertools.islice(order.visit(400, seed=3, epoch=0), 400 // 2))


def of_ranks(sampler: TokenBudgetSampler) -> list[list[list]]:
    """The batches of each rank, as Accelerate deals them."""
    ranks = range(sampler.processes)
    return [list(BatchSamplerShard(sampler, sampler.processes, rank)) for rank in ranks]


def steps_of(ranks: list[list[list]], accumulation: int) -> list[list[int]]:
    """The samples of each step of all ranks together, sorted."""
    steps = -(-len(ranks[0]) // accumulation)
    return [
        sorted(
            int(index)
            for batches in ranks
            for batch in batches[step * accumulation : (step + 1) * accumulation]
            for index in batch
        )
        for step in range(steps)
    ]


@given(some_lengths, st.integers(30, 70), st.integers(0, 3), st.booleans())
def test_steps_have_the_same_samples_for_any_number_of_ranks(lengths, budget, epoch, drop_last):
    together = {}
    for processes, accumulation in [(1, 4), (2, 2), (4, 1)]:
        sampler = TokenBudgetSampler(
            lengths, budget, processes=processes, accumulation=accumulation, drop_last=drop_last
        )
        if drop_last and sampler._packed(epoch) < 4:
            with pytest.raises(ConfigError, match="dropping the last step drops all"):
                sampler.batches_in(epoch)
            continue
        sampler.set_epoch(epoch)
        ranks = of_ranks(sampler)
        assert {len(batches) for batches in ranks} == {len(sampler) // processes}
        assert sampler.steps_in(epoch) == -(-len(ranks[0]) // accumulation)
        for batches in zip(*ranks, strict=True):
            assert len({index.clock for batch in batches for index in batch}) == 1
        for batch in itertools.chain.from_iterable(ranks):
            assert 0 < sum(lengths[int(index)] for index in batch) <= budget
        together[processes] = steps_of(ranks, accumulation)
    for processes, steps in together.items():
        assert steps[:-1] == together[1][:-1]
        if len(together[1][-1]) >= processes:
            assert steps[-1] == together[1][-1]
        else:  # the one case where samples come again
            assert len(steps[-1]) == processes
            assert set(together[1][-1]) <= set(steps[-1])


def test_what_is_left_is_shared():
    lengths = np.full(11, 10)

    def last(processes: int, **settings) -> list[list[int]]:
        sampler = TokenBudgetSampler(
            lengths, 30, shuffle=False, processes=processes, accumulation=4 // processes, **settings
        )
        return numbers(sampler)

    full = [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert last(1) == [*full, [9, 10]]
    lengths = np.full(16, 10)
    assert last(1)[4:] == last(2)[4:] == [[12, 13, 14], [15]]
    assert last(4)[4:] == [[12], [13], [14], [15]]
    lengths = np.full(14, 10)
    assert last(1)[4:] == [[12, 13]]
    assert last(2)[4:] == [[12], [13]]
    assert last(4)[4:] == [[12], [13], [0], [1]]  # fewer samples than ranks
    assert last(4, drop_last=True) == last(1, drop_last=True) == [*full, [9, 10, 11]]


def test_the_last_step_of_a_tiny_data_set():
    sampler = TokenBudgetSampler(np.array([5]), 30, shuffle=False, processes=3)
    assert numbers(sampler) == [[0], [0], [0]]
    assert len(sampler) == 3


def test_epochs_may_differ_in_their_number_of_batches():
    lengths = np.random.default_rng(1).integers(3, 30, 300)
    sampler = TokenBudgetSampler(lengths, 40, open_batches=2)
    assert len({sampler.batches_in(epoch) for epoch in range(6)}) > 1


@pytest.mark.parametrize("budget", [1024, 8192])
def test_batches_of_the_speeches_are_full(budget):
    words = [len(speech.text.split()) for speech in load_speeches()]
    parts = [[128] * (n // 126) + ([n % 126 + 2] if n % 126 else []) for n in words]
    lengths = np.array([length for speech in parts for length in speech])
    assert len(lengths) > 10_000
    assert TokenBudgetSampler(lengths, budget).fill() >= 0.97
    # samples that are not cut to one length
    uneven = np.maximum(lengths - np.arange(len(lengths)) % 90, 5)
    assert TokenBudgetSampler(uneven, budget).fill() >= 0.97


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"tokens_per_batch": 0}, "tokens_per_batch must be at least 1, got 0"),
        ({"processes": 0}, "processes must be at least 1"),
        ({"accumulation": 0}, "accumulation must be at least 1"),
        ({"open_batches": 0}, "open_batches must be at least 1"),
        ({"lengths": np.array([])}, r"one integer for each sample, at least one, got float64 of"),
        ({"lengths": np.array([[1]])}, r"of shape \(1, 1\)"),
        ({"lengths": np.array([1, -2])}, "Sample 1 has the length -2"),
        (
            {"lengths": np.array([1, 9, 12])},
            r"Sample 2 has 12 tokens, more than tokens_per_batch=8; 2 of 3 samples.*truncate",
        ),
    ],
)
def test_settings_that_cannot_be(changes, message):
    with pytest.raises(ConfigError, match=message):
        TokenBudgetSampler(**{"lengths": np.array([1, 2]), "tokens_per_batch": 8, **changes})
