"""One rank of `benchmarks/ranks.py`: trains, and writes the tokens and seconds of its steps.

``python -m torch.distributed.run … -m benchmarks._rank OUT STEPS``
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import TrainerCallback, TrainingArguments, set_seed

from maskwright import Masking
from maskwright.hf import MaskAware, MaskingCollator, MaskingTrainer
from maskwright.lab.bench import shapes
from maskwright.lab.bench.words import word_tokenizer

SAMPLES, LENGTH = 32, 128  # of a step, over all ranks
WARM = 2  # steps that are not counted


class Times(TrainerCallback):
    """When each step ended."""

    def __init__(self) -> None:
        self.ended: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.ended.append(time.perf_counter())


def main(out: Path, steps: int) -> None:
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    world = int(os.environ["WORLD_SIZE"])
    set_seed(0)
    ids = torch.randint(5, shapes.VOCABULARY, (SAMPLES * (steps + WARM), LENGTH))
    times = Times()
    with tempfile.TemporaryDirectory() as folder:
        trainer = MaskingTrainer(
            shapes.bert(),
            TrainingArguments(
                folder, use_cpu=True, report_to=[], disable_tqdm=True, save_strategy="no",
                logging_strategy="no", per_device_train_batch_size=SAMPLES // world,
                max_steps=steps + WARM, ddp_backend="gloo", ddp_find_unused_parameters=False,
            ),
            MaskingCollator(word_tokenizer(shapes.VOCABULARY), Masking(rate=0.15)),
            train_dataset=[{"input_ids": row} for row in ids],
            mask_aware=MaskAware(dtype=None),
            callbacks=[times],
        )  # fmt: skip
        loss = torch.tensor(trainer.train().training_loss)  # this rank's part, times the ranks
    torch.distributed.all_reduce(loss)
    found = {
        "tokens": steps * SAMPLES * LENGTH,
        "seconds": times.ended[-1] - times.ended[WARM - 1],
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
        "loss": loss.item() / world,
    }
    if os.environ["RANK"] == "0":
        out.write_text(json.dumps(found), encoding="utf-8")
    # The group is left to the end of the process: taken down while a thread of gloo still holds a
    # tensor of the last sum, torch 2.13 waits for that thread, and it for the interpreter's lock.


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
