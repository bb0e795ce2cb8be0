"""Masking is 12 to 150 times as fast as the collators and reference code that people copy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from transformers import DataCollatorForLanguageModeling

from benchmarks import collation
from benchmarks.harness import Row, ratio_row, time_interleaved
from maskwright import Clock, Mask, Masking, Ragged, TokenBatch, Vocabulary, mlm
from maskwright.corruption import Infill, NoiseSpans, Poisson, Seq2Seq, Spans, WholeWords
from maskwright.lab.bench.words import word_tokenizer

CLOCK = Clock(epoch=3)
VOCABULARY = 30_000
# T5 noise must reach this and 8 times the speed of numpy.
T5_TOKENS_PER_SECOND = 60e6


def run(quick: bool) -> list[Row]:
    """Each part first checks that both sides mask what they should."""
    repeats = 3 if quick else 15
    return [
        *_collation(quick),
        *_whole_words(repeats, rows=4 if quick else 32),
        *_spans(repeats),
    ]


def _collation(quick: bool) -> list[Row]:
    """The rows of `benchmarks.collation`, with the bars of this claim."""
    bars = {"collate end to end, from the table": 100, "tensor part alone": 12}
    return [
        ratio_row(row.case, row.ours, row.peer, at_least=bars[row.case], note=row.note)
        for row in collation.run(quick)
        if row.case in bars and row.peer is not None
    ]


# ------------------------------------------------------------------------ whole words


def _whole_words(repeats: int, *, rows: int, length: int = 2048) -> list[Row]:
    tokenizer = word_tokenizer(VOCABULARY)
    vocabulary = Vocabulary.from_tokenizer(tokenizer)
    batch, starts = _word_batch(vocabulary, rows, length)
    masking = Masking(select=WholeWords(), rate=0.15).bind(vocabulary)
    theirs = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15, whole_word_mask=True)
    lists = [_their_sample(row, starts[i]) for i, row in enumerate(batch.tokens.to_lists())]

    plan = masking.plan(batch, CLOCK)
    _check_words(plan.selected.values.reshape(rows, length), starts)
    _check_words((theirs(lists)["labels"] != -100).numpy(), starts)
    seconds = time_interleaved(
        {"ours": lambda: mlm(masking.plan(batch, CLOCK)), "theirs": lambda: theirs(lists)},
        repeats=min(repeats, 7),
    )
    return [
        ratio_row(
            f"whole words, {rows}×{length}", seconds["ours"], seconds["theirs"], at_least=150,
            note=_speed(rows * length, seconds["ours"], seconds["theirs"]),
        )
    ]  # fmt: skip


def _word_batch(vocabulary: Vocabulary, rows: int, length: int) -> tuple[TokenBatch, np.ndarray]:
    """Words of one to four tokens between [CLS] and [SEP]; where they start, ``(rows, length)``."""
    draws = np.random.default_rng(0)
    values = draws.integers(5, vocabulary.size, (rows, length))
    values[:, 0], values[:, -1] = 2, 3
    starts = draws.random((rows, length)) < 0.6
    starts[:, :2] = starts[:, -1] = True
    tokens = Ragged(values.flatten(), np.arange(rows + 1) * length)
    flags = tokens.like(starts.flatten().astype(np.uint8))
    return TokenBatch(tokens, np.arange(rows), word_starts=flags), starts


def _their_sample(row: list[int], starts: np.ndarray) -> dict[str, Any]:
    """Theirs learns where words are from the offsets: a token that touches the last goes on."""
    offsets, place = [], 0
    for number, begins in enumerate(starts.tolist()):
        special = number in (0, len(row) - 1)
        place += bool(begins)
        offsets.append((0, 0) if special else (place, place + 1))
        place += 1
    return {"input_ids": row, "offset_mapping": offsets}


def _check_words(selected: np.ndarray, starts: np.ndarray) -> None:
    """All of a word or none of it; about 15% of the tokens; no special ones."""
    chosen = np.asarray(selected, bool)
    words = np.cumsum(starts, axis=1)
    inside = words[:, 1:] == words[:, :-1]
    assert not (inside & (chosen[:, 1:] != chosen[:, :-1])).any()
    assert not chosen[:, [0, -1]].any()
    assert 0.12 < chosen.mean() < 0.18, chosen.mean()


# ------------------------------------------------------------------------------- spans


def _spans(repeats: int, rows: int = 64, length: int = 512) -> list[Row]:
    vocabulary = Vocabulary(VOCABULARY, mask_id=4, pad_id=0, special_ids=(0, 1, 2, 3))
    draws = np.random.default_rng(1)
    values = draws.integers(5, VOCABULARY, rows * length)
    batch = TokenBatch(Ragged(values, np.arange(rows + 1) * length), np.arange(rows))
    spans = Masking(select=NoiseSpans(3.0), rate=0.15, act=Mask()).bind(vocabulary)
    infill = Masking(
        select=Spans(Poisson(3.0)), rate=0.3, act=Infill(), exact=True, emit=Seq2Seq("original")
    ).bind(vocabulary)
    single = Masking(rate=0.3).bind(vocabulary)
    functions: dict[str, Callable[[], object]] = {
        "t5": lambda: spans.plan(batch, CLOCK),
        "numpy t5": lambda: [numpy_noise_mask(length, draws) for _ in range(rows)],
        "single": lambda: single.plan(batch, CLOCK),
        "infill": lambda: infill.plan(batch, CLOCK),
    }
    _check_noise(spans.plan(batch, CLOCK).selected.values.reshape(rows, length))
    _check_noise(np.stack([numpy_noise_mask(length, draws) for _ in range(rows)]))
    _check_infilling(infill.plan(batch, CLOCK))
    seconds = time_interleaved(functions, repeats=repeats)
    tokens = rows * length
    peer = min(seconds["numpy t5"] / 8, tokens / T5_TOKENS_PER_SECOND)
    return [
        ratio_row(
            "T5 noise spans: 60 M tokens/s and 8× numpy", seconds["t5"], peer, at_least=1,
            note=_speed(tokens, seconds["t5"], seconds["numpy t5"]) + "; peer is the limit",
        ),
        ratio_row("T5 noise spans against numpy", seconds["t5"], seconds["numpy t5"]),
        ratio_row(
            "text infilling within 3× of single tokens, at 30%", seconds["infill"],
            3 * seconds["single"], at_least=1,
            note=_speed(tokens, seconds["infill"], seconds["single"]),
        ),
    ]  # fmt: skip


def numpy_noise_mask(length: int, draws: np.random.Generator) -> np.ndarray:
    """T5's ``random_spans_noise_mask`` in plain numpy, as it is copied from repository to
    repository: density 0.15, spans of mean 3; ``(length,)`` bool."""
    noise = min(max(round(length * 0.15), 1), length - 1)
    spans = max(round(noise / 3.0), 1)

    def segments(items: int) -> np.ndarray:
        first = np.arange(items - 1) < spans - 1
        draws.shuffle(first)
        return np.bincount(np.cumsum(np.pad(first, [1, 0])), minlength=spans)

    lengths = np.stack([segments(length - noise), segments(noise)], axis=1).reshape(-1)
    starts = np.zeros(length, np.int64)
    starts[np.cumsum(lengths)[:-1]] = 1
    return np.cumsum(starts) % 2 == 1


def _check_noise(selected: np.ndarray) -> None:
    """Exactly 77 of 512 tokens in 26 spans, and the last token is noise."""
    chosen = np.asarray(selected, np.int64)
    assert (chosen.sum(axis=1) == 77).all()
    assert ((np.diff(chosen, axis=1, prepend=0) == 1).sum(axis=1) == 26).all()
    assert chosen[:, -1].all()


def _check_infilling(plan: Any) -> None:
    """About 30% of the tokens are gone, behind fewer masks."""
    share = len(plan.positions) / len(plan.batch.tokens.values)
    assert 0.25 < share < 0.35, share
    assert 0 < (plan.corrupted.values == 4).sum() < len(plan.positions)


def _speed(tokens: int, ours: float, theirs: float) -> str:
    return f"{tokens / ours / 1e6:.0f} against {tokens / theirs / 1e6:.2g} M tokens/s"
