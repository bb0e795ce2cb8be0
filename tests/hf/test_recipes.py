"""Recipes through the collator: the same tensors for any loader, any rank, and after a resume."""

from __future__ import annotations

import socket
from functools import cache
from itertools import islice
from typing import Any

import pytest
import torch
import torch.distributed
import torch.multiprocessing
from torch.utils.data import DataLoader

from maskwright import recipe
from maskwright.hf import ClockedSampler, MaskingCollator, with_sample_ids
from tests.corruption import recipes

# Long enough for several spans: T5 leaves one span no choice but the end of the sample.
ROWS = [
    {"input_ids": [2, *(10 + (37 * i + 11 * number) % 90 for i in range(40 + 3 * number % 35)), 3]}
    for number in range(24)
]
NAMES = ("t5", "bart", "spanbert", "ul2", "mdlm")
every = pytest.mark.parametrize("name", NAMES)


def collator(name: str, seed: int = 5) -> MaskingCollator:
    tokenizer = recipes.tokenizer()
    return MaskingCollator(tokenizer, recipe(name, tokenizer), seed=seed, carry=True)


def sampler(batch: int, *, processes: int = 1, epoch: int = 0) -> ClockedSampler:
    made = ClockedSampler(len(ROWS), batch, seed=9, processes=processes, total_steps=100)
    made.set_epoch(epoch)
    return made


def batches_of(made: ClockedSampler) -> list[list[int]]:
    """The indices of each batch, with their clocks."""
    indices = iter(made)
    return list(iter(lambda: list(islice(indices, made.batch_size)), []))


def loader(name: str, batches: list[list[int]], *, workers: int = 0, seed: int = 5) -> DataLoader:
    return DataLoader(
        with_sample_ids(ROWS),
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=collator(name, seed),
    )


def views(batch: Any) -> dict[int, dict[str, list]]:
    """Each sample's tensors without padding, by its id."""
    names = [name for name in batch if name not in ("sample_ids", "clock", "attention_mask")]
    aligned = batch["labels"].shape == batch["input_ids"].shape
    out = {}
    for row, sample in enumerate(batch["sample_ids"].tolist()):
        real = batch["attention_mask"][row].bool()
        out[sample] = {"input_ids": batch["input_ids"][row][real].tolist()}
        for name in names[1:]:
            values = batch[name][row]
            # labels that stand apart from the inputs have no mask, and no -100 inside
            apart = name == "labels" and (not aligned or int((values != -100).sum()) > real.sum())
            out[sample][name] = values[values != -100 if apart else real].tolist()
        out[sample]["labels"] = [i for i in batch["labels"][row].tolist() if i != -100]
    return out


def epoch_of(made: DataLoader) -> dict[int, dict[str, list]]:
    seen: dict[int, dict[str, list]] = {}
    for batch in made:
        own = views(batch)
        assert not own.keys() & seen.keys()
        seen |= own
    return seen


@cache
def wanted(name: str, epoch: int) -> dict[int, dict[str, list]]:
    """One sample at a time, in this process."""
    return epoch_of(loader(name, batches_of(sampler(1, epoch=epoch))))


@every
@pytest.mark.parametrize("workers", [0, 2, pytest.param(4, marks=pytest.mark.slow)])
def test_any_number_of_workers(name, workers):
    for epoch in (0, 1):
        seen = epoch_of(loader(name, batches_of(sampler(5, epoch=epoch)), workers=workers))
        assert seen == wanted(name, epoch)
        assert len(seen) == len(ROWS)
    assert wanted(name, 0) != wanted(name, 1)


@every
def test_the_comparison_can_fail(name):
    assert epoch_of(loader(name, batches_of(sampler(5)), seed=6)) != wanted(name, 0)


@every
@pytest.mark.parametrize("workers", [0, 2])
def test_a_resume_in_mid_epoch_goes_on_with_the_same_batches(name, workers):
    """To the last tensor, padding and all: only the indices of what is left are needed."""
    batches = batches_of(sampler(5, epoch=1))
    whole = list(loader(name, batches))
    rest = list(loader(name, batches_of(sampler(5, epoch=1))[2:], workers=workers))
    assert len(rest) == len(whole) - 2 == 3
    for before, after in zip(whole[2:], rest, strict=True):
        assert set(before) == set(after)
        for key in before:
            assert torch.equal(before[key], after[key]), key


# ---------------------------------------------------------------------------------- ranks


def collate_share(rank: int, name: str, port: int, path: str) -> None:
    """One of two processes: collates every second batch, and gathers what both saw."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2
    )
    try:
        share = batches_of(sampler(3, processes=2))[rank::2]
        own = [(batch["clock"][0].tolist(), views(batch)) for batch in loader(name, share)]
        both: list[Any] = [None, None]
        torch.distributed.all_gather_object(both, own)
        if rank == 0:
            torch.save(both, path)
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_see_together_what_one_sees(tmp_path):
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    path = tmp_path / "seen"
    torch.multiprocessing.spawn(collate_share, ("t5", port, str(path)), nprocs=2)
    first, second = torch.load(path, weights_only=False)
    alone = [
        (batch["clock"][0].tolist(), views(batch)) for batch in loader("t5", batches_of(sampler(6)))
    ]
    assert len(first) == len(second) == len(alone) == 4
    for mine, other, both in zip(first, second, alone, strict=True):
        assert mine[0] == other[0] == both[0]
        assert mine[1] | other[1] == both[1]
        assert not mine[1].keys() & other[1].keys()
