"""Masked diffusion: masked language modelling at a drawn rate, weighted by one over it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from maskwright.corruption.emit.batch import IGNORE, MaskedBatch
from maskwright.corruption.emit.mlm import Mlm
from maskwright.corruption.plan import Action, MaskPlan
from maskwright.corruption.selection import eligible
from maskwright.errors import PolicyError
from maskwright.ragged import Side

if TYPE_CHECKING:
    from maskwright.corruption.masking import Masking
    from maskwright.corruption.mixture import MixedMasking


@dataclass(frozen=True)
class Diffusion:
    """`Mlm` whose losses weigh ``1 / t``, where ``t`` is the mask rate of the sample.

    With ``rate=SampledRate()``, independent draws and ``Mask()`` it is the bound of masked
    diffusion with a linear schedule (MDLM, 2406.07524, "Continuous-Time Likelihood Bounds"; LLaDA,
    2502.09992, equation 3). Summed over a sample, the weights are its number of maskable tokens on
    average, so the weighted sum of losses is divided by the number of maskable tokens, not of
    predicted ones: that mean is an unbiased estimate of the bound per token. The batch says which
    they are, as ``maskable``, ``(B, S)`` bool in `MaskedBatch.others`: 0 at padding, special and
    protected tokens, and where the user's label is -100. `MaskingTrainer` divides by their number
    over all micro-batches and ranks.

    ``t`` is the rate of the policy (`MaskPlan.rates`), not one that a select carries (`Select.at`).

    Args:
        least: the smallest ``t`` of a weight, so that no loss weighs more than ``1 / least``.
            ``SampledRate(low=least)`` makes the weights exact.
    """

    least: float = 1e-3

    def __post_init__(self) -> None:
        if not 0 < self.least <= 1:
            raise PolicyError(
                f"Diffusion.least is the smallest rate to divide by, above 0 and at most 1; got "
                f"{self.least}."
            )

    def __call__(
        self,
        plan: MaskPlan,
        *,
        side: Side = "right",
        length: int | None = None,
        multiple: int = 1,
    ) -> MaskedBatch:
        self.check(plan.masking)
        masked = Mlm()(plan, side=side, length=length, multiple=multiple)
        rates = np.broadcast_to(np.maximum(plan.rates, self.least), len(plan.batch))
        return replace(
            masked,
            sample_weights=torch.from_numpy((1 / rates).astype(np.float32)),
            others={"maskable": _maskable(masked)},
        )

    def check(self, masking: Masking | MixedMasking) -> None:
        """Refuses every act but ``Mask``, since the absorbing state is the mask token, and selects
        that follow scores, since the weights are those of tokens drawn by chance at the rate."""
        others = [act for share, act in masking.act.parts if share and act.code != Action.MASK]
        if others or masking.arrange is not None:
            raise PolicyError(
                f"The emit {self} masks and does nothing else, but the policy has "
                f"{others[0] if others else masking.arrange}. Use act=Mask(), arrange=None; or "
                "emit=Mlm() for unweighted losses."
            )
        if masking.reads_scores:
            raise PolicyError(
                f"The emit {self} weighs losses by 1 / rate, but {masking} follows scores and "
                "selects at other rates. Use select=Tokens(); or emit=Mlm() for unweighted "
                "losses."
            )

    def __str__(self) -> str:
        return "diffusion"


def _maskable(masked: MaskedBatch) -> torch.Tensor:
    """Which columns hold a token that may be masked and has a label, ``(B, S)`` bool."""
    plan = masked.plan
    counted = eligible(plan.batch, plan.masking.bound)
    if plan.batch.labels is not None:
        counted &= plan.batch.labels.values != IGNORE
    columns = plan.batch.tokens.like(counted)
    return columns.to_padded(False, side=masked.side, length=masked.input_ids.shape[1])
