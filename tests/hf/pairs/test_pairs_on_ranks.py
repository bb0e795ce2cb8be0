"""What is added to a translation step, over two ranks: the steps of one.

Sums over ranks are made in another order than over a batch, so weights agree to 1e-5 under SGD.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from maskwright.corruption import decoder_masking
from maskwright.hf import (
    InteractionMask,
    MaskingTrainer,
    PairCollator,
    ScheduledSampling,
)
from maskwright.schedule import Linear
from tests.core import tokenizers
from tests.hf import tiny
from tests.hf.forked import on_ranks
from tests.hf.pairs import models

STEP = 6  # samples of a step over all ranks
ROWS = models.pairs(3 * STEP)
# gates on pairs know padding of sources only, so targets are of one length
EVEN = [{**row, "labels": row["labels"][-3:], "target_word_starts": [1, 0, 1]} for row in ROWS]
GATES = {"budget": Linear(0.8, 0.3), "learning_rate": 0.2, "start": 1.0}


def trained(folder: Path, what: str, world: int) -> dict[str, torch.Tensor]:
    model = models.model("marian")
    mask = None if what == "sampled" else InteractionMask(model, per=what, **GATES)  # type: ignore
    arguments = tiny.arguments(
        folder,
        max_steps=3,
        per_device_train_batch_size=STEP // world,
        optim="sgd",
        learning_rate=0.1,
        ddp_backend="gloo" if world > 1 else None,
    )
    collator = PairCollator(
        tokenizers.words(), model=model, target=decoder_masking("random", start_id=0), seed=2
    )
    trainer = MaskingTrainer(
        model,
        arguments,
        collator,
        EVEN if what == "pair" else ROWS,
        further=mask,
        scheduled_sampling=ScheduledSampling(0.5) if what == "sampled" else None,
    )
    trainer.train()
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("what", ["sampled", "head", "pair"])
def test_two_ranks_take_the_steps_of_one(what, tmp_path):
    (one,) = on_ranks(1, lambda _: numbers(trained(tmp_path / "one", what, 1)))
    two = on_ranks(2, lambda rank: numbers(trained(tmp_path / "two", what, 2)))
    start = numbers(models.model("marian").state_dict())
    assert any(one[name] != pytest.approx(start[name], abs=1e-3) for name in start)
    for found in two:
        assert found.keys() == one.keys()
        for name, value in one.items():
            assert found[name] == pytest.approx(value, rel=1e-4, abs=1e-5), name
    if what != "sampled":
        assert max(one["interaction_mask.multiplier"]) > 0


def numbers(state: dict[str, Any]) -> dict[str, list[float]]:
    """As a pipe takes them."""
    return {name: value.flatten().tolist() for name, value in state.items()}
