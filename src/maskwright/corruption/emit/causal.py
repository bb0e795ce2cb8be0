"""Causal language models that see more than the left: fill-in-the-middle, and a free prefix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from maskwright.corruption.emit.batch import (
    IGNORE,
    MaskedBatch,
    padded_inputs,
    require_no_inserts,
)
from maskwright.corruption.emit.next_token import next_token_targets
from maskwright.corruption.plan import Action, MaskPlan
from maskwright.corruption.selection import eligible
from maskwright.errors import BatchError, PolicyError
from maskwright.ragged import Ragged, Side, offsets_of

if TYPE_CHECKING:
    from maskwright.corruption.masking import Masking
    from maskwright.corruption.mixture import MixedMasking


@dataclass(frozen=True)
class FillInTheMiddle:
    """``<PRE> prefix <SUF> suffix <MID> middle``: the selected unit, moved to the end.

    Bavarian et al., 2207.14255, section 3. Special tokens that begin a sample stay before all of
    it, those that end it (the paper's ``<EOT>``) after the middle. A sample of which nothing is
    selected stays an ordinary one, so the rate of the select is the paper's FIM rate. Labels are
    aligned with the inputs; Hugging Face's causal models shift them inside.

    Select one unit a sample, with ``act=Keep()``: the middle is moved, not corrupted. So special
    and protected tokens between its first and its last token, which no select takes, move with it,
    and nothing changes its order. Text is all that moves between the special tokens at the edges:
    of a row of several documents with separators, one middle is cut, and it may reach over a
    separator. The paper cuts each document of such a row for itself (section 3.2): give it one
    document a sample for that.

    Args:
        prefix_id, suffix_id, middle_id: the three markers.
        mode: ``"psm"`` as above; ``"spm"``: ``<PRE> <SUF> suffix <MID> prefix middle``, the
            variant that the paper trains jointly with the other (section 3.1, "SPM mode").
        loss: ``"all"`` tokens, as in the paper, or the ``"middle"`` and what ends the sample. All
            tokens of an ordinary sample are labels either way. Of both, protected tokens and the
            special ones behind them are not (`next_token_targets`).

    Raises (when called):
        BatchError: more than one unit of a sample was selected, or one with a gap that could have
            been selected.
    """

    prefix_id: int
    suffix_id: int
    middle_id: int
    mode: Literal["psm", "spm"] = "psm"
    loss: Literal["all", "middle"] = "all"

    def __post_init__(self) -> None:
        if self.mode not in ("psm", "spm") or self.loss not in ("all", "middle"):
            raise PolicyError(
                'FillInTheMiddle.mode is "psm" or "spm" and loss "all" or "middle"; got '
                f"{self.mode!r} and {self.loss!r}."
            )
        if len({self.prefix_id, self.suffix_id, self.middle_id}) < 3:
            raise PolicyError(
                f"FillInTheMiddle needs three different markers, got prefix_id={self.prefix_id}, "
                f"suffix_id={self.suffix_id}, middle_id={self.middle_id}."
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
        require_no_inserts(plan, str(self))
        origins, markers, middles = self._rearranged(plan, *_middles(plan, str(self)))
        ids, wanted, moved = markers.values.copy(), markers.values.copy(), origins.values >= 0
        starts = np.repeat(plan.batch.tokens.offsets[:-1], origins.lengths)
        places = starts[moved] + origins.values[moved]
        ids[moved] = plan.batch.tokens.values[places]
        wanted[moved] = next_token_targets(plan).values[places]
        if self.loss == "middle":
            wanted[~middles] = IGNORE
        input_ids, attended = padded_inputs(origins.like(ids), plan, side, length, multiple)
        labels = origins.like(wanted).to_padded(IGNORE, side=side, length=input_ids.shape[1])
        return MaskedBatch(input_ids, attended, labels, plan, side, origins=origins)

    def check(self, masking: Masking | MixedMasking) -> None:
        """Refuses acts that corrupt tokens, and markers that the vocabulary does not have."""
        _require_keep(masking, str(self))
        vocabulary = masking.vocabulary
        for name in ("prefix_id", "suffix_id", "middle_id"):
            marker = getattr(self, name)
            if vocabulary is not None and not 0 <= marker < vocabulary.size:
                raise PolicyError(
                    f"FillInTheMiddle.{name} {marker} is outside the vocabulary "
                    f"(0 … {vocabulary.size - 1})."
                )

    def __str__(self) -> str:
        return f"fill in the middle ({self.mode})"

    def _rearranged(
        self, plan: MaskPlan, starts: np.ndarray, stops: np.ndarray
    ) -> tuple[Ragged, Ragged, np.ndarray]:
        """New rows as places in the old ones (-1 at markers), the markers, and what belongs to a
        middle or ends it, flat bool."""
        vocabulary, tokens = plan.masking.bound, plan.batch.tokens
        lengths = tokens.lengths + np.where(starts >= 0, 3, 0)
        offsets = offsets_of(lengths)
        origin = np.full(offsets[-1], -1, np.int64)
        markers = np.full(offsets[-1], -1, np.int64)
        middles = np.zeros(offsets[-1], np.bool_)
        pre, suf, mid = self.prefix_id, self.suffix_id, self.middle_id
        # a few slices a sample: the copying is numpy's
        for row in range(len(tokens)):
            start, stop, size = int(starts[row]), int(stops[row]), int(lengths[row])
            here = slice(offsets[row], offsets[row + 1])
            places, marked, inside = origin[here], markers[here], middles[here]
            if start < 0:
                places[:] = np.arange(size)
                inside[:] = True
                continue
            text = np.flatnonzero(vocabulary.maskable[tokens[row]])
            head, tail = int(text[0]), int(text[-1]) + 1
            prefix, suffix = start - head, tail - stop
            marked[head] = pre
            places[:head] = np.arange(head)
            if self.mode == "psm":
                after = head + 1 + prefix
                places[head + 1 : after] = np.arange(head, start)
                marked[after] = suf
                places[after + 1 : after + 1 + suffix] = np.arange(stop, tail)
                after += 1 + suffix
                marked[after] = mid
                after += 1
            else:
                marked[head + 1] = suf
                after = head + 2 + suffix
                places[head + 2 : after] = np.arange(stop, tail)
                marked[after] = mid
                after += 1
                places[after : after + prefix] = np.arange(head, start)
                after += prefix
            places[after : after + stop - start] = np.arange(start, stop)
            places[after + stop - start :] = np.arange(tail, size - 3)
            inside[after:] = True
        return Ragged(origin, offsets), Ragged(markers, offsets), middles


@dataclass(frozen=True)
class PrefixLM:
    """The tokens as they are, with labels from the first selected one on.

    A prefix language model (1910.10683, section 3.2.1; 1905.03197): select one unit at the end of
    each sample, with ``act=Keep()``. Special tokens that end the sample are labels too; protected
    tokens that come after the first selected one, and special ones behind them, are not
    (`next_token_targets`). How many tokens of each sample are given is
    `MaskedBatch.prefix_lengths`; a model's ``forward`` takes no such thing, so attending to all of
    the prefix is up to its attention mask. Labels are aligned with the inputs; Hugging Face's
    causal models shift them inside.

    Raises (when called):
        BatchError: a token after the first selected one may be selected and was not.
    """

    def __call__(
        self,
        plan: MaskPlan,
        *,
        side: Side = "right",
        length: int | None = None,
        multiple: int = 1,
    ) -> MaskedBatch:
        self.check(plan.masking)
        require_no_inserts(plan, str(self))
        tokens, targets = plan.batch.tokens, next_token_targets(plan)
        starts, _, many = _extents(plan)
        begins = np.where(many > 0, starts, tokens.lengths)
        behind = tokens.positions >= np.repeat(begins, tokens.lengths)
        _require_suffix(plan, behind)
        targets.values[~behind] = IGNORE
        input_ids, attended = padded_inputs(
            tokens.like(tokens.values.astype(np.int64)), plan, side, length, multiple
        )
        labels = targets.to_padded(IGNORE, side=side, length=input_ids.shape[1])
        return MaskedBatch(
            input_ids, attended, labels, plan, side, prefix_lengths=torch.from_numpy(begins)
        )

    def check(self, masking: Masking | MixedMasking) -> None:
        """Refuses acts that corrupt tokens."""
        _require_keep(masking, str(self))

    def __str__(self) -> str:
        return "prefix language model"


def _require_keep(masking: Masking | MixedMasking, emit: str) -> None:
    others = [act for share, act in masking.act.parts if share and act.code != Action.KEEP]
    if others or masking.arrange is not None:
        raise PolicyError(
            f"The emit {emit} shows every token as it is, so {others[0] if others else 'arrange'} "
            "would do nothing. Use act=Keep(), arrange=None."
        )


def _extents(plan: MaskPlan) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each sample: the place of its first selected token, one after its last, how many; -1,
    -1, 0 where none is."""
    tokens, positions = plan.batch.tokens, plan.positions
    edges = np.searchsorted(positions, tokens.offsets)
    many = np.diff(edges)
    starts, stops = np.full(len(tokens), -1, np.int64), np.full(len(tokens), -1, np.int64)
    some = many > 0
    starts[some] = positions[edges[:-1][some]] - tokens.offsets[:-1][some]
    stops[some] = positions[edges[1:][some] - 1] - tokens.offsets[:-1][some] + 1
    return starts, stops, many


def _middles(plan: MaskPlan, emit: str) -> tuple[np.ndarray, np.ndarray]:
    """The one middle of each sample: its place and one after it; -1 where there is none.

    What may not be selected cuts units and leaves gaps in them, and neither makes two middles.
    """
    starts, stops, many = _extents(plan)
    tokens, positions, rows = plan.batch.tokens, plan.positions, plan.batch.tokens.rows
    split = np.zeros(len(tokens), np.bool_)
    if plan.units is not None:
        here = rows[positions]
        apart = (plan.units[1:] != plan.units[:-1]) & (np.diff(positions) == 1)
        split[here[1:][apart & (here[1:] == here[:-1])]] = True
    inside = (tokens.positions >= starts[rows]) & (tokens.positions < stops[rows])
    missed = inside & eligible(plan.batch, plan.masking.bound) & (plan.selected.values == 0)
    split[rows[missed]] = True
    if split.any():
        row = int(split.argmax())
        raise BatchError(
            f"The emit {emit} moves one unit of neighbouring tokens, and of sample "
            f"{plan.batch.sample_ids[row]} {many[row]} tokens of several were selected. Use a "
            "select that takes one span a sample."
        )
    return starts, stops


def _require_suffix(plan: MaskPlan, behind: np.ndarray) -> None:
    missed = eligible(plan.batch, plan.masking.bound) & behind & (plan.selected.values == 0)
    if missed.any():
        row = int(plan.batch.tokens.rows[missed.argmax()])
        raise BatchError(
            f"The emit prefix language model predicts all that follows the first selected token, "
            f"but of sample {plan.batch.sample_ids[row]} tokens after it were not selected. Use a "
            "select that takes one span at the end of each sample."
        )
