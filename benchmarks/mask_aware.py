"""Steps that leave out padding and unpredicted logits, against padded and packed full steps."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForMaskedLM,
    DataCollatorForLanguageModeling,
    GPT2Config,
    GPT2LMHeadModel,
    ModernBertConfig,
    ModernBertForMaskedLM,
    set_seed,
)

from benchmarks.harness import Row, ratio_row, time_interleaved
from benchmarks.ragged_text import IGNORE, blocks, padded, pieces
from benchmarks.words import word_tokenizer
from maskwright.hf import accelerate_model
from maskwright.hf.compute.mask_aware import has_bfloat16

VOCABULARY = 30_000
WIDTH = 256
Batch = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes:
        make: a model without dropout.
        ragged: the padded batch.
        packed: the same kind of text in full blocks, or None.
        bars: least ratio against the padded step in single precision, against the packed one in
            our type, and against the padded one in our type; None: nothing is claimed.
    """

    name: str
    make: Callable[[], Any]
    ragged: Batch
    packed: Batch | None
    bars: tuple[float | None, float | None, float | None]


def run(quick: bool) -> list[Row]:
    """Forward, backward and AdamW, in bfloat16 where the processor has it, one thread."""
    half = has_bfloat16(torch.device("cpu"))
    dtype = torch.bfloat16 if half else None
    rows = []
    for case in _cases(2_048 if quick else 16_384):
        rows += _rows(case, dtype, quick)
    return rows


def _cases(slots: int) -> list[Case]:
    return [
        _masked("BERT 4 × 256, S=512", _bert, 512, slots, (8.0, 2.5, None)),
        _masked("BERT 4 × 256, S=128", _bert, 128, slots, (8.0, 3.0, None)),
        _masked("ModernBERT 6 × 256, S=2048", _modernbert, 2048, 2 * slots, (None, 2.2, None)),
        _prompted("GPT-2 4 × 256, prompts masked, S=512", 512, slots, (None, 1.5, None)),
        _pairs("BART 3 + 3 × 256, 256 to 128", 256, 128, slots, (None, None, 2.5)),
    ]


# -- the cases -----------------------------------------------------------------------------------


def _masked(name: str, make: Any, length: int, slots: int, bars: Any) -> Case:
    """15% masked by transformers' collator; full blocks of as many real tokens beside it."""
    texts = pieces(length, VOCABULARY, max(2, slots // length))
    collator = DataCollatorForLanguageModeling(word_tokenizer(VOCABULARY), seed=0)
    made = []
    for ids in (padded(texts, 0, length), blocks(texts, length)):
        masked = collator([{"input_ids": row} for row in ids])
        real = (ids != 0).long()
        made.append({k: masked[k] for k in ("input_ids", "labels")} | {"attention_mask": real})
    return Case(name, make, made[0], made[1], bars)


def _prompted(name: str, length: int, slots: int, bars: Any) -> Case:
    """Causal fine-tuning: the first two thirds of each text are its prompt."""
    texts = pieces(length, VOCABULARY, max(2, slots // length))
    labels = []
    for row in texts:
        answer = row.clone()
        answer[: 2 * len(row) // 3] = IGNORE
        labels.append(answer)
    ids = padded(texts, 0, length)
    batch = {
        "input_ids": ids,
        "labels": padded(labels, IGNORE, length),
        "attention_mask": (ids != 0).long(),
    }
    full = {"input_ids": blocks(texts, length), "labels": blocks(labels, length)}
    return Case(
        name, _gpt2, batch, full | {"attention_mask": torch.ones_like(full["labels"])}, bars
    )


def _pairs(name: str, source: int, target: int, slots: int, bars: Any) -> Case:
    """A text, and the one that comes after it, of half the length."""
    count = max(2, slots // source)
    ids = padded(pieces(source, VOCABULARY, count), 0, source)
    batch = {
        "input_ids": ids,
        "attention_mask": (ids != 0).long(),
        "labels": padded(pieces(target, VOCABULARY, count), IGNORE, target),
    }
    return Case(name, _bart, batch, None, bars)


def _bert() -> Any:
    return BertForMaskedLM(
        BertConfig(
            vocab_size=VOCABULARY,
            hidden_size=WIDTH,
            num_hidden_layers=4,
            num_attention_heads=4,
            intermediate_size=4 * WIDTH,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
    )


def _modernbert() -> Any:
    return ModernBertForMaskedLM(
        ModernBertConfig(
            vocab_size=VOCABULARY,
            hidden_size=WIDTH,
            num_hidden_layers=6,
            num_attention_heads=4,
            intermediate_size=3 * WIDTH // 2,
            max_position_embeddings=2048,
            pad_token_id=0,
            cls_token_id=2,
            sep_token_id=3,
            bos_token_id=2,
            eos_token_id=3,
        )
    )


def _gpt2() -> Any:
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCABULARY,
            n_embd=WIDTH,
            n_layer=4,
            n_head=4,
            n_positions=512,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=2,
            eos_token_id=3,
            pad_token_id=0,
        )
    )


def _bart() -> Any:
    return BartForConditionalGeneration(
        BartConfig(
            vocab_size=VOCABULARY,
            d_model=WIDTH,
            encoder_layers=3,
            decoder_layers=3,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=4 * WIDTH,
            decoder_ffn_dim=4 * WIDTH,
            max_position_embeddings=512,
            dropout=0.0,
            pad_token_id=0,
            bos_token_id=2,
            eos_token_id=3,
            decoder_start_token_id=3,
            forced_eos_token_id=3,
        )
    )


# -- measuring -----------------------------------------------------------------------------------


def _rows(case: Case, dtype: torch.dtype | None, quick: bool) -> list[Row]:
    set_seed(0)
    plain = case.make().train()
    ours = copy.deepcopy(plain)
    accelerate_model(ours, unpad=True)
    _check(ours, plain, case.ragged)
    functions = {
        "ours": _step(ours, case.ragged, dtype),
        "padded": _step(copy.deepcopy(plain), case.ragged, None),
    }
    if dtype is not None:
        functions["padded, our type"] = _step(copy.deepcopy(plain), case.ragged, dtype)
    if case.packed is not None:
        functions["packed"] = _step(copy.deepcopy(plain), case.packed, dtype)
    seconds = time_interleaved(functions, repeats=1 if quick else 5, min_seconds=0.05)
    tokens = {name: _tokens(case.ragged) for name in functions}
    if case.packed is not None:
        tokens["packed"] = _tokens(case.packed)
    each = {name: 1000 * seconds[name] / tokens[name] for name in functions}
    kind = "fp32" if dtype is None else "bf16"
    fill = _tokens(case.ragged) / sum(
        case.ragged[name].numel()
        for name in (("input_ids", "labels") if _two_sided(case.ragged) else ("input_ids",))
    )
    used = _flops(ours, case.ragged) / seconds["ours"] / _peak(dtype)
    note = (
        f"s per 1,000 real tokens; filled to {fill:.2f}; ours {kind}, "
        f"{tokens['ours'] / seconds['ours']:,.0f} tokens/s, {used:.0%} of a matrix product's speed"
    )
    against = [
        ("padded", "padded, full head, fp32", case.bars[0]),
        ("packed", f"packed blocks, full head, {kind}", case.bars[1]),
        ("padded, our type", f"padded, full head, {kind}", case.bars[2]),
    ]
    return [
        ratio_row(f"{case.name}, against {what}", each["ours"], each[name], at_least=bar, note=note)
        for name, what, bar in against
        if name in each
    ]


def _step(model: Any, batch: Batch, dtype: torch.dtype | None) -> Callable[[], None]:
    """As a training loop has it: forward, backward, one step of AdamW."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            loss = model(**batch).loss
        loss.backward()
        optimizer.step()

    return step


def _check(ours: Any, plain: Any, batch: Batch) -> None:
    """The same loss and the same gradients, in single precision."""
    losses = []
    for model in (ours, plain):
        loss = model(**batch).loss
        loss.backward()
        losses.append(loss.detach())
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-5, atol=0)
    for (name, one), two in zip(ours.named_parameters(), plain.parameters(), strict=True):
        if two.grad is not None:
            torch.testing.assert_close(one.grad, two.grad, rtol=1e-3, atol=1e-6, msg=name)
        one.grad = two.grad = None


def _two_sided(batch: Batch) -> bool:
    return batch["labels"].shape != batch["input_ids"].shape


def _tokens(batch: Batch) -> int:
    """Real tokens, on both sides of an encoder–decoder."""
    targets = int((batch["labels"] != IGNORE).sum()) if _two_sided(batch) else 0
    return int(batch["attention_mask"].sum()) + targets


def _flops(model: Any, batch: Batch) -> float:
    """Of the matrix products that the masks leave, forward and backward: 6 for each weight and
    token, of the output embedding for each predicted token. Attention is left out."""
    embedding = model.get_output_embeddings().weight
    tables = [part.weight for part in model.modules() if isinstance(part, torch.nn.Embedding)]
    left_out = {id(one) for one in (embedding, *tables)}
    body = sum(p.numel() for p in model.parameters() if p.ndim == 2 and id(p) not in left_out)
    output = embedding.numel()
    share = 0.5 if _two_sided(batch) else 1.0
    return 6.0 * (share * body * _tokens(batch) + output * int((batch["labels"] != IGNORE).sum()))


def _peak(dtype: torch.dtype | None) -> float:
    """Operations per second of a product of two matrices of 1,024 × 1,024, one thread."""
    one = torch.randn(1024, 1024, dtype=dtype)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        times = []
        for _ in range(5):
            before = time.perf_counter()
            one @ one
            times.append(time.perf_counter() - before)
    finally:
        torch.set_num_threads(threads)
    return 2 * 1024**3 / min(times)
