"""Denoising: an encoder reads the corrupted tokens, a decoder writes what they were."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from maskwright.corruption.emit.batch import IGNORE, MaskedBatch, padded_inputs, targets_of
from maskwright.corruption.plan import Action, MaskPlan
from maskwright.errors import BatchError, PolicyError, VocabularyError
from maskwright.ragged import Ragged, Side, offsets_of

if TYPE_CHECKING:
    from maskwright.corruption.masking import Masking
    from maskwright.corruption.mixture import MixedMasking

TARGETS = ("original", "spans", "span-only")


@dataclass(frozen=True)
class Seq2Seq:
    """The encoder reads the corrupted tokens; ``labels`` ``(B, T)`` are what the decoder writes.

    ``decoder_input_ids`` are left to the model: T5 and BART of Hugging Face shift the labels right
    behind their ``decoder_start_token_id``. That works for labels padded on the right only, so
    they are, whatever ``side`` is.

    Args:
        target: ``"original"``: all tokens as they were, special ones included, as BART was trained
            (1910.13461, section 2; ``<s> … </s>`` in fairseq and in Hugging Face).
            ``"spans"``: for each unit its sentinel and its tokens, then a closing sentinel
            (T5, 1910.10683, figure 2); needs ``act=Sentinel()``.
            ``"span-only"``: the selected tokens and nothing else (MASS, 1905.02450, "Masked
            Sequence to Sequence Pre-training"; there the decoder also kept their positions, here
            it counts from 0).
        add_eos: with ``"spans"``, whether the sample's own last token, where it is a special one,
            ends the labels. ``None``: where there is one; ``True``: there must be one.
        closing: with ``"spans"``, whether one more sentinel stands after the last unit, as in the
            paper's figure. T5's code writes one only before kept tokens that follow the last
            unit; its spans always end the sample, so its training data had none.
        target_length: pad the labels to exactly this ``T``.

    Raises (when called):
        BatchError: labels are longer than ``target_length``, or a sample has no token to end with.
        VocabularyError: there is no sentinel left to close a sample.
    """

    target: Literal["original", "spans", "span-only"] = "original"
    add_eos: bool | None = None
    closing: bool = True
    target_length: int | None = None

    def __post_init__(self) -> None:
        if self.target not in TARGETS:
            raise PolicyError(
                f"Seq2Seq.target got {self.target!r}. Available: {', '.join(TARGETS)}."
            )
        if self.target != "spans" and (self.add_eos is not None or not self.closing):
            raise PolicyError(
                f'Seq2Seq(target="{self.target}") has no end of its own to set: add_eos and '
                'closing are for target="spans".'
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
        input_ids, attended = padded_inputs(plan.corrupted, plan, side, length, multiple)
        tokens = plan.batch.tokens
        if self.target == "original":
            rows, places = targets_of(plan), lambda: tokens.positions
        elif self.target == "spans":
            rows, places = self._spans(plan)
        else:
            many = np.bincount(_rows(plan), minlength=len(plan.batch))
            rows, places = Ragged(plan.targets, offsets_of(many)), partial(_places, plan)
        labels = self._padded(rows, plan, multiple)
        return MaskedBatch(
            input_ids, attended, labels, plan, side,
            label_origin=lambda: rows.like(places()).to_padded(-1, length=labels.shape[1]),
        )  # fmt: skip

    def check(self, masking: Masking | MixedMasking) -> None:
        """Refuses acts whose units the labels could not name."""
        codes = {act.code: act for share, act in masking.act.parts if share}
        sentinel = codes.pop(Action.SENTINEL, None)
        if self.target == "spans" and codes:
            raise PolicyError(
                "Labels of the emit seq2seq (spans) name each unit by its sentinel, but "
                f"{next(iter(codes.values()))} leaves none. Use act=Sentinel(), or "
                'Seq2Seq(target="original").'
            )
        if self.target == "span-only" and sentinel is not None:
            raise PolicyError(
                "Labels of the emit seq2seq (span-only) have no sentinels, so the decoder could "
                'not tell units apart. Use Seq2Seq(target="spans"), or act=Mask().'
            )

    def __str__(self) -> str:
        return f"seq2seq ({self.target})"

    def _padded(self, labels: Ragged, plan: MaskPlan, multiple: int) -> torch.Tensor:
        longest = int(labels.lengths.max(initial=0))
        length = self.target_length
        if length is None:
            length = -(-longest // multiple) * multiple
        elif longest > length:
            row = int(labels.lengths.argmax())
            raise BatchError(
                f"Sample {plan.batch.sample_ids[row]} has {longest} labels, more than "
                f"target_length={length}. Nothing is truncated in silence: use a greater one, "
                "shorter samples or a lower rate."
            )
        return labels.to_padded(IGNORE, side="right", length=length)

    def _spans(self, plan: MaskPlan) -> tuple[Ragged, Callable[[], np.ndarray]]:
        """T5's labels, and what makes the place of each one's token; -1 at sentinels."""
        vocabulary, tokens = plan.masking.bound, plan.batch.tokens
        # an empty unit stands for no token, so no label could name it
        if vocabulary.mask_id is not None and (plan.inserted == vocabulary.mask_id).any():
            raise PolicyError(
                "The select put in empty units, which have no sentinel. Use spans of length 1 and "
                'more, or Seq2Seq(target="original").'
            )
        rows, first = _rows(plan), _firsts(plan)
        spans = np.bincount(rows[first], minlength=len(tokens))
        ends, endings = self._endings(plan)
        own = np.bincount(rows, minlength=len(tokens)) + spans
        offsets = offsets_of(own + self.closing + ends)
        out = np.empty(offsets[-1], np.int64)
        # a token stands behind the tokens and the sentinels before it, and the ends of all rows
        # before its own
        before = offsets[:-1] - offsets_of(own)[:-1]
        places = np.arange(len(rows)) + np.cumsum(first) + before[rows]
        out[places] = plan.targets
        out[places[first] - 1] = plan.replacements[first]
        if self.closing:
            sentinels = vocabulary.require_sentinels()
            if spans.max(initial=0) >= len(sentinels):
                row = int(spans.argmax())
                raise VocabularyError(
                    f"Sample {plan.batch.sample_ids[row]} has {spans[row]} units, so none of the "
                    f"{len(sentinels)} sentinels of {vocabulary.name!r} is left to close its "
                    "labels. Use longer spans or a lower rate, or Seq2Seq(closing=False)."
                )
            out[offsets[:-1] + own] = sentinels[spans]
        out[offsets[1:][ends] - 1] = endings[ends]

        def origins() -> np.ndarray:
            origins = np.full(len(out), -1, np.int64)
            origins[places] = _places(plan)
            origins[offsets[1:][ends] - 1] = tokens.lengths[ends] - 1
            return origins

        return Ragged(out, offsets), origins

    def _endings(self, plan: MaskPlan) -> tuple[np.ndarray, np.ndarray]:
        """Which samples end in a special token of their own, ``(B,)`` bool, and that token."""
        tokens, vocabulary = plan.batch.tokens, plan.masking.bound
        ends = tokens.lengths > 0
        endings = np.full(len(tokens), -1, np.int64)
        endings[ends] = tokens.values[tokens.offsets[1:][ends] - 1]
        special = ~vocabulary.maskable & ~np.isin(np.arange(vocabulary.size), vocabulary.sentinels)
        ends[ends] = special[endings[ends]]
        if self.add_eos and not ends.all():
            raise BatchError(
                f"Sample {plan.batch.sample_ids[int(ends.argmin())]} does not end in a special "
                "token, and Seq2Seq(add_eos=True) wants one. Tokenise with add_special_tokens=True "
                "(do special_ids of the vocabulary name it?), or use add_eos=None."
            )
        return (ends & False if self.add_eos is False else ends), endings


def _rows(plan: MaskPlan) -> np.ndarray:
    """The row of each selected token, ``(K,)``."""
    return np.searchsorted(plan.batch.tokens.offsets, plan.positions, side="right") - 1


def _places(plan: MaskPlan) -> np.ndarray:
    """The place of each selected token in its sample, ``(K,)``."""
    return plan.positions - plan.batch.tokens.offsets[_rows(plan)]


def _firsts(plan: MaskPlan) -> np.ndarray:
    """Which selected tokens are the first of their unit, ``(K,)`` bool."""
    first = np.ones(len(plan.positions), np.bool_)
    if plan.units is not None:
        first[1:] = plan.units[1:] != plan.units[:-1]
    return first
