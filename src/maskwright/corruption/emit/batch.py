"""MaskedBatch: what a plan becomes, and the protocol of what makes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import torch

from maskwright.corruption.plan import IN_PLACE, JOINING, Action, MaskPlan
from maskwright.errors import BatchError, PolicyError
from maskwright.ragged import Ragged, Side

if TYPE_CHECKING:
    from maskwright.corruption.masking import Masking
    from maskwright.corruption.mixture import MixedMasking

# The label that torch's cross-entropy leaves out.
IGNORE = -100


@dataclass(frozen=True, eq=False)
class MaskedBatch:
    """A padded batch of ``B`` samples, ready for a model; ids are int64.

    Args:
        input_ids: ``(B, S)``: what the model reads: its encoder, or its decoder if ``reader`` is
            ``"decoder"``.
        attention_mask: ``(B, S)``: 1 at tokens, 0 at padding.
        labels: ``(B, T)``: the id to predict, -100 where there is none. ``T`` is ``S`` but for
            encoder–decoders.
        planned: the `plan` that it was made from, or what makes it when it is asked for: a plan of
            in-place acts that was not needed to make the tensors.
        side: where ``input_ids`` is padded.
        others: more tensors of the batch. The model's ``forward`` takes them, but for ``maskable``
            of `Diffusion`, which is for the loss.
        sample_weights: ``(B,)`` float32: the weight of each sample's losses, 1 unless given.
        origins: where each token of ``input_ids`` came from, if not `MaskPlan.origin`.
        reader: ``"decoder"``: the batch is the decoder's side, and its tensors are named so.
        prefix_lengths: ``(B,)`` int64: tokens of each sample that are given and not predicted
            (`PrefixLM`); no model's ``forward`` takes them, an attention pattern does.
        label_origin: what makes, when it is asked for, the place in its sample of the token that
            each label is of, -1 where it is of none: ``(B, T)`` int64. ``None``: labels stand
            beside their tokens, as `origin` has them.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    labels: torch.Tensor
    planned: MaskPlan | Callable[[], MaskPlan]
    side: Side = "right"
    others: dict[str, torch.Tensor] = field(default_factory=dict)
    sample_weights: torch.Tensor | None = None
    origins: Ragged | None = None
    reader: str = ""
    prefix_lengths: torch.Tensor | None = None
    label_origin: Callable[[], torch.Tensor] | None = None

    @cached_property
    def plan(self) -> MaskPlan:
        """What was chosen."""
        return self.planned if isinstance(self.planned, MaskPlan) else self.planned()

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        """What the model's ``forward`` takes, by name."""
        of = f"{self.reader}_" if self.reader else ""
        return {
            f"{of}input_ids": self.input_ids,
            f"{of}attention_mask": self.attention_mask,
            "labels": self.labels,
            **self.others,
        }

    @property
    def in_place(self) -> bool:
        """Whether ``input_ids`` are the model's tokens, each where it stood in its sample, so that
        other columns of the sample (token types) can be padded alongside."""
        if self.reader or self.origins is not None:
            return False
        return not isinstance(self.planned, MaskPlan) or self.planned.in_place

    @cached_property
    def loss_weights(self) -> torch.Tensor:
        """The weight of the loss at each label, ``(B, T)`` float32; 0 where there is no label."""
        weights = (self.labels != IGNORE).float()
        if self.sample_weights is not None:
            weights *= self.sample_weights[:, None]
        return weights

    @cached_property
    def origin(self) -> torch.Tensor:
        """For each id of ``input_ids``, its place in the sample before; -1 at padding and at
        tokens that were put in: ``(B, S)`` int64. What stands for a whole unit (a sentinel, the
        mask of an infilled span) comes from the place of the unit's first token."""
        origins = self.plan.origin if self.origins is None else self.origins
        return origins.to_padded(-1, side=self.side, length=self.input_ids.shape[1])

    @cached_property
    def input_places(self) -> torch.Tensor:
        """For each id of ``input_ids``, the place in its sample of the token that stands there, or
        stood there before it was masked or replaced: ``(B, S)`` int32. -1 at padding, at tokens
        that were put in and, other than in `origin`, at what stands for a whole unit."""
        plan, places = self.plan, self.origin.numpy().astype(np.int32)
        stood = plan.positions[np.isin(plan.actions, JOINING)]
        if len(stood):
            joined = np.zeros(len(plan.batch.tokens.values), np.bool_)
            joined[stood] = True
            rows, columns = np.nonzero(places >= 0)
            stands = joined[plan.batch.tokens.offsets[rows] + places[rows, columns]]
            places[rows[stands], columns[stands]] = -1
        return torch.from_numpy(places)

    @cached_property
    def label_places(self) -> torch.Tensor:
        """For each of ``labels``, the place in its sample of the token to predict, ``(B, T)``
        int32; -1 where there is no label, or one of no token (a sentinel, a marker).

        Raises:
            BatchError: labels do not stand beside the inputs, and the emit does not say where
                their tokens are.
        """
        if self.label_origin is None and self.labels.shape != self.input_ids.shape:
            raise BatchError(
                f"emit={self.plan.masking.emit} makes labels of shape {tuple(self.labels.shape)} "
                f"beside inputs of shape {tuple(self.input_ids.shape)}, and does not say of which "
                "token each is. Give MaskedBatch(…, label_origin=…)."
            )
        places = self.origin if self.label_origin is None else self.label_origin()
        wanted = np.where(self.labels.numpy() == IGNORE, -1, places.numpy())
        return torch.from_numpy(wanted.astype(np.int32))

    @cached_property
    def sample_mask(self) -> torch.Tensor:
        """What became of each token of the samples as they were, padded on the right: ``(B, L)``
        int8. 0 at padding, 1 not selected, 2 selected and shown as it is, 3 selected and not
        shown."""
        tokens, plan = self.plan.batch.tokens, self.plan
        states = np.ones(len(tokens.values), np.int8)
        states[plan.positions] = np.where(plan.actions == Action.KEEP, 2, 3)
        return tokens.like(states).to_padded(0)

    def new_places(self) -> Ragged:
        """For each token before, its column in ``input_ids``; -1 where it is there no more."""
        tokens = self.plan.batch.tokens
        places = np.full(len(tokens.values), -1, np.int64)
        origin = self.origin.numpy()
        rows, columns = np.nonzero(origin >= 0)
        places[tokens.offsets[rows] + origin[rows, columns]] = columns
        return tokens.like(places)


@runtime_checkable
class Emit(Protocol):
    """Makes a batch of a plan."""

    def __call__(
        self,
        plan: MaskPlan,
        *,
        side: Side = "right",
        length: int | None = None,
        multiple: int = 1,
    ) -> MaskedBatch:
        """Pads to ``length`` on ``side``; unless given, to the longest sample, rounded up to a
        ``multiple``."""
        ...

    def check(self, masking: Masking | MixedMasking) -> None:
        """Raises `PolicyError`, with the remedy, if it cannot emit what the policy does."""
        ...


def padded_length(tokens: Ragged, plan: MaskPlan, length: int | None, multiple: int = 1) -> int:
    """The length to pad ``tokens`` to.

    Raises:
        BatchError: a sample is longer than ``length``.
    """
    longest = int(tokens.lengths.max(initial=0))
    if length is None:
        return -(-longest // multiple) * multiple
    if longest > length:
        row = int(tokens.lengths.argmax())
        raise BatchError(
            f"Sample {plan.batch.sample_ids[row]} has {longest} tokens, more than the length "
            f"{length} to pad to. Cut samples when they are tokenised (max_length={length}): "
            "nothing is truncated in silence."
        )
    return length


def padding_id(tokens: Ragged, plan: MaskPlan, length: int) -> int:
    """The padding id; any where no sample is shorter than ``length``.

    Raises:
        VocabularyError: one is needed and there is none.
    """
    if int(tokens.lengths.min(initial=length)) == length:
        return 0
    return plan.masking.bound.require_pad()


def padded_inputs(
    tokens: Ragged, plan: MaskPlan, side: Side, length: int | None, multiple: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """``input_ids`` and ``attention_mask`` of ``tokens``, ``(B, S)`` int64 each."""
    length = padded_length(tokens, plan, length, multiple)
    input_ids = tokens.to_padded(padding_id(tokens, plan, length), side=side, length=length)
    return input_ids, tokens.like(np.ones(len(tokens.values), np.int64)).to_padded(
        0, side=side, length=length
    )


def targets_of(plan: MaskPlan) -> Ragged:
    """What to predict of each token: itself, or the user's label; int64."""
    targets = plan.batch.labels or plan.batch.tokens
    return targets.like(targets.values.astype(np.int64))


def require_in_place(masking: Masking | MixedMasking, emit: str) -> None:
    """Raises `PolicyError` if the policy takes tokens out, puts some in or moves them."""
    moving = [str(act) for share, act in masking.act.parts if share and act.code not in IN_PLACE]
    if masking.arrange is not None:
        moving.append(str(masking.arrange))
    if moving:
        raise PolicyError(
            f"The emit {emit} needs a label where its token stood, but {moving[0]} moves tokens. "
            "Use emit=Seq2Seq(), or acts that stay in place: Mask, Random, Keep."
        )


def require_no_inserts(plan: MaskPlan, emit: str) -> None:
    """Raises `PolicyError` where a select put empty units in."""
    if len(plan.inserts):
        raise PolicyError(
            f"The emit {emit} needs a label where its token stood, but the select put in "
            f"{len(plan.inserts)} empty units. Use emit=Seq2Seq(), or spans of length 1 and more."
        )
