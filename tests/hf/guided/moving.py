"""Short guided runs whose emits move tokens, and the slow way to the scores of one sample."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Trainer

from maskwright import Clock, Mask, Masking, MaskPlan, Ragged, TokenBatch, recipe
from maskwright.corruption import Cautious, Infill, Sentinel, Weighted
from maskwright.corruption import reference_emit as slow
from maskwright.corruption.emit import Decoder, Seq2Seq
from maskwright.corruption.t5_spans import NoiseSpans
from maskwright.guidance import ScoreStore
from maskwright.hf import Guidance, MaskingCollator, MaskingTrainer, with_sample_ids
from tests.core import tokenizers
from tests.hf import tiny
from tests.hf.guided.runs import Kill
from tests.hf.test_emits import bart, t5
from tests.hf.test_other_models import MARKS, gpt2

TRAINERS = {"plain": Trainer, "ours": MaskingTrainer}
SCORED = Cautious(Weighted(chance=0.1), start_rate=0.3)
COUNT = 12


def _pieces() -> list[dict[str, list[int]]]:
    """As `tiny.samples`, in ids of the T5 tokenizer."""
    generator = torch.Generator().manual_seed(0)
    lengths = [6 + (7 * number) % 15 for number in range(COUNT)]
    return [
        {"input_ids": [*torch.randint(3, 54, (size,), generator=generator).tolist(), 1]}
        for size in lengths
    ]


class WithSource(MaskingCollator):
    """A decoder's batch, and what its encoder reads: three tokens that follow from the sample."""

    def __call__(self, samples: Any) -> Any:
        batch = super().__call__(samples)
        ids = batch["sample_ids"][:, None] % 50 + torch.tensor([[5, 15, 25]])
        batch["input_ids"], batch["attention_mask"] = ids, torch.ones_like(ids)
        return batch


@dataclass(frozen=True)
class Case:
    """A model, and a policy that moves the tokens that it reads."""

    model: Callable[[int], Any]
    masking: Masking
    tokenizer: Callable[[], Any] = tokenizers.words
    rows: Callable[[], list[dict[str, list[int]]]] = lambda: tiny.samples(COUNT)
    collator: type[MaskingCollator] = MaskingCollator


T5_SPANS = Seq2Seq("spans")
CASES = {
    "t5": Case(t5, Masking(SCORED, rate=0.3, act=Sentinel(), emit=T5_SPANS), tokenizers.unigram,
               _pieces),
    "t5, chance": Case(t5, recipe("t5"), tokenizers.unigram, _pieces),
    "t5, spans and scores": Case(
        t5, Masking(NoiseSpans(2.0) | SCORED, rate=0.2, act=Sentinel(), emit=T5_SPANS),
        tokenizers.unigram, _pieces,
    ),
    "bart": Case(bart, Masking(SCORED, rate=0.3, act=Infill(), emit=Seq2Seq())),
    "mass": Case(bart, Masking(SCORED, rate=0.3, act=Mask(), emit=Seq2Seq("span-only"))),
    "cmlm": Case(
        bart, Masking(SCORED, rate=0.3, act=Mask(), emit=Decoder("selected")), collator=WithSource
    ),
    "word-dropout": Case(
        bart, Masking(SCORED, rate=0.3, act=Mask(), emit=Decoder("all", start_id=3)),
        collator=WithSource,
    ),
    "fim": Case(gpt2, recipe("fim", **MARKS)),
    "prefix-lm": Case(gpt2, recipe("prefix-lm")),
}  # fmt: skip
GUIDED = sorted(name for name, case in CASES.items() if case.masking.reads_scores)


@dataclass
class Run:
    """What came of a run: the rows that the model saw, by sample, visit by visit."""

    trainer: Any
    store: ScoreStore
    guidance: Guidance
    case: Case
    seen: list[dict[int, list[Any]]] = field(default_factory=list)

    @property
    def losses(self) -> list[float]:
        return [entry["loss"] for entry in self.trainer.state.log_history if "loss" in entry]

    @property
    def scores(self) -> np.ndarray:
        return self.store.read(np.arange(COUNT)).values


def prepare(
    path: Path,
    name: str,
    kind: str = "plain",
    *,
    kill: int | None = None,
    guidance: dict[str, Any] | None = None,
    scores: bool = True,
    collator: type[MaskingCollator] | None = None,
    **changes: Any,
) -> Run:
    case = CASES[name]
    rows, tokenizer, file = case.rows(), case.tokenizer(), path / "scores.store"
    lengths = np.array([len(row["input_ids"]) for row in rows])
    store = ScoreStore.open(file) if file.exists() else ScoreStore.create(file, lengths)
    callback = Guidance(store, **(guidance or {}))
    settings = {"logging_strategy": "steps", "logging_steps": 1, "num_train_epochs": 3} | changes
    made = (collator or case.collator)(
        tokenizer, case.masking, seed=5, carry=True, scores=store if scores else None
    )
    trainer = TRAINERS[kind](
        case.model(len(tokenizer)),
        tiny.arguments(path / "run", **settings),
        made,
        train_dataset=with_sample_ids(rows),
        callbacks=[callback, *([] if kill is None else [Kill(kill)])],
    )
    run = Run(trainer, store, callback, case)
    inner = trainer.training_step

    def step(model: Any, inputs: Any, *others: Any, **more: Any) -> Any:
        run.seen.append(rows_of(inputs))
        return inner(model, inputs, *others, **more)

    trainer.training_step = step
    return run


def train(path: Path, name: str, kind: str = "plain", *, resume=None, **others: Any) -> Run:
    run = prepare(path, name, kind, **others)
    run.trainer.train(resume_from_checkpoint=resume)
    return run


def rows_of(batch: Any) -> dict[int, list[Any]]:
    """What a model reads and what it is to predict of each sample, without padding."""
    of = "decoder_" if "decoder_input_ids" in batch else ""
    out = {}
    for row, sample in enumerate(batch["sample_ids"].tolist()):
        real = batch[f"{of}attention_mask"][row].bool()
        labels = batch["labels"][row]
        read = batch[f"{of}input_ids"][row][real].tolist()
        out[sample] = [read, labels[labels != -100].tolist()]
    return out


# -- one sample, by itself and by the slow reference -------------------------------------------


def plan_of(run: Run, sample: int, epoch: int, scores: Ragged | None) -> MaskPlan:
    row = run.case.rows()[sample]["input_ids"]
    batch = TokenBatch(Ragged.from_lists([row]), np.array([sample]), scores=scores)
    made = run.trainer.data_collator
    return made.masking.plan(batch, Clock(made.seed, epoch))


def label_places(case: Case, plan: MaskPlan) -> list[int]:
    """The place of each label's token, -1 at what is of none."""
    emit, length = case.masking.emit, len(plan.batch.tokens.values)
    if isinstance(emit, Seq2Seq) and emit.target == "spans":
        return slow.span_places(plan, 0, closing=True, eos=True)
    if isinstance(emit, Seq2Seq) and emit.target == "span-only":
        return [place for unit in slow.units_of(plan, 0) for place in unit]
    if case.masking is CASES["fim"].masking:
        return [place for _, place in slow.fill_in_the_middle(plan, 0, 97, 98, 99, spm=False)]
    return list(range(length))


def input_places(case: Case, plan: MaskPlan) -> list[int]:
    """The place of each token that the model reads as one of the sample's."""
    emit = case.masking.emit
    if case.masking is CASES["fim"].masking:
        return label_places(case, plan)
    if isinstance(emit, Decoder) and emit.labels == "all":
        return [place for _, place in slow.shifted(plan, 0, 3)]
    return slow.input_places(plan, 0, slow.corrupted(plan, 0))


def forward(run: Run, plan: MaskPlan, **options: Any) -> tuple[Any, torch.Tensor]:
    """A new model on the sample alone; its output, and its labels where their logits stand."""
    case = run.case
    model = case.model(len(case.tokenizer()))
    model.set_attn_implementation("eager")
    masked = case.masking.emit(plan)
    batch = dict(masked.tensors)
    if case.collator is WithSource:
        sample = int(plan.batch.sample_ids[0])
        batch["input_ids"] = torch.tensor([[5, 15, 25]]) + sample % 50
    with torch.no_grad():
        return model.eval()(**batch, **options), masked.labels[0]


def slow_losses(run: Run, sample: int) -> np.ndarray:
    """The loss at each token of a sample in the first step, NaN where none is predicted."""
    plan = plan_of(run, sample, 0, None)
    output, labels = forward(run, plan)
    out = np.full(len(plan.batch.tokens.values), np.nan, np.float32)
    for slot, place in enumerate(label_places(run.case, plan)):
        if place < 0 or labels[slot] < 0:
            continue
        behind = slot - 1 if run.case.model is gpt2 else slot
        if behind >= 0:
            out[place] = -output.logits[0, behind].log_softmax(-1)[labels[slot]]
    return out


def slow_attention(run: Run, sample: int, name: str, places: list[int] | None = None) -> np.ndarray:
    """The attention that each token of a sample receives in the first step, of all queries."""
    plan = plan_of(run, sample, 0, None)
    output, _ = forward(run, plan, output_attentions=True)
    weights = output[name][1][
        0
    ].numpy()  # heads, queries, keys of the first layer of the last third
    received = weights.sum((0, 1)) / (weights > 0).sum((0, 1))
    out = np.full(len(plan.batch.tokens.values), np.nan, np.float32)
    for slot, place in enumerate(input_places(run.case, plan) if places is None else places):
        if place >= 0:
            out[place] = received[slot]
    return out
