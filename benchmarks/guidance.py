"""What guided masks cost: attention 3% of a training step, losses and the store 1%, learning 10%.

At most; of a step without guidance, with collation of its batch.
"""

from __future__ import annotations

import contextlib
import ctypes
import platform
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from transformers import BertConfig, BertForMaskedLM, TrainerState, set_seed

from benchmarks.harness import Row, ratio_row, time_interleaved
from maskwright import Masking, Ragged, recipe
from maskwright.corruption import Weighted
from maskwright.guidance import KnownScores, ScoreStore, attention_received
from maskwright.guidance.learned import FrozenPolicy, LearnedPolicy, PolicySettings
from maskwright.hf import Guidance, LearnedMasking, MaskingCollator, predicted_only
from maskwright.hf.guided.observer import SeenBatch
from maskwright.lab.bench.words import word_tokenizer

VOCABULARY = 30_000
# A step may take so many times as long as without guidance; as the harness asks: peer / ours.
ATTENTION, LOSS, UPDATE, LEARNED = 1 / 1.03, 1 / 1.01, 1 / 1.01, 1 / 1.10
ALONE = ", the step itself timed once: no noise of other steps"


@dataclass(frozen=True)
class Shape:
    """A BERT, and the batches it is measured on."""

    name: str
    config: BertConfig
    batches: tuple[tuple[int, int], ...]  # (S, B)
    repeats: int


def _config(width: int, layers: int, heads: int, vocabulary: int) -> BertConfig:
    return BertConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )


def run(quick: bool) -> list[Row]:
    """Forward, backward and AdamW, of a BERT of 4 × 256 and one of MiniLM's shape."""
    tokenizer = word_tokenizer(VOCABULARY)
    small = Shape("4×256", _config(256, 4, 4, VOCABULARY), ((128, 8), (512, 2)), 15)
    minilm = Shape("MiniLM 6×384", _config(384, 6, 12, 30_522), ((128, 2), (512, 1)), 7)
    rows = []
    for shape in (small, minilm):
        for length, samples in shape.batches:
            with tempfile.TemporaryDirectory() as folder, _memory_is_kept():
                case = _Case(Path(folder), tokenizer, shape, length, samples, quick)
                rows += case.rows()
                if shape is small:
                    rows += case.learned_rows()
    for length in (128, 512):
        with tempfile.TemporaryDirectory() as folder:
            rows.append(_bytes_row(Path(folder), length))
    return rows


@contextlib.contextmanager
def _memory_is_kept() -> Iterator[None]:
    """Freed memory stays with the process.

    Otherwise glibc gives some of it back after every step, by the history of its heap: the same
    step had 900 to 12,700 page faults (0.005 to 0.034 s of 0.45), and whichever leg met the bad
    heap lost. Undone as far as can be: to where glibc's own thresholds grow.
    """
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    libc, mappings, mapped_from, given_back_from = ctypes.CDLL(None), -4, -3, -1
    libc.mallopt(mappings, 0)
    libc.mallopt(given_back_from, 2**31 - 1)
    try:
        yield
    finally:
        libc.mallopt(mappings, 65_536)
        libc.mallopt(mapped_from, 2**25)
        libc.mallopt(given_back_from, 2**26)


class _Case:
    """One model on batches of one size."""

    def __init__(
        self, folder: Path, tokenizer: Any, shape: Shape, length: int, samples: int, quick: bool
    ) -> None:
        self.folder, self.tokenizer, self.shape = folder, tokenizer, shape
        self.length, self.samples = length, samples
        self.repeats = 4 if quick else shape.repeats
        self.base = 0.0

    def leg(self, name: str, source: str | None) -> Leg:
        return Leg(
            self.folder / name, self.tokenizer, self.shape.config, self.length, self.samples, source
        )

    def row(self, case: str, more: float, bar: float | None, note: str = "") -> Row:
        return ratio_row(
            f"{self.shape.name}, S={self.length}, B={self.samples}: {case}",
            self.base + more,
            self.base,
            at_least=bar,
            note=f"{more / self.base:+.2%} of the step{note}",
        )

    def rows(self) -> list[Row]:
        """Attention and losses."""
        sources = {"dynamic": None, "again": None, "attention": "attention", "loss": "loss"}
        legs = {name: self.leg(name, source) for name, source in sources.items()}
        _check(legs)
        parts = {f"collate {name}": leg.collate for name, leg in legs.items()} | {
            "update": _update(legs["attention"].store, self.samples, self.length),
            "probe": self._probe(),
        }
        # rounds of one step each: the shorter a round, the less the machine changes in it
        steps = {name: leg.step for name, leg in legs.items()}
        seconds = time_interleaved(steps, self.repeats, min_seconds=0.0, against="dynamic")
        seconds |= time_interleaved(parts, self.repeats)
        self.base = base = seconds["dynamic"]
        collate = {
            name: seconds[f"collate {name}"] - seconds["collate dynamic"]
            for name in ("attention", "loss")
        }
        return [
            self.row("dynamic against itself", seconds["again"] - base, None, ", the noise"),
            self.row("attention-guided step", seconds["attention"] - base, ATTENTION),
            self.row("loss-guided step", seconds["loss"] - base, LOSS),
            self.row(
                "attention: probe, selection and store alone",
                seconds["probe"] + collate["attention"] + seconds["update"],
                ATTENTION,
                ALONE,
            ),
            self.row(
                "loss: selection and store alone", collate["loss"] + seconds["update"], LOSS, ALONE
            ),
            self.row("update of the store", seconds["update"], UPDATE, ", in a thread of its own"),
        ]

    def learned_rows(self) -> list[Row]:
        """A learned policy, with the losses it lives on; in rounds of as many steps as its look."""
        legs = {"dynamic": self.leg("plain", None), "learned": self.leg("learned", "learned")}
        _check(legs)
        learned = legs["learned"].learned
        assert learned is not None
        every = learned.every

        def several(leg: Leg) -> Any:
            return lambda: [leg.step() for _ in range(every)]

        steps = {name: several(leg) for name, leg in legs.items()}
        repeats = max(3, self.repeats // 3)
        seconds = time_interleaved(steps, repeats, min_seconds=0.0, against="dynamic")
        assert learned.learner.updates >= repeats
        parts = {f"collate {name}": leg.collate for name, leg in legs.items()} | {
            "update": _update(legs["learned"].store, self.samples, self.length),
            "look": legs["learned"].look,
        }
        single = time_interleaved(parts, self.repeats)
        self.base = base = seconds["dynamic"] / every
        alone = (
            single["collate learned"]
            - single["collate dynamic"]
            + single["update"]
            + single["look"] / every
        )
        note = f", one look in {every} steps at {single['look']:.3g} s"
        return [
            self.row("learned step", seconds["learned"] / every - base, LEARNED, note),
            self.row("learned: weights, look and store alone", alone, LEARNED, ALONE),
        ]

    def _probe(self) -> Any:
        heads = self.shape.config.num_attention_heads
        width = self.shape.config.hidden_size // heads
        query, key = torch.randn(2, self.samples, heads, self.length, width)
        mask = torch.ones(self.samples, self.length)
        return lambda: attention_received(query, key, mask=mask, step=1)


def _update(store: ScoreStore, samples: int, length: int) -> Any:
    """The whole of a batch's update, not only what training waits for."""
    values = np.random.default_rng(0).random(samples * length, np.float32)
    scores = Ragged(values, np.arange(samples + 1) * length)

    def update() -> None:
        store.update(np.arange(samples), scores, 0)
        store.flush()

    return update


def _bytes_row(folder: Path, length: int) -> Row:
    """The file of 10,000 samples."""
    samples = 10_000
    with ScoreStore.create(folder / "store", np.full(samples, length)) as store:
        size = store.path.stat().st_size
    most = 2 + 16 / length + 0.05  # what the docs say, and a header
    case = f"score store, S={length}: file of {samples:,} samples"
    found = size / (samples * length)
    note = "in half precision 2 B a token, and 16 B a sample; 0.05 B a token more is allowed"
    return Row(case, found, most, most / found, 1.0, "B/token", found <= most, note)


class Leg:
    """A model in training, as `MaskingTrainer` trains it: with guidance, or without.

    Both legs mask 15% exactly, and by chance, so that they train on the same masks: what is
    compared is the cost of taking scores, keeping them and selecting by them.
    """

    def __init__(
        self,
        path: Path,
        tokenizer: Any,
        config: BertConfig,
        length: int,
        samples: int,
        source: str | None,
    ) -> None:
        set_seed(0)
        self.model = BertForMaskedLM(config).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-5)
        ids = torch.randint(5, VOCABULARY, (samples, length), generator=torch.Generator())
        self.samples = [{"input_ids": row, "sample_id": n} for n, row in enumerate(ids)]
        self.store = ScoreStore.create(path, np.full(samples, length))
        self.state, self.guidance, self.learned = TrainerState(stateful_callbacks=[]), None, None
        scores: Any = None if source is None else self.store
        if source is None:
            masking = Masking(rate=0.15, exact=True)
        elif source == "learned":
            masking = Masking(select=Weighted(), rate=0.15, exact=True)
            scores = self._learn(Ragged.from_lists([row.tolist() for row in ids]))
        else:
            masking = recipe(f"{source}-guided")
        self.collator = MaskingCollator(tokenizer, masking, carry=True, scores=scores)
        self.collator.set_clock(0)
        if source is not None:
            self.guidance = Guidance(self.store, "attention" if source == "attention" else "loss")
        for one in self.observers:
            one.on_train_begin(
                _arguments(path), self.state, None, model=self.model,
                train_dataloader=SimpleNamespace(collate_fn=self.collator),
            )  # fmt: skip

    def _learn(self, tokens: Ragged) -> FrozenPolicy:
        """A policy with the settings that it has unless told otherwise; losses are known."""
        known = np.random.default_rng(1).uniform(2, 9, len(tokens.values)).astype(np.float32)
        self.store.initialise(KnownScores(tokens.like(known)))
        reader = FrozenPolicy(
            LearnedPolicy(PolicySettings(VOCABULARY, score="loss")), tokens, scores=self.store
        )
        self.learned = LearnedMasking(reader, store=self.store)
        return reader

    @property
    def observers(self) -> list[Any]:
        return [one for one in (self.guidance, self.learned) if one is not None]

    def look(self) -> None:
        """What a learned policy does after one step in ``every``: its own backward and step."""
        assert self.learned is not None
        first = TrainerState()
        self.learned.on_step_begin(None, first, None)
        self.learned.observe(self._seen)
        self.learned.on_step_end(None, first, None)

    def collate(self) -> Any:
        """A masked batch."""
        return self.collator(self.samples)

    def step(self) -> torch.Tensor:
        """A batch is masked, the model takes a step on it, and its scores go to the store."""
        batch = self.collate()
        for one in self.observers:
            one.on_step_begin(None, self.state, None)
        loss = self._loss(batch)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.state.global_step += 1
        for one in self.observers:
            one.on_step_end(None, self.state, None)
        return loss.detach()

    def _loss(self, batch: Any) -> torch.Tensor:
        """As in `MaskingTrainer.compute_loss`."""
        labels = batch["labels"]
        positions = (labels.flatten() != -100).nonzero().squeeze(1)
        with predicted_only(self.model, positions, labels.shape):
            logits = self.model(
                input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
            ).logits[0]
        single = any(one.wants_losses for one in self.observers)
        total = functional.cross_entropy(
            logits, labels.flatten()[positions], reduction="none" if single else "sum"
        )
        losses = total.detach() if single else None
        loss = total.sum() / len(positions)
        seen = SeenBatch(
            sample_ids=batch["sample_ids"],
            attention_mask=batch["attention_mask"],
            labels=labels,
            shifted=False,
            logits=logits.detach(),
            losses=losses,
            loss=loss.detach(),
        )
        for one in self.observers:
            one.observe(seen)
        self._seen = replace(seen, logits=None)  # not the memory of a step's logits as well
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
            losses[name] = leg._loss(batch).item()
        if leg.guidance is None:
            continue
        leg.guidance._drain()
        if leg.learned is not None:
            leg.learned.on_step_end(None, leg.state, None)
            continue  # its store had losses from the beginning
        rows = leg.store.read(np.arange(len(leg.samples)))
        if name == "attention":
            assert np.allclose([row.sum() for row in rows], 1, rtol=5e-3)
        else:
            known = rows.values[~np.isnan(rows.values)]
            assert len(known) == int((batch["labels"] != -100).sum())
            assert abs(known.mean() - losses[name]) < 1e-2
    assert max(losses.values()) - min(losses.values()) < 1e-5 * max(losses.values()), losses
