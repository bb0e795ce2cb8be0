"""Masking a batch of 64 × 512 tokens, against transformers' DataCollatorForLanguageModeling."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import DataCollatorForLanguageModeling

from benchmarks.harness import Row, ratio_row, time_interleaved
from maskwright import Clock, Masking, Ragged, TokenBatch, Vocabulary, mlm
from maskwright.data.table_writer import TableWriter
from maskwright.hf import ClockedIndex, MaskingCollator, with_sample_ids
from maskwright.lab.bench.words import word_tokenizer

ROWS, LENGTH, VOCABULARY = 64, 512, 30_000
CLOCK = Clock(epoch=3)


def run(quick: bool) -> list[Row]:
    """Ours reads the samples from a memory-mapped Arrow table; theirs gets them as lists."""
    tokenizer = word_tokenizer(VOCABULARY)
    vocabulary = Vocabulary.from_tokenizer(tokenizer)
    masking = Masking(rate=0.15).bind(vocabulary)
    samples = 64 if quick else 4096
    with tempfile.TemporaryDirectory() as folder:
        table = _table(Path(folder) / "samples.arrow", samples, vocabulary)
        dataset = with_sample_ids(table)
        indices = [ClockedIndex(i, CLOCK) for i in range(ROWS)]
        lists = [{"input_ids": table.tokens[i].tolist()} for i in range(ROWS)]
        ours = MaskingCollator(tokenizer, masking)
        theirs = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)
        collated = ours(dataset.__getitems__(indices))
        _check(collated, theirs(lists), lists)

        padded = torch.tensor([row["input_ids"] for row in lists])
        special = (padded < 5).bool()
        flat = Ragged(padded.flatten().numpy(), np.arange(ROWS + 1) * LENGTH)
        batch = TokenBatch(flat, np.arange(ROWS))
        # the tensors alone are those of the collator, and of the plan step by step
        for tensors in (
            masking.mask(batch, CLOCK).tensors,
            mlm(masking.plan(batch, CLOCK)).tensors,
        ):
            assert all(torch.equal(tensors[key], collated[key]) for key in collated)
        seconds = time_interleaved(
            {
                "collate": lambda: ours(dataset.__getitems__(indices)),
                "their collate": lambda: theirs(lists),
                "tensors": lambda: masking.mask(batch, CLOCK),
                # it works in place, so it needs a copy of its input
                "their tensors": lambda: theirs.torch_mask_tokens(padded.clone(), special),
                "copy": lambda: padded.clone(),
            },
            repeats=3 if quick else 15,
        )
    tokens = ROWS * LENGTH / 1e6
    return [
        ratio_row(
            "collate end to end, from the table",
            seconds["collate"],
            seconds["their collate"],
            at_least=60,
            note=f"{tokens / seconds['collate']:.0f} against "
            f"{tokens / seconds['their collate']:.1f} M tokens/s",
        ),
        ratio_row(
            "tensor part alone",
            seconds["tensors"],
            seconds["their tensors"],
            at_least=10,
            note=f"{tokens / seconds['tensors']:.0f} against "
            f"{tokens / seconds['their tensors']:.1f} M tokens/s",
        ),
        ratio_row(
            "tensor part against copying the ids once",
            seconds["tensors"],
            seconds["copy"],
            note="the floor: one int64 copy",
        ),
    ]


def _table(path: Path, samples: int, vocabulary: Vocabulary) -> Any:
    draws = np.random.default_rng(0)
    values = draws.integers(5, vocabulary.size, samples * LENGTH, dtype=np.int64)
    values[0::LENGTH], values[LENGTH - 1 :: LENGTH] = 2, 3  # [CLS] … [SEP]
    meta = {"max_length": LENGTH, "split": "train"}
    with TableWriter(path, vocabulary_size=vocabulary.size, meta=meta) as writer:
        writer.add(values, np.full(samples, LENGTH), documents=np.arange(samples))
    return writer.table


def _check(ours: Any, theirs: Any, lists: list[dict[str, list[int]]]) -> None:
    """Same form, and each masks about 15% and changes nothing else."""
    original = torch.tensor([row["input_ids"] for row in lists])
    for batch in (ours, theirs):
        assert set(batch) == {"input_ids", "attention_mask", "labels"}
        selected = batch["labels"] != -100
        assert torch.equal(batch["labels"][selected], original[selected])
        assert torch.equal(batch["input_ids"][~selected], original[~selected])
        assert not selected[original < 5].any()
        assert 0.14 < selected.float().mean() < 0.16
    for key in ours:
        assert ours[key].shape == theirs[key].shape
        assert ours[key].dtype == theirs[key].dtype
