"""Callbacks that tell the epoch to those who draw by it."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

if TYPE_CHECKING:
    from maskwright.hf.collator import MaskingCollator
    from maskwright.hf.pairs.collator import PairCollator


class ClockCallback(TrainerCallback):
    """Tells a collator the epoch, in a plain `Trainer` whose batches carry no clock.

    >>> Trainer(..., data_collator=collator, callbacks=[ClockCallback(collator)])  # doctest: +SKIP
    """

    def __init__(self, collator: MaskingCollator | PairCollator) -> None:
        self.collator = collator

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.collator.set_clock(_epoch_of(state))

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.collator.set_clock(0)


class EpochOfSampler(TrainerCallback):
    """Sets the sampler's epoch itself, since what Accelerate wraps round it may not pass it on."""

    def __init__(self, trainer: Any) -> None:
        # Weak, or the trainer would be in a cycle with its own callback, and a loader that is
        # collected as part of a cycle waits five seconds for each of its persistent workers.
        self.trainer = weakref.ref(trainer)

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        trainer = self.trainer()
        if trainer is not None and trainer._sampler is not None:
            trainer._sampler.set_epoch(_epoch_of(state))


def _epoch_of(state: Any) -> int:
    # state.epoch is 2.37 in the third epoch, and 3.0 up to rounding at the start of the fourth
    return int((state.epoch or 0.0) + 1e-6)
