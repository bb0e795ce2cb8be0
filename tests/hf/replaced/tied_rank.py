"""One rank of a run, for `test_tied.py`: ``python -m tests.hf.replaced.tied_rank OUT BATCH``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

from maskwright import Masking
from maskwright.hf import MaskingCollator, MaskingTrainer, TiedReplacedTokenDetection
from tests.core import tokenizers
from tests.hf import tiny


def train(out: Path, batch: int) -> dict[str, torch.Tensor]:
    """The weights after six steps of ``batch`` samples a rank."""
    model = TiedReplacedTokenDetection(tiny.model(), seed=1)
    trainer = MaskingTrainer(
        model,
        tiny.arguments(
            out,
            per_device_train_batch_size=batch,
            dataloader_drop_last=True,
            max_steps=6,
            ddp_find_unused_parameters=False,
            ddp_backend="gloo" if "RANK" in os.environ else None,
        ),
        MaskingCollator(tokenizers.words(), Masking(rate=0.3), seed=5),
        train_dataset=tiny.samples(24),
    )
    trainer.train()
    return model.state_dict()


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    weights = train(folder / "run", int(sys.argv[2]))
    torch.save(weights, folder / f"{os.environ['RANK']}.pt")
