"""Which tokens a past run masked in one of its batches, computed again from its settings."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np

from maskwright.corruption.plan import MaskPlan
from maskwright.data.subset import Subset, portions
from maskwright.data.tokenizer import tokenizer_fingerprint
from maskwright.errors import ConfigError, ResultsError
from maskwright.hf import ClockedSampler, MaskingCollator, with_sample_ids
from maskwright.lab.config import Data
from maskwright.lab.files import read_json
from maskwright.lab.guided import kept_reader
from maskwright.lab.phrases import phrases_for
from maskwright.lab.policy import Policy
from maskwright.lab.run import RUN_FILE
from maskwright.lab.text import corpus_of, read_tokenizer, table_of
from maskwright.vocabulary import Vocabulary


def replay(folder: Path, step: int) -> MaskPlan:
    """The masks of batch ``step`` of the run in ``folder``.

    The masks were not recorded: the seed and the clock say which samples were in the batch and what
    was masked in them; for a guided policy, also the scores that the epoch began with, and the
    learned weights, which its run keeps. For runs on one device, as `maskwright compare` and
    `train` make them.

    Args:
        folder: of a finished run, with its `run.json`.
        step: from 0 to the number of steps of the run - 1.

    Raises:
        ResultsError: the folder holds no finished run, or its text has changed since, or it is
            guided and the scores of that epoch were not kept.
        ConfigError: the run had no such step.
    """
    record = _record(folder)
    spec, total = record["spec"], record["steps"]
    if not 0 <= step < total:
        raise ConfigError(
            f"{folder} was trained for {total} steps, numbered 0 … {total - 1}; there is no batch "
            f"{step}."
        )
    tokenizer = read_tokenizer(folder)
    subset = Subset(*_samples(folder, record, tokenizer))
    sampler = _sampler(spec, len(subset))
    planned = _steps(spec, sampler)
    if planned != total:
        raise ResultsError(
            f"{folder} took {total} steps and not the {planned} of its budget. Was it trained on "
            "several devices?"
        )
    sampler.set_epoch(step // sampler.steps_per_epoch)
    first = step % sampler.steps_per_epoch * sampler.batch_size
    indices = list(itertools.islice(sampler, first, first + sampler.batch_size))
    policy = Policy.model_validate(spec["policy"])
    scores = None
    if policy.guided is not None:
        scores = kept_reader(folder, step // sampler.steps_per_epoch, policy, subset.table)
    masking = policy.masking(
        phrases_for(policy, subset.table, Vocabulary.from_tokenizer(tokenizer))
    )
    collator = MaskingCollator(tokenizer, masking, seed=spec["seed"], scores=scores)
    return collator.plan(with_sample_ids(subset).__getitems__(indices))


def _record(folder: Path) -> dict[str, Any]:
    path = folder / RUN_FILE
    if not path.is_file():
        below = sorted(found.parent for found in folder.glob(f"*/**/{RUN_FILE}"))
        hint = f" Name one of the runs in it, such as {below[0]}." if below else ""
        raise ResultsError(f"{folder} holds no finished run: there is no {RUN_FILE}.{hint}")
    record = read_json(path)
    if not isinstance(record, dict) or not {"spec", "data", "steps"} <= record.keys():
        raise ResultsError(f"{path} is not the record of a training by maskwright.")
    return record


def _sampler(spec: dict[str, Any], size: int) -> ClockedSampler:
    """The order and the clock as `MaskingTrainer` makes them."""
    sampler = ClockedSampler(size, spec["training"]["batch_size"], seed=spec["seed"])
    steps, epochs = spec["budget"]["steps"], spec["budget"]["epochs"] or 1
    sampler.total_steps = steps or max(1, round(sampler.steps_per_epoch * epochs))
    return sampler


def _steps(spec: dict[str, Any], sampler: ClockedSampler) -> int:
    """How many steps the budget gives; transformers rounds part of an epoch up."""
    steps, epochs = spec["budget"]["steps"], spec["budget"]["epochs"] or 1
    return steps or math.ceil(sampler.steps_per_epoch * epochs)


def _samples(folder: Path, record: dict[str, Any], tokenizer: Any) -> tuple[Any, np.ndarray]:
    """The training table, and the ids of the samples that the run was given."""
    spec = record["spec"]
    data = Data.model_validate(record["data"])
    corpus = corpus_of(data)
    then, now = (
        spec["data"],
        {
            "tokenizer": tokenizer_fingerprint(tokenizer),
            "corpus": corpus.fingerprint,
        },
    )
    for name, fingerprint in now.items():
        if fingerprint != then[name]:
            raise ResultsError(
                f"The {name} of {folder} has changed since it was trained (fingerprint "
                f"{fingerprint}, then {then[name]}), so its batches cannot be made again."
            )
    table = table_of(corpus, "train", tokenizer, max_length=data.max_length)
    # every run trains on a part of one fixed order of the whole table
    whole = portions(table, [int(table.lengths.sum())])[0].ids
    samples = spec["samples"]
    start = int(np.flatnonzero(whole == samples["first"][0])[0])
    ids = whole[start : start + samples["number"]]
    found = {"number": len(ids), "first": ids[:3].tolist(), "tokens": Subset(table, ids).tokens}
    if found != {name: samples[name] for name in found}:
        raise ResultsError(
            f"The samples of {folder} are not those of its training table any more ({found}, then "
            f"{samples}). Was it trained by another version of maskwright?"
        )
    return table, ids
