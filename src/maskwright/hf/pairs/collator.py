"""PairCollator: sources and targets of an encoder–decoder, masked on both sides, in place of
`transformers.DataCollatorForSeq2Seq`."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from transformers import BatchEncoding

from maskwright import randomness
from maskwright.batch import TokenBatch
from maskwright.clock import Clock
from maskwright.corruption.decoder_recipes import unmasked
from maskwright.corruption.emit import Decoder, MaskedBatch, Mlm
from maskwright.corruption.emit.batch import padded_inputs
from maskwright.corruption.plan import MaskPlan
from maskwright.errors import BatchError, ConfigError, PolicyError
from maskwright.hf.fallback_clock import FallbackClock
from maskwright.hf.pairs.alignments import hidden_in, target_marks
from maskwright.hf.pairs.columns import ALIGNMENTS, PairBatch, read_pairs
from maskwright.hf.pairs.limits import longest_of
from maskwright.hf.pairs.policies import (
    Policy,
    follows_marks,
    source_policy,
    start_id_of,
    target_policy,
)
from maskwright.hf.pairs.scheduled_sampling import SAMPLED, ScheduledSampling
from maskwright.vocabulary import Vocabulary

Follow = Literal["masked", "marked"]

# Absorbed by the seed on the target's side, so that equal policies draw different masks.
_TARGET_SIDE = 1


class PairCollator:
    """Turns pairs into a padded batch: ``input_ids`` and ``attention_mask`` ``(B, S)``,
    ``decoder_input_ids``, ``decoder_attention_mask`` and ``labels`` ``(B, T)``, int64 each.

    Samples are mappings or `Sample` with ``input_ids`` and ``labels`` (the ids of the target, its
    end token last; -100 at its ends is padding, and taken off). Of the source ``attention_mask``
    (0 = padding), ``special_tokens_mask``, ``token_type_ids``, ``word_starts``, ``marks`` and
    ``scores``, of the target ``target_word_starts``, ``target_marks`` and ``target_scores`` are as
    `MaskingCollator` has them. Whisper's ``input_features`` (or ``input_values``,
    ``pixel_values``) stand in place of ``input_ids``; they go through as they are.

    Labels are the target, whatever is masked. What the decoder reads is the labels shifted right by
    one behind ``decoder_start_id``, and then masked where it is read. Targets are padded on the
    right, sources where the tokenizer pads. Behind the end of a shorter target
    ``decoder_input_ids`` have its last token once, as the models' own shift leaves it, and
    ``decoder_attention_mask`` is 0 there. Without masks all tensors are those of
    `DataCollatorForSeq2Seq` and of the model's own shift.

    Both sides draw apart from each other, also under equal policies. A sample's masks depend on
    policy, seed, sample id and clock alone; those of its source are the ones that
    `MaskingCollator` would draw with this seed.

    Args:
        tokenizer: a Hugging Face tokenizer, of the source.
        source: policy of what the encoder reads, with the emit `Mlm` or `Seq2Seq` (which allows
            deletion, infilling and shuffled sentences); its labels are not used. None: no masks.
        target: policy of what the decoder reads, with the emit `Decoder`; with `Mlm`, which a
            `Masking` has unless told otherwise, it gets ``Decoder("all", decoder_start_id)``.
            ``Decoder("selected")`` is the conditional masked language model: nothing is shifted,
            and labels are the masked tokens alone. None: no masks.
        decoder_start_id: what the decoder reads first; the model's unless given.
        model: whose start id, and greatest lengths, are to be used.
        target_tokenizer: of the target, where it is another one.
        seed: of the masks.
        pad_to_multiple_of: round ``S`` and ``T`` up to a multiple of this.
        max_source, max_target: the most tokens of a source and of a target; the model's unless
            given. A longer one is an error: nothing is truncated in silence.
        follow: which source tokens a target policy with `Marked` follows along the column
            ``alignments`` (links ``[source token, target token]``, counted from 0): those that are
            ``"masked"``, or those that are ``"marked"``. Unless given: the masked ones if there is
            a source policy.
        carry: add ``sample_ids`` ``(B,)`` and ``clock`` ``(B, 2)`` to the batch; `MaskingTrainer`
            asks for them, a model's ``forward`` does not know them.

    Raises:
        ConfigError: there is no start id, or one outside the target's vocabulary, or another than
            the model's.
        PolicyError: a policy has another emit; there is a source policy with nothing to follow.
        SampleIdError, BatchError: when called: a sample has no id while something is masked, lacks
            a side or has nothing on it, is too long, or has columns that do not fit.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        source: Policy | None = None,
        target: Policy | None = None,
        decoder_start_id: int | None = None,
        model: Any = None,
        target_tokenizer: Any = None,
        seed: int = 0,
        pad_to_multiple_of: int | None = None,
        max_source: int | None = None,
        max_target: int | None = None,
        follow: Follow | None = None,
        carry: bool = False,
    ) -> None:
        self.tokenizer = tokenizer
        self.target_tokenizer = tokenizer if target_tokenizer is None else target_tokenizer
        self.vocabulary = Vocabulary.from_tokenizer(tokenizer)
        self.target_vocabulary = (
            self.vocabulary
            if target_tokenizer is None
            else Vocabulary.from_tokenizer(target_tokenizer)
        )
        self.decoder_start_id = start_id_of(decoder_start_id, model, self.target_vocabulary)
        longest = (None, None) if model is None else longest_of(model)
        self.max_source = longest[0] if max_source is None else max_source
        self.max_target = longest[1] if max_target is None else max_target
        self.source = None if source is None else source_policy(source).bind(self.vocabulary)
        policy = unmasked(self.decoder_start_id) if target is None else target
        self.target = target_policy(policy, self.decoder_start_id).bind(self.target_vocabulary)
        self._target_masked = target is not None
        self._marked = follows_marks(self.target)
        if follow not in ("masked", "marked", None):
            raise ConfigError(f'PairCollator.follow is "masked" or "marked", got {follow!r}.')
        if follow == "masked" and source is None:
            raise PolicyError(
                'PairCollator(follow="masked") masks what is aligned with masked source tokens, '
                'but there is no source policy. Give source=Masking(…), or follow="marked".'
            )
        self.follow: Follow = follow or ("marked" if source is None else "masked")
        self.seed = seed
        self.pad_to_multiple_of = pad_to_multiple_of
        self.carry = carry
        #: What `MaskingTrainer` was told of scheduled sampling: the batch then says which tokens.
        self.sampling: ScheduledSampling | None = None
        self._fallback = FallbackClock()
        import maskwright.corruption.kernels  # noqa: F401  so that forked workers have it already

    @property
    def autoregressive(self) -> bool:
        """Whether the decoder reads its labels shifted by one, so that every token is a label."""
        emit = self.target.emit
        return isinstance(emit, Decoder) and emit.labels == "all"

    def set_clock(self, epoch: int, step: int | None = None) -> None:
        """The clock of batches that carry none, in this process and in its live workers."""
        self._fallback.set(epoch, step)

    def for_evaluation(self) -> PairCollator:
        """The same without masks, but for those that say what is to be predicted
        (``Decoder("selected")``): a loss under teacher forcing that policies can be compared by."""
        plain = copy.copy(self)
        plain.source = plain.sampling = None
        if self.autoregressive:
            plain.target = unmasked(self.decoder_start_id).bind(self.target_vocabulary)
            plain._target_masked = plain._marked = False
        return plain

    def plan(self, samples: Sequence[Any]) -> tuple[MaskPlan | None, MaskPlan]:
        """The choices for a batch: of the source, where it is masked, and of the target."""
        pairs, clock = self._read(samples)
        source = None
        if self.source is not None and pairs.source is not None:
            source = self.source.plan(pairs.source, clock)
        batch = self._marked_target(pairs, source)
        return source, self.target.plan(batch, self._target_clock(clock))

    def __call__(self, samples: Sequence[Any]) -> Any:
        """A `transformers.BatchEncoding`."""
        pairs, clock = self._read(samples)
        out, plan = self._encoder_inputs(pairs, clock)
        batch = self._marked_target(pairs, plan)
        masked = self.target.mask(
            batch, self._target_clock(clock), multiple=self.pad_to_multiple_of or 1
        )
        tensors = masked.tensors
        if self.autoregressive:
            _leave_ends(tensors["decoder_input_ids"], batch)
        out |= tensors
        if self.sampling is not None:
            out[SAMPLED] = self.sampling.positions(
                batch, self.target_vocabulary, clock, tensors["labels"].shape[1]
            )
        if self.carry:
            out["sample_ids"] = torch.from_numpy(batch.sample_ids)
            moment = torch.tensor([-1 if t is None else t for t in (clock.epoch, clock.step)])
            out["clock"] = moment.expand(len(batch), 2).clone()
        return BatchEncoding(out)

    # -- what comes in ----------------------------------------------------------------------

    def _read(self, samples: Sequence[Any]) -> tuple[PairBatch, Clock]:
        drawn = self.carry or self.source is not None or self._target_masked
        pairs = read_pairs(samples, drawn=drawn)
        if self.source is not None and pairs.source is None:
            raise BatchError(
                f"Sample {pairs.target.sample_ids[0]} has {', '.join(pairs.features)} and no "
                "input_ids, so a source policy has no tokens to mask. Use PairCollator without "
                "source=."
            )
        _check_length("source", pairs.source, self.max_source)
        _check_length("target", pairs.target, self.max_target)
        if pairs.clock is not None:
            return pairs, replace(pairs.clock, seed=self.seed)
        return pairs, self._fallback.at(self.seed)

    def _target_clock(self, clock: Clock) -> Clock:
        seed = randomness.absorb(self.seed & randomness.WORD, _TARGET_SIDE)
        return replace(clock, seed=seed)

    def _encoder_inputs(
        self, pairs: PairBatch, clock: Clock
    ) -> tuple[dict[str, torch.Tensor], MaskPlan | None]:
        """What the encoder reads, and the plan where the target follows it."""
        if pairs.source is None:
            return dict(pairs.features), None
        multiple, side = self.pad_to_multiple_of or 1, self.tokenizer.padding_side
        policy = self.source or _PLAIN.bind(self.vocabulary)
        plan: MaskPlan | None = None
        if isinstance(policy.emit, Mlm):
            masked = policy.mask(pairs.source, clock, side=side, multiple=multiple)
            ids, attended = masked.input_ids, masked.attention_mask
            if self.source is not None and self._marked:
                plan = masked.plan
        else:
            plan = policy.plan(pairs.source, clock)
            ids, attended = padded_inputs(plan.corrupted, plan, side, None, multiple)
            masked = MaskedBatch(ids, attended, ids, plan, side)
        out = {"input_ids": ids, "attention_mask": attended}
        if pairs.types is not None:
            if not masked.in_place:
                raise BatchError(
                    f"The samples have token_type_ids, but under {policy} tokens are not where "
                    "they stood. Take the column out of the data set: "
                    'dataset.remove_columns(["token_type_ids"]).'
                )
            fill = self.tokenizer.pad_token_type_id
            out["token_type_ids"] = pairs.types.to_padded(fill, side=side, length=ids.shape[1])
        return out, plan

    def _marked_target(self, pairs: PairBatch, plan: MaskPlan | None) -> TokenBatch:
        """The target, with marks of what is aligned with what its policy follows."""
        target, source, links = pairs.target, pairs.source, pairs.alignments
        if not self._marked or (links is None and target.marks is not None):
            return target
        first = target.sample_ids[0]
        if links is None:
            raise BatchError(
                f"The target policy selects among marked tokens, but sample {first} has neither "
                f"target_marks nor {ALIGNMENTS}. Give each sample one of them: alignments are "
                "links [source token, target token], counted from 0."
            )
        if target.marks is not None:
            raise BatchError(
                f"Sample {first} has target_marks and {ALIGNMENTS}, and marks follow from either. "
                "Take one out of the data set."
            )
        if source is None:
            raise BatchError(f"Sample {first} has {ALIGNMENTS}, but no source tokens (input_ids).")
        if self.follow == "masked":
            assert plan is not None
            chosen = hidden_in(plan)
        elif source.marks is None:
            raise BatchError(
                f"The target policy follows marked source tokens, but sample {first} has no marks. "
                "Give each sample a column marks, or PairCollator a source policy to follow."
            )
        else:
            chosen = source.marks.values != 0
        marks = target_marks(links, chosen, source.tokens, target.tokens, target.sample_ids)
        return replace(target, marks=marks)


# A source that nobody masks.
_PLAIN = replace(unmasked(0), emit=Mlm())


def _check_length(side: str, batch: TokenBatch | None, longest: int | None) -> None:
    if batch is None or longest is None or int(batch.tokens.lengths.max()) <= longest:
        return
    row = int(batch.tokens.lengths.argmax())
    raise BatchError(
        f"Sample {batch.sample_ids[row]} has {batch.tokens.lengths[row]} tokens in its {side}, "
        f"more than the {longest} that the model takes. Cut it when it is tokenised "
        f"(truncation=True, max_length={longest}), or leave the pair out."
    )


def _leave_ends(ids: torch.Tensor, batch: TokenBatch) -> None:
    """Puts the last token of each shorter target behind what is read, as models shift labels."""
    tokens = batch.tokens
    rows = np.flatnonzero(tokens.lengths < ids.shape[1])
    ids[rows, tokens.lengths[rows]] = torch.from_numpy(tokens.values[tokens.offsets[rows + 1] - 1])
