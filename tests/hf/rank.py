"""One rank of a run, for `test_ranks*.py`: trains and writes what it saw to a file.

``python -m tests.hf.rank OUT BATCH FOLDER POLICY [CHECKPOINT]``; RANK, WORLD_SIZE and so on come
from the environment. Checkpoints are saved below FOLDER, which all ranks of a run share.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch

from maskwright import recipe
from maskwright.hf import MaskAware, MaskingCollator
from maskwright.schedule import Linear
from tests.core import tokenizers
from tests.hf import tiny
from tests.hf.seen import RecordingTrainer

STEPS = 9
SAVED = 5  # after this step a checkpoint is saved, in the midst of the second epoch
STEP = 12  # samples of a step over all ranks, so that 1, 2, 3 and 4 of them can share it
# four steps an epoch, so that the ninth is in the third epoch; two samples are left out of each
ROWS = tiny.samples(50)
# one whose rate the clock sets, and one whose losses are weighed and divided otherwise
POLICIES = {"decay": recipe("roberta", rate=Linear(0.5, 0.2)), "mdlm": recipe("mdlm")}
POLICIES["followed"] = POLICIES["decay"]  # by the learning rate
POLICIES["tokens"] = POLICIES["decay"]  # batches by their number of tokens, two a step
# ways of computing the same: only what the masks leave, and that in several batches a step
POLICIES |= dict.fromkeys(("aware", "accumulated"), POLICIES["decay"])
EXACT = MaskAware(unpad=True, dtype=None)


def train(
    folder: Path, batch: int, policy: str = "decay", checkpoint: str | None = None
) -> dict[str, Any]:
    """Per batch the sample ids, clock and views; per step the loss that is logged."""
    collator = MaskingCollator(tokenizers.words(), POLICIES[policy], seed=5)
    tokens = policy == "tokens"
    accumulation = 2 if policy == "accumulated" else 2 * batch // STEP if tokens else 1
    aware = policy in ("aware", "accumulated")
    several = "RANK" in os.environ
    trainer = RecordingTrainer(
        tiny.model(),
        tiny.arguments(
            folder,
            per_device_train_batch_size=batch // accumulation,
            gradient_accumulation_steps=accumulation,
            dataloader_drop_last=not tokens,
            max_steps=STEPS,
            logging_strategy="steps",
            logging_steps=1,
            save_strategy="steps",
            save_steps=SAVED,
            ddp_backend="gloo" if several else None,
        ),
        collator,
        train_dataset=ROWS,
        mask_aware=EXACT if aware else False,
        lr="per-predicted-token" if policy == "followed" else None,
        tokens_per_batch=120 if tokens else None,
    )
    trainer.train(resume_from_checkpoint=checkpoint)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    weights = {name: w.sum().item() for name, w in trainer.model.named_parameters()}
    rates = [e["learning_rate"] for e in trainer.state.log_history if "loss" in e]
    return {"batches": trainer.batches, "losses": losses, "weights": weights, "rates": rates}


if __name__ == "__main__":
    torch.set_num_threads(1)
    out, batch, folder, policy, *checkpoint = sys.argv[1:]
    seen = train(Path(folder), int(batch), policy, *checkpoint)
    # started by torchrun, all ranks have the same arguments
    out = out.replace("RANK", os.environ.get("RANK", "0"))
    Path(out).write_text(json.dumps(seen), encoding="utf-8")
    # the group ends with the process: taken down by hand it may wait for ever (torch 2.13, gloo)
