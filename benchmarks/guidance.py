"""What guided masks cost: attention at most 3% of a training step, losses and the store 1%."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from transformers import BertConfig, BertForMaskedLM, TrainerState, set_seed

from benchmarks.harness import Row, ratio_row, time_interleaved
from benchmarks.words import word_tokenizer
from maskwright import Masking, Ragged, recipe
from maskwright.guidance import ScoreStore, attention_received
from maskwright.hf import Guidance, MaskingCollator, predicted_only
from maskwright.hf.guided.observer import SeenBatch

VOCABULARY = 30_000
# A step may take so many times as long as without guidance; as the harness asks: peer / ours.
ATTENTION, LOSS, UPDATE = 1 / 1.03, 1 / 1.01, 1 / 1.01


def run(quick: bool) -> list[Row]:
    """Forward, backward and AdamW of a BERT of 4 × 256; collation of the next batch included."""
    tokenizer = word_tokenizer(VOCABULARY)
    rows = []
    for length, samples in ((128, 8), (512, 2)):
        with tempfile.TemporaryDirectory() as folder:
            rows += _rows(Path(folder), tokenizer, length, samples, quick)
    return rows


def _rows(folder: Path, tokenizer: Any, length: int, samples: int, quick: bool) -> list[Row]:
    legs = {
        name: Leg(folder / name, tokenizer, length, samples, source)
        for name, source in (("dynamic", None), ("attention", "attention"), ("loss", "loss"))
    }
    _check(legs)
    store = legs["attention"].store
    ids = np.arange(samples)
    values = np.random.default_rng(0).random(samples * length, np.float32)
    scores = Ragged(values, np.arange(samples + 1) * length)

    def update() -> None:
        store.update(ids, scores, 0)
        store.flush()  # the whole of it, not only what training waits for

    heads = (samples, 4, length, 64)
    query, key, mask = torch.randn(heads), torch.randn(heads), torch.ones(samples, length)
    parts = {f"collate {name}": leg.collate for name, leg in legs.items()} | {
        "update": update,
        "probe": lambda: attention_received(query, key, mask=mask, step=1),
    }
    seconds = time_interleaved(
        {name: leg.step for name, leg in legs.items()},
        repeats=3 if quick else 15,
        min_seconds=0.2 if quick else 1.0,
    ) | time_interleaved(parts, repeats=3 if quick else 15)
    base = seconds["dynamic"]

    def row(case: str, more: float, bar: float, note: str = "") -> Row:
        note = f"{more / base:+.2%} of the step{note}"
        return ratio_row(
            f"S={length}, B={samples}: {case}", base + more, base, at_least=bar, note=note
        )

    collate = {
        name: seconds[f"collate {name}"] - seconds["collate dynamic"]
        for name in ("attention", "loss")
    }
    alone = ", the step itself timed once: no noise of other steps"
    return [
        row("attention-guided step", seconds["attention"] - base, ATTENTION),
        row("loss-guided step", seconds["loss"] - base, LOSS),
        row(
            "attention: probe, selection and store alone",
            seconds["probe"] + collate["attention"] + seconds["update"],
            ATTENTION,
            alone,
        ),
        row("loss: selection and store alone", collate["loss"] + seconds["update"], LOSS, alone),
        row("update of the store", seconds["update"], UPDATE, ", in a thread of its own"),
    ]


class Leg:
    """A model in training, as `MaskingTrainer` trains it: with guidance, or without.

    Both legs mask 15% exactly, and by chance, so that they train on the same masks: what is
    compared is the cost of taking scores, keeping them and selecting by them.
    """

    def __init__(
        self, path: Path, tokenizer: Any, length: int, samples: int, source: str | None
    ) -> None:
        set_seed(0)
        self.model = BertForMaskedLM(
            BertConfig(
                vocab_size=VOCABULARY,
                hidden_size=256,
                num_hidden_layers=4,
                num_attention_heads=4,
                intermediate_size=1024,
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
            )
        ).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-5)
        ids = torch.randint(5, VOCABULARY, (samples, length), generator=torch.Generator())
        self.samples = [{"input_ids": row, "sample_id": n} for n, row in enumerate(ids)]
        self.store = ScoreStore.create(path, np.full(samples, length))
        self.state, self.guidance = TrainerState(stateful_callbacks=[]), None
        masking = Masking(rate=0.15, exact=True) if source is None else recipe(f"{source}-guided")
        self.collator = MaskingCollator(
            tokenizer, masking, carry=True, scores=None if source is None else self.store
        )
        self.collator.set_clock(0)
        if source is not None:
            self.guidance = Guidance(self.store, source)
            self.arguments = _arguments(path)
            self.guidance.on_train_begin(
                self.arguments, self.state, None, model=self.model,
                train_dataloader=SimpleNamespace(collate_fn=self.collator),
            )  # fmt: skip

    def collate(self) -> Any:
        """A masked batch."""
        return self.collator(self.samples)

    def step(self) -> torch.Tensor:
        """A batch is masked, the model takes a step on it, and its scores go to the store."""
        batch = self.collate()
        guidance = self.guidance
        if guidance is not None:
            guidance.on_step_begin(None, self.state, None)
        loss = self._loss(batch, guidance)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.state.global_step += 1
        if guidance is not None:
            guidance.on_step_end(None, self.state, None)
        return loss.detach()

    def _loss(self, batch: Any, guidance: Guidance | None) -> torch.Tensor:
        """As in `MaskingTrainer.compute_loss`."""
        labels = batch["labels"]
        positions = (labels.flatten() != -100).nonzero().squeeze(1)
        with predicted_only(self.model, positions, labels.shape):
            logits = self.model(
                input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
            ).logits[0]
        single = guidance is not None and guidance.wants_losses
        total = functional.cross_entropy(
            logits, labels.flatten()[positions], reduction="none" if single else "sum"
        )
        losses = total.detach() if single else None
        loss = total.sum() / len(positions)
        if guidance is not None:
            guidance.observe(
                SeenBatch(
                    sample_ids=batch["sample_ids"],
                    attention_mask=batch["attention_mask"],
                    labels=labels,
                    shifted=False,
                    logits=logits.detach(),
                    losses=losses,
                    loss=loss.detach(),
                )
            )
        return loss


def _arguments(path: Path) -> Any:
    """What `Guidance` asks of `TrainingArguments`."""
    return SimpleNamespace(
        world_size=1,
        n_gpu=0,
        torch_compile=False,
        eval_strategy="no",
        dataloader_drop_last=False,
        dataloader_num_workers=0,
        dataloader_prefetch_factor=None,
        gradient_accumulation_steps=1,
        output_dir=str(path.parent),
    )


def _check(legs: dict[str, Leg]) -> None:
    """On the same masks all legs have the same loss, and the scores are those of the step."""
    policy = Masking(rate=0.15, exact=True)
    losses = {}
    for name, leg in legs.items():
        given, leg.collator.masking = leg.collator.masking, policy.bind(leg.collator.vocabulary)
        batch = leg.collator(leg.samples)
        leg.collator.masking = given
        with torch.enable_grad():
            losses[name] = leg._loss(batch, leg.guidance).item()
        if leg.guidance is None:
            continue
        leg.guidance._drain()
        rows = leg.store.read(np.arange(len(leg.samples)))
        if name == "attention":
            assert np.allclose([row.sum() for row in rows], 1, rtol=5e-3)
        else:
            known = rows.values[~np.isnan(rows.values)]
            assert len(known) == int((batch["labels"] != -100).sum())
            assert abs(known.mean() - losses[name]) < 1e-2
    assert max(losses.values()) - min(losses.values()) < 1e-5 * max(losses.values()), losses
