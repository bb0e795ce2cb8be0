"""Masked language modelling: the corrupted tokens, with labels at the selected ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from maskwright.corruption.emit.batch import IGNORE, MaskedBatch, padded_length, padding_id
from maskwright.corruption.plan import IN_PLACE, MaskPlan
from maskwright.errors import PolicyError
from maskwright.ragged import Side

if TYPE_CHECKING:
    from maskwright.corruption.masking import Masking


@dataclass(frozen=True)
class Mlm:
    """Inputs and labels are aligned: a label stands where its token stood.

    BERT, 1810.04805, section 3.1.
    """

    def __call__(
        self, plan: MaskPlan, *, side: Side = "right", length: int | None = None
    ) -> MaskedBatch:
        from maskwright.corruption import kernels

        self.check(plan.masking)
        tokens = plan.batch.tokens
        length = padded_length(tokens, plan, length)
        fill = padding_id(tokens, plan, length)
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
        return MaskedBatch(input_ids, attended, labels, plan, side)

    def check(self, masking: Masking) -> None:
        """Refuses acts after which inputs and labels would not be aligned."""
        require_in_place(masking, str(self))

    def __str__(self) -> str:
        return "mlm"


def require_in_place(masking: Masking, emit: str) -> None:
    """Raises `PolicyError` if the policy takes tokens out, puts some in or moves them."""
    moving = [str(act) for share, act in masking.act.parts if share and act.code not in IN_PLACE]
    if masking.arrange is not None:
        moving.append(str(masking.arrange))
    if moving:
        raise PolicyError(
            f"The emit {emit} needs a label where its token stood, but {moving[0]} moves tokens. "
            "Use emit=Seq2Seq(), or acts that stay in place: Mask, Random, Keep."
        )


def mlm(plan: MaskPlan, *, side: Side = "right", length: int | None = None) -> MaskedBatch:
    """`Mlm`, as a function."""
    return Mlm()(plan, side=side, length=length)
