"""What the masks of a step cost: its batch as a data loader makes it, masks drawn and all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from maskwright.clock import Clock
from maskwright.corruption.masking import Masking
from maskwright.hf import ClockedIndex, MaskingCollator, with_sample_ids


def collating(tokenizer: Any, masking: Masking, texts: Sequence[Tensor]) -> Callable[[], Any]:
    """A call collates the texts, from their ids in memory to a padded batch.

    Args:
        texts: the ids of each sample.
    """
    collator = MaskingCollator(tokenizer, masking)
    dataset = with_sample_ids([{"input_ids": text.numpy()} for text in texts])
    indices = [ClockedIndex(number, Clock()) for number in range(len(texts))]
    return lambda: collator(dataset.__getitems__(indices))
