"""What an interaction mask needs to know of a run, and does after each of its steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

if TYPE_CHECKING:
    from maskwright.hf.interaction.interaction_mask import InteractionMask


class InteractionCallback(TrainerCallback):
    """Tells an `InteractionMask` the step; moves the multiplier of its budget after each."""

    def __init__(self, mask: InteractionMask) -> None:
        self.mask = mask

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.mask.at(state.global_step, state.max_steps)

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.mask.at(state.global_step, state.max_steps)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.mask.follow()
