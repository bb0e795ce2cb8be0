"""Samples with a source and a target, taken apart into what the policies of both sides see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maskwright.batch import TokenBatch
from maskwright.clock import Clock
from maskwright.corruption.emit import IGNORE
from maskwright.errors import BatchError, SampleIdError, unknown
from maskwright.hf.collator import token_batch
from maskwright.hf.samples import SAMPLE_ID, Sample, common_clock
from maskwright.ragged import Ragged

# Of the source; all but the first are aligned with it.
SOURCE = (
    "input_ids",
    "attention_mask",
    "special_tokens_mask",
    "token_type_ids",
    "word_starts",
    "marks",
    "scores",
)
# Of the target, aligned with ``labels``; by the names that a policy knows.
TARGET = {
    "target_word_starts": "word_starts",
    "target_marks": "marks",
    "target_scores": "scores",
}
# What an encoder reads that has no tokens: sounds and pictures, of one shape.
FEATURES = ("input_features", "input_values", "pixel_values")
ALIGNMENTS = "alignments"
COLUMNS = (*SOURCE, "labels", *TARGET, *FEATURES, ALIGNMENTS, SAMPLE_ID)


@dataclass(frozen=True, eq=False)
class PairBatch:
    """A batch of ``B`` pairs without padding.

    Args:
        target: the tokens that a decoder is to write; each is its own label.
        source: the tokens of the encoder; None where it reads ``features``.
        features: what it reads instead, stacked, with its ``attention_mask`` if there is one.
        types: token types of the source.
        alignments: for each sample its links (source token, target token).
        clock: the moment that the samples carry.
    """

    target: TokenBatch
    source: TokenBatch | None
    features: dict[str, Tensor]
    types: Ragged | None
    alignments: list[Any] | None
    clock: Clock | None


def read_pairs(samples: Sequence[Any], *, drawn: bool) -> PairBatch:
    """Takes the samples of a batch apart.

    Args:
        samples: mappings or `Sample`.
        drawn: whether something is drawn for them, so that each needs an id.

    Raises:
        SampleIdError: a sample came without its id.
        BatchError: a sample lacks a side, or has nothing on it; a column is unknown, or in some
            samples only, or not aligned; -100 stands between two labels.
    """
    if not len(samples):
        raise BatchError("The collator got no samples; a batch has at least one.")
    rows, ids, clocks = [], [], []
    for number, sample in enumerate(samples):
        columns, sample_id, clock = _parts(sample, number, drawn)
        rows.append(columns)
        ids.append(sample_id)
        clocks.append(clock)
    known = np.array(ids, np.int64)
    target = _target(rows, known)
    source, types, features = _source(rows, known)
    return PairBatch(
        target, source, features, types, _column(rows, ALIGNMENTS, known), common_clock(clocks)
    )


def _parts(sample: Any, number: int, drawn: bool) -> tuple[Mapping[str, Any], int, Clock | None]:
    if isinstance(sample, Sample):
        columns, sample_id, clock = sample.columns, sample.sample_id, sample.clock
    elif isinstance(sample, Mapping):
        columns, sample_id, clock = sample, sample.get(SAMPLE_ID), None
    else:
        raise BatchError(
            f"Sample {number} of the batch is a {type(sample).__name__}; a pair is a mapping with "
            '"input_ids" and "labels".'
        )
    if sample_id is None:
        if drawn:
            raise SampleIdError(
                f"Sample {number} of the batch has no sample_id, so its masks could not be the "
                "same again. Use MaskingTrainer, or wrap the data set: with_sample_ids(dataset). "
                "(A plain Trainer takes a column sample_id away unless "
                "remove_unused_columns=False.)"
            )
        sample_id = number
    for name in columns:
        if name not in COLUMNS:
            raise BatchError(
                unknown("column", name, COLUMNS) + f" In sample {sample_id}; take it out of the "
                "data set: dataset.remove_columns([…])."
            )
    return columns, int(sample_id), clock


def _column(rows: list[Mapping[str, Any]], name: str, ids: np.ndarray) -> list[Any] | None:
    present = [name in row for row in rows]
    if not any(present):
        return None
    if not all(present):
        raise BatchError(
            f"Some samples of the batch have {name} and some do not (sample "
            f"{ids[present.index(False)]} lacks it)."
        )
    return [row[name] for row in rows]


def _target(rows: list[Mapping[str, Any]], ids: np.ndarray) -> TokenBatch:
    labels = _column(rows, "labels", ids)
    if labels is None:
        raise BatchError(
            f"Sample {ids[0]} has no labels, only {sorted(rows[0])}. labels are the ids of the "
            "target, as tokenizer(text_target=…) gives them."
        )
    arrays = [np.asarray(one, np.int64) for one in labels]
    kept = [array != IGNORE for array in arrays]
    for row, where in enumerate(kept):
        places = np.flatnonzero(where)
        if not len(places):
            what = f"{len(where)} labels, all of them -100" if len(where) else "no labels"
            raise BatchError(
                f"Sample {ids[row]} has an empty target: {what}. A target has at least its end "
                "token; leave the pair out."
            )
        if places[-1] - places[0] + 1 != len(places):
            raise BatchError(
                f"Sample {ids[row]} has the label -100 between two others. In a pair it is padding "
                "and is taken off at both ends; a decoder cannot read a token that is not known."
            )
    made = [
        {"input_ids": array, "labels": array, "attention_mask": where}
        | {known: row[name] for name, known in TARGET.items() if name in row}
        for array, where, row in zip(arrays, kept, rows, strict=True)
    ]
    return token_batch(made, ids)[0]


def _source(
    rows: list[Mapping[str, Any]], ids: np.ndarray
) -> tuple[TokenBatch | None, Ragged | None, dict[str, Tensor]]:
    features: dict[str, Tensor] = {}
    for name in FEATURES:
        if (values := _column(rows, name, ids)) is not None:
            features[name] = _stacked(values, name, ids)
    tokens = _column(rows, "input_ids", ids)
    if features:
        if tokens is not None:
            raise BatchError(
                f"Sample {ids[0]} has input_ids and {', '.join(features)}: an encoder reads one of "
                "them. Take the other out of the data set."
            )
        if (mask := _column(rows, "attention_mask", ids)) is not None:
            features["attention_mask"] = _stacked(mask, "attention_mask", ids).long()
        return None, None, features
    if tokens is None:
        raise BatchError(
            f"Sample {ids[0]} has no source: neither input_ids nor {', '.join(FEATURES)}, only "
            f"{sorted(rows[0])}. Tokenise first."
        )
    source, types = token_batch(
        [{name: row[name] for name in SOURCE if name in row} for row in rows], ids
    )
    if (empty := np.flatnonzero(source.tokens.lengths == 0)).size:
        row = int(empty[0])
        given = len(rows[row]["input_ids"])
        what = f"{given} tokens, all of them padding (attention_mask 0)" if given else "no tokens"
        raise BatchError(
            f"Sample {ids[row]} has an empty source: {what}. An encoder needs something to read; "
            "leave the pair out."
        )
    return source, types, {}


def _stacked(values: list[Any], name: str, ids: np.ndarray) -> Tensor:
    tensors = [torch.as_tensor(np.asarray(value)) for value in values]
    for row, tensor in enumerate(tensors):
        if tensor.shape != tensors[0].shape:
            raise BatchError(
                f"Sample {ids[row]}: {name} has shape {tuple(tensor.shape)}, that of sample "
                f"{ids[0]} has {tuple(tensors[0].shape)}. They must be of one shape: pad them when "
                "they are extracted."
            )
    return torch.stack(tensors)
