"""Whether a run can learn a masking policy as it is set up; if not, what to change."""

from __future__ import annotations

from typing import Any

from maskwright.corruption import Mlm, RollingWindow, Weighted
from maskwright.errors import ConfigError
from maskwright.guidance.learned import FrozenPolicy
from maskwright.hf.collator import MaskingCollator


def check_learnable(args: Any, collator: Any, reader: FrozenPolicy) -> float:
    """To which power the run raises weights before it draws by them, if it can learn the policy.

    Raises:
        ConfigError: it cannot; the message says why, and what to change.
    """
    if not isinstance(collator, MaskingCollator) or collator.scores is not reader:
        raise ConfigError(
            "The masks of the run must be drawn by the policy that learns: "
            "MaskingTrainer(…, data_collator=MaskingCollator(tokenizer, masking, "
            "scores=reader)) with the reader of LearnedMasking."
        )
    masking = collator.masking
    power = _power_of(getattr(masking, "select", None))
    rolls = isinstance(masking.refresh, RollingWindow)
    if power is None or rolls or not isinstance(masking.emit, Mlm):
        raise ConfigError(
            "LearnedMasking knows how likely a mask is under select=Weighted() with no other "
            "setting than end and a temperature above 0, emit=Mlm() and no rolling window; got "
            f"{masking}. PolicySettings(bound=…) keeps every token in reach."
        )
    if args.n_gpu > 1:
        raise ConfigError(
            "LearnedMasking does not work under DataParallel (one process, several GPUs). Start "
            "one process a GPU, with torchrun, or set CUDA_VISIBLE_DEVICES."
        )
    if args.world_size > 1 and not args.dataloader_drop_last:
        raise ConfigError(
            "On several ranks the last batches are filled up with samples that were there before, "
            "which would count twice: set dataloader_drop_last=True."
        )
    known = reader.policy.settings.vocabulary
    if len(collator.vocabulary.maskable) > known:
        raise ConfigError(
            f"The policy knows {known} token ids, the tokenizer has "
            f"{len(collator.vocabulary.maskable)}."
        )
    return power


def _power_of(select: Any) -> float | None:
    """None: its masks have another likelihood."""
    if not isinstance(select, Weighted) or not select.temperature > 0:
        return None
    if select != Weighted(temperature=select.temperature, end=select.end):
        return None  # a part is drawn by chance, or never
    return (-1 if select.end == "low" else 1) / select.temperature
