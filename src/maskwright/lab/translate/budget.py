"""How long a run goes on: steps, epochs, or minutes of its own training."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback

from maskwright.lab.stopwatch import Stopwatch
from maskwright.lab.translate.config import TranslationTraining


class Budget(TrainerCallback):
    """Says how much is spent, and ends the training when all is.

    Minutes are those of training alone: evaluations stop the watch. A run that is stopped and goes
    on has what is left. Such a run is not the same twice to the last bit, as one of steps is.

    Args:
        training: its ``minutes``, ``epochs`` or ``steps``.
        threads: that share the processor's seconds.
    """

    def __init__(self, training: TranslationTraining, threads: int) -> None:
        self.training = training
        self.threads = threads
        self.watch = Stopwatch()
        self.last_step: int | None = None  # of a budget of steps or epochs; the trainer knows it

    @property
    def seconds(self) -> float:
        """Spent, on the clock of the budget."""
        spent = self.watch.read()
        if self.training.clock == "processor":
            return spent["cpu_seconds"] / self.threads
        return spent["seconds"]

    def progress(self, step: int) -> float:
        """The share that is spent after ``step`` steps, from 0 to 1."""
        steps = 0.0 if self.last_step is None else step / self.last_step
        if self.training.minutes is None:
            return min(1.0, steps)
        # a machine that is so fast that its epochs end before the minutes is done then
        return min(1.0, max(steps, self.seconds / (60 * self.training.minutes)))

    def is_spent(self, step: int) -> bool:
        return self.progress(step) >= 1.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.last_step = state.max_steps

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.training.minutes is not None and self.is_spent(state.global_step):
            control.should_training_stop = True
