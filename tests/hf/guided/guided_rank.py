"""One rank of a guided run, for `test_guided_ranks.py`: writes what it saw to a file.

``python -m tests.hf.guided.guided_rank OUT BATCH FOLDER SHARED [CHECKPOINT]``. With SHARED the
ranks have one store, which the first writes; otherwise each its own.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from maskwright import recipe
from maskwright.guidance import ScoreStore
from maskwright.hf import Guidance, MaskingCollator
from tests.core import tokenizers
from tests.hf import tiny
from tests.hf.seen import RecordingTrainer

STEPS = 10
SAVED = 6  # in the midst of the second epoch
STEP = 12  # samples of a step over all ranks
ROWS = tiny.samples(50)  # four steps an epoch; two samples are left out of each


def open_store(folder: Path, shared: bool) -> ScoreStore:
    """This rank's store, or the one that all ranks have."""
    rank = int(os.environ.get("RANK", "0"))
    path = folder / ("store" if shared else f"store-{rank}")
    folder.mkdir(parents=True, exist_ok=True)
    if rank == 0 or not shared:
        if path.exists():
            return ScoreStore.open(path)
        return ScoreStore.create(path, np.array([len(row["input_ids"]) for row in ROWS]))
    while not path.exists():  # the first rank makes it, under another name until it is whole
        time.sleep(0.05)
    return ScoreStore.open(path, write=False)


def train(
    folder: Path, batch: int, shared: bool = False, checkpoint: str | None = None
) -> dict[str, Any]:
    """Per batch the sample ids, clock, views and loss; and the scores at the end."""
    store = open_store(folder, shared)
    masking = recipe("attention-guided")
    trainer = RecordingTrainer(
        tiny.model(),
        tiny.arguments(
            folder / "run",
            per_device_train_batch_size=batch,
            dataloader_drop_last=True,
            max_steps=STEPS,
            save_strategy="steps",
            save_steps=SAVED,
            ddp_backend="gloo" if "RANK" in os.environ else None,
        ),
        MaskingCollator(tokenizers.words(), masking, seed=5, scores=store),
        train_dataset=ROWS,
        callbacks=[Guidance(store)],
    )
    trainer.train(resume_from_checkpoint=checkpoint)
    scores = store.read(np.arange(len(store))).values
    return {"batches": trainer.batches, "scores": [None if s != s else float(s) for s in scores]}


if __name__ == "__main__":
    torch.set_num_threads(1)
    out, batch, folder, shared, *checkpoint = sys.argv[1:]
    seen = train(Path(folder), int(batch), bool(int(shared)), *checkpoint)
    Path(out).write_text(json.dumps(seen), encoding="utf-8")
    # the group ends with the process: taken down by hand it may wait for ever (torch 2.13, gloo)
