"""Masked language modelling: the corrupted tokens, with labels at the selected ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from maskwright.corruption.emit.batch import (
    IGNORE,
    MaskedBatch,
    padded_length,
    padding_id,
    require_in_place,
    require_no_inserts,
)
from maskwright.corruption.plan import MaskPlan
from maskwright.ragged import Side

if TYPE_CHECKING:
    from maskwright.corruption.masking import Masking
    from maskwright.corruption.mixture import MixedMasking


@dataclass(frozen=True)
class Mlm:
    """Inputs and labels are aligned: a label stands where its token stood.

    BERT, 1810.04805, section 3.1.
    """

    def __call__(
        self,
        plan: MaskPlan,
        *,
        side: Side = "right",
        length: int | None = None,
        multiple: int = 1,
    ) -> MaskedBatch:
        from maskwright.corruption import kernels

        if not isinstance(plan.masking.emit, Mlm):  # else it was checked when it was made
            self.check(plan.masking)
        require_no_inserts(plan, str(self))
        tokens = plan.batch.tokens
        length = padded_length(tokens, plan, length, multiple)
        fill = padding_id(tokens, plan, length)
        # One block, since the C library gives three of this size back to the system after each
        # batch, and fetching fresh pages for the next takes longer than filling them.
        block = torch.empty((3, len(tokens), length), dtype=torch.int64)
        input_ids, attended, labels = block.numpy()
        targets = plan.batch.labels or tokens
        kernels.emit_mlm(
            tokens.values, tokens.offsets, plan.positions, plan.replacements, targets.values,
            side == "left", fill, IGNORE, input_ids, attended, labels,
        )  # fmt: skip
        return MaskedBatch(block[0], block[1], block[2], plan, side)

    def check(self, masking: Masking | MixedMasking) -> None:
        """Refuses acts after which inputs and labels would not be aligned."""
        require_in_place(masking, str(self))

    def __str__(self) -> str:
        return "mlm"


def mlm(
    plan: MaskPlan, *, side: Side = "right", length: int | None = None, multiple: int = 1
) -> MaskedBatch:
    """`Mlm`, as a function."""
    return Mlm()(plan, side=side, length=length, multiple=multiple)
