"""MaskingCollator: masks a batch and makes its tensors, in place of
`transformers.DataCollatorForLanguageModeling`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import BatchEncoding

from maskwright.batch import TokenBatch
from maskwright.clock import Clock
from maskwright.corruption.emit import MaskedBatch
from maskwright.corruption.masking import Masking
from maskwright.corruption.mixture import MixedMasking
from maskwright.corruption.plan import MaskPlan
from maskwright.corruption.recipes import roberta
from maskwright.errors import BatchError, PolicyError, SampleIdError, unknown
from maskwright.hf.guided.places import moves, places_of
from maskwright.hf.samples import SAMPLE_ID, FetchedBatch, Sample, common_clock
from maskwright.ragged import Ragged
from maskwright.vocabulary import Vocabulary

if TYPE_CHECKING:
    from maskwright.guidance.reader import ScoreReader

# Columns of a sample that the collator understands; each but the id is aligned with input_ids.
COLUMNS = (
    "input_ids",
    "attention_mask",
    "special_tokens_mask",
    "token_type_ids",
    "labels",
    "word_starts",
    "marks",
    "scores",
    SAMPLE_ID,
)


class MaskingCollator:
    """Turns samples into a padded, masked batch: what the policy's emit makes, int64 each.

    For masked language models ``input_ids``, ``attention_mask`` and ``labels``, each ``(B, S)``;
    for others as their emit says (`Seq2Seq`, `Decoder`, `FillInTheMiddle` …). ``labels`` is -100
    where nothing is to be predicted.

    A sample's mask depends on the policy, the seed, the sample's id, the clock and, under a guided
    policy, its scores, and on nothing else. Samples are mappings or `Sample` objects with
    ``input_ids`` and, where known, ``attention_mask`` (0 = padding, which is taken off),
    ``special_tokens_mask`` and ``labels`` (special tokens, and positions whose label is -100, are
    never selected), ``token_type_ids``, ``word_starts``, ``marks``, ``scores`` (floats, NaN or None
    where a token has none).

    Args:
        tokenizer: a Hugging Face tokenizer.
        masking: the policy, or a mixture of some; RoBERTa's unless given.
        seed: of the masks.
        pad_to_multiple_of: round ``S`` (and the ``T`` of an encoder–decoder's labels) up to a
            multiple of this.
        length: pad to exactly this ``S``.
        carry: add ``sample_ids`` ``(B,)`` and ``clock`` ``(B, 2)`` (epoch and step) to the batch;
            `MaskingTrainer` asks for them, a model's ``forward`` does not know them. An emit that
            weighs losses adds ``loss_weights`` ``(B, T)``, and needs it; `Diffusion` adds
            ``maskable`` ``(B, S)`` too, the tokens to divide by.
        scores: a `maskwright.guidance.ScoreReader`, such as a `ScoreStore`: where guided policies
            read what they go by; otherwise, the samples' own column. It goes to worker processes
            with the collator, so what is written later must reach them, as in shared memory. With
            it, ``carry`` adds to batches whose emit moves tokens which token of its sample each
            slot is of, so that scores find their way back: ``input_places`` ``(B, S)``,
            ``label_places`` ``(B, T)`` and ``sample_mask`` ``(B, L)`` of samples of up to ``L``
            tokens, as `MaskedBatch` has them.

    Raises (when called):
        SampleIdError: a sample came without its id.
        BatchError: a sample is longer than ``length``, or a column is not aligned, or has token
            types where the emit moves tokens; scores are given twice, or are not those of the
            samples.
        PolicyError: the emit weighs losses, and ``carry`` is off.
    """

    def __init__(
        self,
        tokenizer: Any,
        masking: Masking | MixedMasking | None = None,
        *,
        seed: int = 0,
        pad_to_multiple_of: int | None = None,
        length: int | None = None,
        carry: bool = False,
        scores: ScoreReader | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.vocabulary = Vocabulary.from_tokenizer(tokenizer)
        self.masking = (roberta() if masking is None else masking).bind(self.vocabulary)
        self.seed = seed
        self.pad_to_multiple_of = pad_to_multiple_of
        self.length = length
        self.carry = carry
        self.scores = scores
        import maskwright.corruption.fused  # noqa: F401  so that forked workers have it already

        # Only for batches that carry no clock of their own. In shared memory, so that what
        # ClockCallback writes reaches worker processes that already run; -1 = not known.
        self._fallback = torch.full((2,), -1, dtype=torch.int64).share_memory_()
        # Shared as well: when scores are withheld. First and last step, epoch; -1 = never.
        self._withheld = torch.full((3,), -1, dtype=torch.int64).share_memory_()

    def set_clock(self, epoch: int, step: int | None = None) -> None:
        """The clock of batches that carry none, in this process and in its live workers."""
        self._fallback[0] = epoch
        self._fallback[1] = -1 if step is None else step

    def withhold_scores(self, first: int, last: int, epoch: int) -> None:
        """Batches go without scores in steps ``first`` to ``last - 1``; if they do not know their
        step, in ``epoch``. -1 stands for never. For this process and its live workers."""
        self._withheld[:] = torch.tensor([first, last, epoch])

    def plan(self, samples: Sequence[Any]) -> MaskPlan:
        """The choice for a batch, before it becomes tensors."""
        batch, clock, _ = self._read(samples)
        return self.masking.plan(batch, clock)

    def __call__(self, samples: Sequence[Any]) -> Any:
        """A `transformers.BatchEncoding`."""
        batch, clock, types = self._read(samples)
        masked = self.masking.mask(
            batch,
            clock,
            side=self.tokenizer.padding_side,
            length=self.length,
            multiple=self.pad_to_multiple_of or 1,
        )
        out = masked.tensors
        if types is not None:
            out["token_type_ids"] = self._types(types, masked)
        if masked.sample_weights is not None:
            out["loss_weights"] = self._weights(masked)
        if self.carry:
            out["sample_ids"] = torch.from_numpy(batch.sample_ids)
            moment = torch.tensor([-1 if t is None else t for t in (clock.epoch, clock.step)])
            out["clock"] = moment.expand(len(batch), 2).clone()
            if self.scores is not None and moves(self.masking.emit):
                out.update(places_of(masked))
        return BatchEncoding(out)

    def _types(self, types: Ragged, masked: MaskedBatch) -> torch.Tensor:
        if not masked.in_place:
            raise BatchError(
                f"The samples have token_type_ids, but with emit={self.masking.emit} tokens are "
                "not where they stood. Take the column out of the data set: "
                'dataset.remove_columns(["token_type_ids"]).'
            )
        fill, length = self.tokenizer.pad_token_type_id, masked.input_ids.shape[1]
        return types.to_padded(fill, side=masked.side, length=length)

    def _weights(self, masked: MaskedBatch) -> torch.Tensor:
        if not self.carry:
            raise PolicyError(
                f"emit={self.masking.emit} weighs the losses, and no model's own loss does. Use "
                "MaskingCollator(carry=True), take loss_weights (and maskable, if it is there) out "
                "of each batch, and multiply the loss at each label by them; or use emit=Mlm()."
            )
        return masked.loss_weights

    def _read(self, samples: Sequence[Any]) -> tuple[TokenBatch, Clock, Ragged | None]:
        if isinstance(samples, FetchedBatch):
            clock = self._clock(samples.clock)
            return self._scored(samples.tokens, clock), clock, None
        if not len(samples):
            raise BatchError("The collator got no samples; a batch has at least one.")
        rows, ids, clocks = [], [], []
        for number, sample in enumerate(samples):
            columns, sample_id, clock = _parts(sample, number)
            rows.append(columns)
            ids.append(sample_id)
            clocks.append(clock)
        batch, types = token_batch(rows, np.array(ids, np.int64))
        clock = self._clock(common_clock(clocks))
        return self._scored(batch, clock), clock, types

    def _scored(self, batch: TokenBatch, clock: Clock) -> TokenBatch:
        """The batch with the scores of the reader."""
        if self.scores is None:
            return batch
        first, last, epoch = self._withheld.tolist()
        if clock.epoch == epoch if clock.step is None else first <= clock.step < last:
            return batch
        if batch.scores is not None:
            raise BatchError(
                f"Sample {batch.sample_ids[0]} has a column scores, and the collator reads scores "
                'from elsewhere. Take out one: dataset.remove_columns(["scores"]), or '
                "MaskingCollator(…) without scores=."
            )
        scores = self.scores.read(batch.sample_ids)
        if len(scores) != len(batch):
            raise BatchError(
                f"The scores of {len(batch)} samples were asked for, and {len(scores)} rows came."
            )
        if (wrong := np.flatnonzero(scores.lengths != batch.tokens.lengths)).size:
            row = int(wrong[0])
            raise BatchError(
                f"Sample {batch.sample_ids[row]} has {batch.tokens.lengths[row]} tokens, but "
                f"{scores.lengths[row]} scores. They were kept for another data set or another "
                "tokenisation: make them anew for this one."
            )
        return replace(batch, scores=scores)

    def _clock(self, carried: Clock | None) -> Clock:
        if carried is not None:
            return replace(carried, seed=self.seed)
        epoch, step = (None if value < 0 else value for value in self._fallback.tolist())
        return Clock(self.seed, epoch, step)


def _parts(sample: Any, number: int) -> tuple[Mapping[str, Any], int, Clock | None]:
    if isinstance(sample, Sample):
        columns, sample_id, clock = sample.columns, sample.sample_id, sample.clock
    elif isinstance(sample, Mapping):
        columns, sample_id, clock = sample, sample.get(SAMPLE_ID), None
    else:
        raise BatchError(
            f"Sample {number} of the batch is a {type(sample).__name__}; a sample is a mapping "
            'with "input_ids" and "sample_id".'
        )
    if sample_id is None:
        raise SampleIdError(
            f"Sample {number} of the batch has no sample_id, so its mask could not be the same "
            "again. Use MaskingTrainer, or wrap the data set: with_sample_ids(dataset). (A plain "
            "Trainer takes a column sample_id away unless remove_unused_columns=False.)"
        )
    if "input_ids" not in columns:
        raise BatchError(
            f"Sample {sample_id} has no input_ids, only {sorted(columns)}. Tokenise first."
        )
    for name in columns:
        if name not in COLUMNS:
            raise BatchError(
                unknown("column", name, COLUMNS) + f" In sample {sample_id}; take it out of the "
                "data set: dataset.remove_columns([…])."
            )
    return columns, int(sample_id), clock


def token_batch(
    rows: Sequence[Mapping[str, Any]], ids: np.ndarray
) -> tuple[TokenBatch, Ragged | None]:
    """The samples without their padding, and their token types."""
    columns: dict[str, Ragged] = {}
    for name in COLUMNS[:-1]:
        present = [name in row for row in rows]
        if all(present):
            dtype = np.float32 if name == "scores" else np.int64
            columns[name] = Ragged.from_lists([row[name] for row in rows], dtype)
        elif any(present):
            raise BatchError(
                f"Some samples of the batch have {name} and some do not (sample "
                f"{ids[present.index(False)]} lacks it)."
            )
    tokens = columns.pop("input_ids")
    for name, column in columns.items():
        if not np.array_equal(column.offsets, tokens.offsets):
            row = int(np.flatnonzero(column.lengths != tokens.lengths)[0])
            raise BatchError(
                f"Sample {ids[row]}: {name} has {column.lengths[row]} values for "
                f"{tokens.lengths[row]} input_ids; they must be as many."
            )
    attended = columns.pop("attention_mask", None)
    if attended is not None and not attended.values.all():
        kept = attended.values != 0
        lengths = np.bincount(tokens.rows[kept], minlength=len(tokens))
        offsets = np.concatenate(([0], np.cumsum(lengths)))
        tokens = Ragged(tokens.values[kept], offsets)
        columns = {name: Ragged(column.values[kept], offsets) for name, column in columns.items()}
    protected = np.zeros(len(tokens.values), np.uint8)
    if special := columns.get("special_tokens_mask"):
        protected |= special.values != 0
    labels = columns.get("labels")
    if labels is not None:
        protected |= labels.values == -100
    batch = TokenBatch(
        tokens,
        ids,
        word_starts=columns.get("word_starts"),
        protected=tokens.like(protected) if protected.any() else None,
        labels=labels,
        marks=columns.get("marks"),
        scores=columns.get("scores"),
    )
    return batch, columns.get("token_type_ids")
