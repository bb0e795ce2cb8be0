"""A training step with the head at predicted positions only, against the whole head."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional
from transformers import set_seed

from benchmarks.harness import Row, ratio_row, time_interleaved
from maskwright import Masking
from maskwright.hf import MaskingCollator, predicted_only
from maskwright.lab.bench import shapes
from maskwright.lab.bench.words import word_tokenizer

VOCABULARY = shapes.VOCABULARY


def run(quick: bool) -> list[Row]:
    """Forward and backward of a BERT of 4 × 256, 15% masked, no padding."""
    tokenizer = word_tokenizer(VOCABULARY)
    collator = MaskingCollator(tokenizer, Masking(rate=0.15))
    collator.set_clock(0)
    rows = []
    for length, samples in ((128, 8), (512, 2)):
        set_seed(0)
        model = shapes.bert()
        ids = torch.randint(5, VOCABULARY, (samples, length), generator=torch.Generator())
        batch = collator(
            [{"input_ids": row, "sample_id": number} for number, row in enumerate(ids)]
        )
        _check(model, batch)
        seconds = time_interleaved(
            {
                "ours": lambda model=model, batch=batch: _step(model, batch, narrow=True),
                "theirs": lambda model=model, batch=batch: _step(model, batch, narrow=False),
            },
            repeats=2 if quick else 7,
            min_seconds=0.2,
        )
        rows.append(
            ratio_row(
                f"step at S={length}, B={samples}",
                seconds["ours"],
                seconds["theirs"],
                at_least=1.5,
                note=f"vocabulary {VOCABULARY:,}, fp32",
            )
        )
    return rows


def _step(model: Any, batch: Any, *, narrow: bool) -> torch.Tensor:
    """One forward and backward; the plain model computes its own loss."""
    model.zero_grad()
    if not narrow:
        loss = model(**batch).loss
    else:
        labels = batch["labels"].flatten()
        positions = (labels != -100).nonzero().squeeze(1)
        shape = (batch["labels"].shape[0], batch["labels"].shape[1])
        with predicted_only(model, positions, shape):
            logits = model(
                input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
            ).logits
        loss = functional.cross_entropy(logits[0], labels[positions])
    loss.backward()
    return loss.detach()


def _check(model: Any, batch: Any) -> None:
    """The same loss and the same gradients."""
    whole = _step(model, batch, narrow=False)
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    torch.testing.assert_close(_step(model, batch, narrow=True), whole, rtol=1e-5, atol=0)
    for name, parameter in model.named_parameters():
        if name in expected:
            torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-4, atol=1e-7)
