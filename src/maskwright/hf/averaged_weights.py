"""A `Trainer` for optimizers that average weights: what is looked at are the averages."""

from __future__ import annotations

from typing import Any

from transformers import Trainer


class AveragedWeights(Trainer):
    """What `MaskingTrainer` has of schedule-free optimizers."""

    def average_weights(self) -> None:
        """Put a schedule-free optimizer's averaged weights into the model, until it next trains.

        Saving, evaluation and the end of `train` do so; it is for those who look at the model
        between two steps. Other optimizers have none, and nothing happens.
        """
        average = getattr(self.optimizer, "eval", None)
        if callable(average):
            average()

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        self.average_weights()
        super().save_model(output_dir, _internal_call)

    def _load_best_model(self) -> None:
        # before, or the optimizer would move the weights that are loaded
        self.average_weights()
        super()._load_best_model()

    def train(self, *args: Any, **kwargs: Any) -> Any:
        result = super().train(*args, **kwargs)
        self.average_weights()
        return result
