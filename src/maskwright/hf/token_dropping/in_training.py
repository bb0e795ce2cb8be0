"""Token dropping in a run of `MaskingTrainer`: what it is told, and what is kept of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from maskwright.errors import ConfigError
from maskwright.hf.compute.mask_aware import MaskAware
from maskwright.hf.token_dropping.dropping import TokenDropping


def joined(
    dropping: TokenDropping,
    model: Any,
    collator: Any,
    others: dict[str, Any],
    mask_aware: bool | MaskAware,
) -> tuple[dict[str, Any], bool | MaskAware]:
    """What a trainer is made with, when it drops tokens.

    The first callback keeps the running losses; special tokens are those of the collator; and
    mask-aware steps leave padding to token dropping, which takes it out.

    Args:
        others: of the trainer's arguments, with ``callbacks``.

    Raises:
        ConfigError: it is of another model, or the collator does not know special tokens.
    """
    if dropping.model is not model:
        raise ConfigError(
            f"token_dropping is of another model ({type(dropping.model).__name__}) than the one "
            f"that is trained ({type(model).__name__}). Give both the same: TokenDropping(model)."
        )
    if dropping.special_ids is None:
        vocabulary = getattr(collator, "vocabulary", None)
        if vocabulary is None:
            raise ConfigError(
                f"{type(collator).__name__} does not say which tokens are special: TokenDropping("
                "…, special_ids=tokenizer.all_special_ids)."
            )
        dropping.special_ids = vocabulary.special_ids
    callbacks = [KeepRunningLoss(dropping), *(others.get("callbacks") or [])]
    if mask_aware:
        parts = MaskAware() if mask_aware is True else mask_aware
        rest = parts.head or parts.dtype
        mask_aware = replace(parts, unpad=False) if rest else False
    return {**others, "callbacks": callbacks}, mask_aware


class KeepRunningLoss(TrainerCallback):
    """Settles the running losses at the end of a step, and puts them into checkpoints.

    It comes before callbacks that mark a checkpoint as whole.
    """

    def __init__(self, dropping: TokenDropping) -> None:
        self.dropping = dropping

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.dropping.settle()

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.dropping.running is not None and args.should_save:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            self.dropping.running.save(folder)
