"""What a plan becomes: the tensors that a model trains on."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from maskwright.corruption.plan import MaskPlan
from maskwright.errors import BatchError
from maskwright.ragged import Side


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
    full = longest == length == int(lengths.min(initial=longest))
    fill = 0 if full else plan.masking.bound.require_pad()
    shape = (len(tokens), length)
    left = side == "left"
    input_ids, attended = (
        torch.empty(shape, dtype=torch.int64),
        torch.empty(shape, dtype=torch.int64),
    )
    labels = torch.full(shape, -100, dtype=torch.int64)
    kernels.pad(tokens.values, tokens.offsets, left, fill, input_ids.numpy(), attended.numpy())
    kernels.scatter(plan.positions, plan.replacements, tokens.offsets, left, input_ids.numpy())
    kernels.scatter(plan.positions, plan.targets, tokens.offsets, left, labels.numpy())
    return MaskedBatch(input_ids, attended, labels)
