"""LoggedLoss: a mean of losses goes on after a resume where a checkpoint fell into its middle."""

from __future__ import annotations

import weakref
from typing import Any

from transformers import TrainerCallback

from maskwright.hf.guided.ranks import world

_KEY = "maskwright.LoggedLoss"  # among the states of callbacks in trainer_state.json


class LoggedLoss(TrainerCallback):
    """Keeps the losses that were summed since the last log, which a `Trainer` forgets.

    Without it, the first loss that a resumed run logs is a mean over fewer steps than the
    uninterrupted run's. On several ranks each has a sum of its own, and they are not kept.
    """

    def __init__(self, trainer: Any) -> None:
        # weak, or the trainer would be in a cycle with its own callback
        self._trainer = weakref.ref(trainer)

    def keep(self, state: Any) -> None:
        """Note the sum in the trainer's state, before a checkpoint is written."""
        trainer = self._trainer()
        total = getattr(trainer, "_tr_loss", None)
        if total is not None and trainer is not None and world() == 1:
            since = trainer._globalstep_last_logged
            state.stateful_callbacks[_KEY] = {"sum": float(total), "since": since}

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        trainer, known = self._trainer(), state.stateful_callbacks.get(_KEY)
        total = getattr(trainer, "_tr_loss", None)
        if known is None or trainer is None or total is None or not state.global_step:
            return
        if world() == 1:
            total += known["sum"]
            trainer._globalstep_last_logged = known["since"]
            # the loss that training ends with is a mean over the steps of this call alone
            trainer._total_loss_scalar -= known["sum"]
