"""The moment that gates are drawn for, shared by all gates of a model."""

from __future__ import annotations

from maskwright.clock import Clock
from maskwright.errors import TrainingError


class Moment:
    """Where training is.

    Args:
        seed: of the draws.

    Attributes:
        clock: None outside of a run.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.clock: Clock | None = None

    @property
    def now(self) -> Clock:
        """The clock.

        Raises:
            TrainingError: nobody has set it.
        """
        if self.clock is None:
            raise TrainingError(
                "The gates of an InteractionMask are drawn for a step, and the step is not known. "
                "Give the trainer callbacks=[mask.callback]; in a training loop of your own, call "
                "mask.at(step, total_steps) before each step. To evaluate, call model.eval()."
            )
        return self.clock

    @property
    def step(self) -> int:
        """The optimizer step."""
        step = self.now.step
        assert step is not None
        return step
