"""A training step as `accelerate_model` does it, beside those that it is compared with."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import set_seed

from maskwright.corruption.emit import IGNORE
from maskwright.errors import DataError, ModelError
from maskwright.hf import accelerate_model
from maskwright.lab.bench.cases import Batch, Case
from maskwright.lab.bench.timing import time_interleaved

PADDED, PACKED, PADDED_SAME = "padded, fp32", "packed", "padded"
_PRODUCT = 1024
# Of the check: both sides add up the same numbers in another order.
LOSS, GRADIENT = 1e-5, 1e-3


@dataclass(frozen=True)
class Measured:
    """What one case took.

    Attributes:
        dtype: of ours, of ``packed`` and of ``padded``: "bf16" or "fp32".
        fill: share of the padded batch that is real tokens.
        seconds: of a step: ``ours``, ``padded, fp32``, ``packed`` (full blocks, whole head) and,
            where ours is bf16, ``padded``.
        tokens: real ones, of each of their batches; on both sides of an encoder–decoder.
        operations: of our step's matrix products with weights, forward and backward.
        peak: operations per second of a product of two matrices of 1,024 × 1,024, in our type and
            measured in the same rounds.
        refusal: why padding was not left out, or None.
        collation: seconds in which `MaskingCollator` makes such a batch of the same texts, masks
            and all, in the same rounds; None: not measured.
    """

    case: str
    dtype: str
    fill: float
    seconds: dict[str, float]
    tokens: dict[str, int]
    operations: float
    peak: float
    refusal: str | None
    collation: float | None = None

    @property
    def share_of_collation(self) -> float | None:
        """Of our step, if nothing of it were done beside the step by a worker."""
        return None if self.collation is None else self.collation / self.seconds["ours"]

    @property
    def tokens_per_second(self) -> float:
        """Real tokens that our step trains on."""
        return self.tokens["ours"] / self.seconds["ours"]

    @property
    def share_of_peak(self) -> float:
        """Model FLOPs utilisation: of the speed of a matrix product on this machine."""
        return self.operations / self.seconds["ours"] / self.peak

    def per_thousand(self, name: str) -> float:
        """Seconds for 1,000 real tokens."""
        return 1000 * self.seconds[name] / self.tokens[name]

    def times_faster(self, name: str) -> float | None:
        """How many times as many real tokens ours trains on in the time; None: not compared."""
        if name not in self.seconds:
            return None
        return self.per_thousand(name) / self.per_thousand("ours")


def measure(
    case: Case,
    dtype: torch.dtype | None,
    *,
    unpad: Any = "auto",
    repeats: int = 5,
    max_seconds: float = math.inf,
    told: Callable[[str], None] = lambda stage: None,
) -> Measured:
    """Forward, backward and AdamW on one thread, once both sides give the same loss and gradients.

    Args:
        case: what is compared.
        dtype: of autocast in ours and, beside fp32, in what it is compared with; None: fp32.
        unpad: as for `accelerate_model`.
        repeats: as for `time_interleaved`.
        max_seconds: none of its rounds begins so many seconds after the call.
        told: hears what is going on.

    Raises:
        DataError: no token is predicted.
        ModelError: the model cannot be accelerated, or its loss would be another one.
    """
    if (case.ragged["labels"] == IGNORE).all():
        raise DataError(
            f"{case.name}: none of the {tokens_of(case.ragged):,} tokens is predicted, so there is "
            "no loss. Raise --rate, or use a tokenizer that knows English words."
        )
    begin = time.perf_counter()
    set_seed(0)
    plain = case.make().train()
    ours = copy.deepcopy(plain)
    acceleration = accelerate_model(ours, unpad=unpad)
    told("checking")
    check(ours, plain, case.ragged, case.name)
    steps = {
        "ours": step(ours, case.ragged, dtype),
        PADDED: step(copy.deepcopy(plain), case.ragged, None),
    }
    batches = {"ours": case.ragged, PADDED: case.ragged}
    if dtype is not None:
        steps[PADDED_SAME] = step(copy.deepcopy(plain), case.ragged, dtype)
        batches[PADDED_SAME] = case.ragged
    if case.packed is not None:
        steps[PACKED] = step(copy.deepcopy(plain), case.packed, dtype)
        batches[PACKED] = case.packed
    told("timing")
    one = torch.full((_PRODUCT, _PRODUCT), 1 / _PRODUCT, dtype=dtype)
    others: dict[str, Callable[[], object]] = {"product": lambda: one @ one}
    if case.collate is not None:
        if int(case.collate()["attention_mask"].sum()) != int(case.ragged["attention_mask"].sum()):
            raise ModelError(f"{case.name}: other texts are collated than are trained on.")
        others["collate"] = case.collate
    seconds = time_interleaved(
        {**steps, **others},
        repeats=repeats,
        min_seconds=0.05,
        max_seconds=max_seconds - (time.perf_counter() - begin),
    )
    sides = ("input_ids", "labels") if _two_sided(case.ragged) else ("input_ids",)
    return Measured(
        case=case.name,
        dtype="fp32" if dtype is None else str(dtype).replace("torch.bfloat", "bf"),
        fill=tokens_of(case.ragged) / sum(case.ragged[name].numel() for name in sides),
        seconds={name: seconds[name] for name in steps},
        tokens={name: tokens_of(batch) for name, batch in batches.items()},
        operations=operations_of(ours, case.ragged),
        peak=2 * _PRODUCT**3 / seconds["product"],
        refusal=acceleration.refusal,
        collation=seconds.get("collate"),
    )


def step(model: Any, batch: Batch, dtype: torch.dtype | None) -> Callable[[], None]:
    """As a training loop has it: forward, backward, one step of AdamW."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)

    def one() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            loss = model(**batch).loss
        loss.backward()
        optimizer.step()

    return one


def check(ours: Any, plain: Any, batch: Batch, name: str) -> None:
    """The same loss and the same gradients, in single precision.

    Raises:
        ModelError: they are not.
    """
    losses = []
    for model in (ours, plain):
        loss = model(**batch).loss
        loss.backward()
        losses.append(loss.detach())
    try:
        torch.testing.assert_close(losses[0], losses[1], rtol=LOSS, atol=0)
        for (where, one), two in zip(ours.named_parameters(), plain.parameters(), strict=True):
            if two.grad is not None:
                torch.testing.assert_close(one.grad, two.grad, rtol=GRADIENT, atol=1e-6, msg=where)
    except AssertionError as error:
        raise ModelError(
            f"{name}: mask-aware compute gives the loss {losses[0]:.8g}, the model by itself "
            f"{losses[1]:.8g}, or other gradients ({str(error).splitlines()[0]}). Nothing was "
            "timed: a faster step of something else says nothing. Please report the model."
        ) from None
    for parameter in (*ours.parameters(), *plain.parameters()):
        parameter.grad = None


def tokens_of(batch: Batch) -> int:
    """Real tokens, on both sides of an encoder–decoder."""
    targets = int((batch["labels"] != IGNORE).sum()) if _two_sided(batch) else 0
    return int(batch["attention_mask"].sum()) + targets


def operations_of(model: Any, batch: Batch) -> float:
    """Of the matrix products that the masks leave, forward and backward.

    6 for each weight and token, and of the output embedding for each predicted token. Attention
    itself is left out; on two sides each token is counted for half of the weights.
    """
    embedding = model.get_output_embeddings().weight
    tables = [part.weight for part in model.modules() if isinstance(part, torch.nn.Embedding)]
    left_out = {id(one) for one in (embedding, *tables)}
    body = sum(p.numel() for p in model.parameters() if p.ndim == 2 and id(p) not in left_out)
    share = 0.5 if _two_sided(batch) else 1.0
    predicted = int((batch["labels"] != IGNORE).sum())
    return 6.0 * (share * body * tokens_of(batch) + embedding.numel() * predicted)


def _two_sided(batch: Batch) -> bool:
    return batch["labels"].shape != batch["input_ids"].shape
