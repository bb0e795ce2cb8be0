"""One rank of a run, for `test_ranks.py`: trains and writes what it saw to a file.

``python -m tests.hf.rank OUT BATCH``; RANK, WORLD_SIZE and so on come from the environment.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from maskwright import recipe
from maskwright.hf import MaskingCollator
from maskwright.schedule import Linear
from tests.core import tokenizers
from tests.hf import tiny
from tests.hf.seen import RecordingTrainer

STEPS = 9
# 24 samples and 4 a step: six steps an epoch, so that the ninth step is in the second epoch
ROWS = tiny.samples(24)


def train(path: Path, batch: int) -> dict[str, Any]:
    """Per batch the sample ids, clock and views; per step the loss that is logged."""
    collator = MaskingCollator(tokenizers.words(), recipe("roberta", rate=Linear(0.5, 0.2)), seed=5)
    trainer = RecordingTrainer(
        tiny.model(),
        tiny.arguments(
            path,
            per_device_train_batch_size=batch,
            max_steps=STEPS,
            logging_strategy="steps",
            logging_steps=1,
            ddp_backend="gloo" if "RANK" in os.environ else None,
        ),
        collator,
        train_dataset=ROWS,
    )
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    weights = {name: w.sum().item() for name, w in trainer.model.named_parameters()}
    return {"batches": trainer.batches, "losses": losses, "weights": weights}


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        seen = train(Path(folder), int(sys.argv[2]))
    Path(sys.argv[1]).write_text(json.dumps(seen), encoding="utf-8")
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
