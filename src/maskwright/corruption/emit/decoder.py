"""The decoder's side of an encoder–decoder, with its inputs corrupted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np

from maskwright.corruption.emit.batch import (
    IGNORE,
    MaskedBatch,
    padded_inputs,
    require_in_place,
    require_no_inserts,
)
from maskwright.corruption.emit.mlm import Mlm
from maskwright.corruption.emit.next_token import next_token_targets
from maskwright.corruption.plan import MaskPlan
from maskwright.errors import PolicyError
from maskwright.ragged import Ragged, Side

if TYPE_CHECKING:
    from maskwright.corruption.masking import Masking
    from maskwright.corruption.mixture import MixedMasking


@dataclass(frozen=True)
class Decoder:
    """For a batch whose samples are *targets*: what a decoder reads, and what it must say.

    The tensors are named ``decoder_input_ids``, ``decoder_attention_mask`` and ``labels``; merge
    those of the encoder into them.

    Args:
        labels: ``"all"``: word dropout (Bowman et al., 1511.06349, "Word dropout"). The decoder
            reads the tokens shifted right by one, behind ``start_id``, and a selected token is
            corrupted where it is read, one place later. Every token is a label, selected or not,
            so the model stays autoregressive; but for protected tokens and the special ones behind
            them (`next_token_targets`). The last token of a sample is never read.
            ``"selected"``: conditional masked language modelling (1904.09324, "Training
            Objective"). The tokens are read where they stand, and only selected ones are labels.
            The decoder must attend to both sides, which Hugging Face's do not by themselves.
        start_id: what the decoder reads first (the model's ``decoder_start_token_id``); for
            ``"all"`` only.
    """

    labels: Literal["all", "selected"] = "all"
    start_id: int | None = None

    def __post_init__(self) -> None:
        if self.labels not in ("all", "selected"):
            raise PolicyError(f'Decoder.labels is "all" or "selected", got {self.labels!r}.')
        if (self.labels == "all") != (self.start_id is not None):
            raise PolicyError(
                f'Decoder(labels="{self.labels}") got start_id={self.start_id}. With "all" the '
                "inputs are shifted behind one: start_id=model.config.decoder_start_token_id; "
                'with "selected" they are not: leave it out.'
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
        if self.labels == "selected":
            masked = Mlm()(plan, side=side, length=length, multiple=multiple)
            return replace(masked, reader="decoder")
        require_no_inserts(plan, str(self))
        read = _shifted(plan.corrupted, self.start_id)
        input_ids, attended = padded_inputs(read, plan, side, length, multiple)
        labels = next_token_targets(plan).to_padded(IGNORE, side=side, length=input_ids.shape[1])
        origins, tokens = _shifted(plan.origin, -1), plan.batch.tokens
        # labels are not shifted
        places = partial(
            tokens.like(tokens.positions).to_padded, -1, side=side, length=labels.shape[1]
        )
        return MaskedBatch(
            input_ids, attended, labels, plan, side,
            origins=origins, label_origin=places, reader="decoder",
        )  # fmt: skip

    def check(self, masking: Masking | MixedMasking) -> None:
        """Refuses acts after which inputs and labels would not be aligned."""
        require_in_place(masking, str(self))
        vocabulary = masking.vocabulary
        if vocabulary is not None and not 0 <= (self.start_id or 0) < vocabulary.size:
            raise PolicyError(
                f"Decoder.start_id {self.start_id} is outside the vocabulary "
                f"(0 … {vocabulary.size - 1})."
            )

    def __str__(self) -> str:
        return f"decoder inputs, {self.labels} labels"


def _shifted(rows: Ragged, first: int | None) -> Ragged:
    """Each row moved right by one, its last value gone and ``first`` before it."""
    values = np.empty_like(rows.values)
    values[1:] = rows.values[:-1]
    values[rows.offsets[:-1][rows.lengths > 0]] = first
    return rows.like(values)
