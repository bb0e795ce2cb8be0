"""Laws 2 and 3: the same masks for any loader, and a clock that reaches live workers."""

from __future__ import annotations

from functools import cache

import pytest
from torch.utils.data import DataLoader

from maskwright import recipe
from maskwright.hf import ClockedSampler, MaskingCollator, with_sample_ids
from tests.core import tokenizers
from tests.hf import tiny
from tests.hf.seen import expected, views

ROWS = tiny.samples(24)


def collator(policy: str = "roberta", **changes) -> MaskingCollator:
    masking = recipe(policy, rate=0.3, **changes)
    return MaskingCollator(tokenizers.words(), masking, seed=5, carry=True)


@cache
def wanted(epoch: int) -> dict[int, tuple]:
    """The masks of an epoch, one sample at a time, without any loader."""
    ours = collator()
    return {i: expected(ours, row["input_ids"], i, epoch) for i, row in enumerate(ROWS)}


def loader(*, workers=0, batch=3, shuffle=True, persistent=False, collate=None) -> DataLoader:
    sampler = ClockedSampler(len(ROWS), batch, seed=9, shuffle=shuffle, total_steps=100)
    return DataLoader(
        with_sample_ids(ROWS),
        batch_size=batch,
        sampler=sampler,
        num_workers=workers,
        persistent_workers=persistent,
        collate_fn=collate or collator(),
    )


def epoch_of(made: DataLoader, epoch: int) -> dict[int, tuple]:
    made.sampler.set_epoch(epoch)
    seen = {}
    for batch in made:
        assert (batch["clock"][:, 0] == epoch).all()
        seen |= dict(zip(batch["sample_ids"].tolist(), views(batch), strict=True))
    return seen


@pytest.mark.parametrize(
    "workers, persistent", [(0, False), (1, False), (1, True), (2, False), (2, True)]
)
def test_any_number_of_workers_for_two_epochs(workers, persistent):
    made = loader(workers=workers, persistent=persistent)
    assert epoch_of(made, 0) == wanted(0)
    assert epoch_of(made, 1) == wanted(1)
    assert wanted(0) != wanted(1)


@pytest.mark.parametrize("batch", [1, 3, 8])
@pytest.mark.parametrize("shuffle", [True, False])
def test_any_batch_size_and_order(batch, shuffle):
    assert epoch_of(loader(batch=batch, shuffle=shuffle), 1) == wanted(1)


@pytest.mark.parametrize("side", ["left", "right"])
def test_any_padding_side(side, monkeypatch):
    ours = collator()
    monkeypatch.setattr(ours.tokenizer, "padding_side", side)
    assert epoch_of(loader(collate=ours, workers=2), 0) == wanted(0)


def test_any_amount_of_padding():
    ours = MaskingCollator(
        tokenizers.words(), recipe("roberta", rate=0.3), seed=5, length=60, carry=True
    )
    assert epoch_of(loader(collate=ours), 0) == wanted(0)


def test_steps_reach_live_workers():
    """A policy that draws anew every 2 steps: the workers know the step of each batch."""
    ours = collator(refresh="every-2-steps")
    made = loader(workers=2, persistent=True, shuffle=False, collate=ours)
    made.sampler.set_epoch(1)
    steps = []
    for batch in made:
        step = int(batch["clock"][0, 1])
        steps.append(step)
        rows = batch["sample_ids"].tolist()
        draws = [expected_at(ours, i, step) for i in rows]
        assert views(batch) == draws
    assert steps == list(range(8, 16))


def expected_at(ours: MaskingCollator, sample_id: int, step: int):
    from maskwright import Clock
    from maskwright.hf import Sample

    sample = Sample(ROWS[sample_id], sample_id, Clock(0, 1, step))
    return views(ours([sample]))[0]


def test_the_comparison_can_fail():
    other = MaskingCollator(tokenizers.words(), recipe("roberta", rate=0.3), seed=6, carry=True)
    assert epoch_of(loader(collate=other), 0) != wanted(0)
