"""What a plan becomes: the tensors that a model trains on."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from maskwright.corruption.plan import MaskPlan
from maskwright.errors import BatchError
from maskwright.ragged import Side

# The label that torch's cross-entropy leaves out.
IGNORE = -100


@dataclass(frozen=True, eq=False)
class MaskedBatch:
    """A padded batch for a masked language model; all tensors are ``(B, S)`` int64.

    Args:
        input_ids: the corrupted tokens.
        attention_mask: 1 at tokens, 0 at padding.
        labels: the id to predict at selected positions, -100 elsewhere.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    labels: torch.Tensor


def mlm(plan: MaskPlan, *, side: Side = "right", length: int | None = None) -> MaskedBatch:
    """The plan as a batch of a masked language model.

    Args:
        plan: of ``B`` samples.
        side: where to pad.
        length: ``S``; the longest sample unless given.

    Raises:
        BatchError: a sample is longer than ``length``.
        VocabularyError: samples differ in length and there is no padding id.
    """
    from maskwright.corruption import kernels

    tokens = plan.batch.tokens
    lengths = tokens.lengths
    longest = int(lengths.max(initial=0))
    length = longest if length is None else length
    if longest > length:
        row = int(lengths.argmax())
        raise BatchError(
            f"Sample {plan.batch.sample_ids[row]} has {longest} tokens, more than the length "
            f"{length} to pad to. Cut samples when they are tokenised (max_length={length}): "
            "nothing is truncated in silence."
        )
    ragged = longest < length or int(lengths.min(initial=longest)) < length
    fill = plan.masking.bound.require_pad() if ragged else 0
    shape = (len(tokens), length)
    input_ids, attended, labels = (torch.empty(shape, dtype=torch.int64) for _ in range(3))
    targets = plan.batch.labels or tokens
    left = side == "left"
    kernels.pad(
        tokens.values, tokens.offsets, left, fill, IGNORE,
        input_ids.numpy(), attended.numpy(), labels.numpy(),
    )  # fmt: skip
    kernels.scatter(
        plan.positions, plan.replacements, targets.values, tokens.offsets, left,
        input_ids.numpy(), labels.numpy(),
    )  # fmt: skip
    return MaskedBatch(input_ids, attended, labels)
