"""SealedCheckpoints: a callback that lets any `Trainer` know its checkpoints from broken ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from maskwright.errors import ConfigError
from maskwright.hf.guided.ranks import barrier
from maskwright.hf.recovery.checkpoints import prune_checkpoints
from maskwright.hf.recovery.seal import seal


class SealedCheckpoints(TrainerCallback):
    """Seals each checkpoint after it was saved, and prunes only then. `MaskingTrainer` needs none.

        trainer = Trainer(…, callbacks=[…, SealedCheckpoints(keep=2)])
        trainer.train(resume_from_checkpoint=latest_checkpoint(folder))

    Give it last: what later callbacks add to a checkpoint is not under its seal.

    Args:
        keep: how many checkpoints; None: all. It stands in for ``save_total_limit``, by which a
            `Trainer` deletes the last checkpoint before the next has all its files.

    Raises:
        ConfigError: ``keep`` is below 1; when training begins: ``save_total_limit`` is set.
    """

    def __init__(self, keep: int | None = None) -> None:
        if keep is not None and keep < 1:
            raise ConfigError(f"SealedCheckpoints: keep must be at least 1, got {keep!r}.")
        self.keep = keep

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if args.save_total_limit is not None:
            raise ConfigError(
                f"save_total_limit={args.save_total_limit} deletes a checkpoint before the next is "
                "sealed. Leave it out, and say SealedCheckpoints(keep=…)."
            )

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        barrier()  # each rank has files of its own in it
        if args.should_save:
            checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            seal(checkpoint)
            prune_checkpoints(args.output_dir, self.keep, (checkpoint, state.best_model_checkpoint))
