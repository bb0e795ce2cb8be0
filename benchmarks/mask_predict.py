"""Mask-predict in four passes, against greedy generation by a model of the same size."""

from __future__ import annotations

from typing import Any

import torch
from transformers import MarianConfig, MarianMTModel, set_seed

from benchmarks.harness import Row, ratio_row, time_interleaved
from maskwright.hf.conditional.mask_predict import mask_predict
from maskwright.hf.conditional.model import ConditionalMaskedLM
from maskwright.hf.conditional.reference import write_one
from maskwright.hf.conditional.target_form import TargetForm

VOCABULARY = 8000
PAD, END, MASK = 0, 1, 2
LENGTH = 24
PASSES = 4


def run(quick: bool) -> list[Row]:
    """A Marian of 3 + 3 layers of 256, targets of 24 words; weights do not matter to the time."""
    set_seed(0)
    plain = _marian()
    model = ConditionalMaskedLM(
        _marian(), TargetForm(MASK, PAD, (), (END,), (PAD, END, MASK), VOCABULARY)
    ).eval()
    _check(model)
    rows = []
    for samples in (1,) if quick else (1, 16):
        ids = torch.randint(3, VOCABULARY, (samples, LENGTH))
        mask = torch.ones_like(ids)
        for tried in (1,) if quick else (1, 3, 5):
            lengths = [[LENGTH - one for one in range(tried)]] * samples
            seconds = time_interleaved(
                {
                    "ours": lambda lengths=lengths, ids=ids, mask=mask: mask_predict(
                        model, ids, mask, passes=PASSES, lengths=lengths
                    ),
                    "greedy": lambda ids=ids, mask=mask: plain.generate(
                        input_ids=ids, attention_mask=mask, do_sample=False, num_beams=1,
                        max_new_tokens=LENGTH, min_new_tokens=LENGTH,
                    ),
                },
                repeats=2 if quick else 7,
                min_seconds=0.05 if quick else 0.3,
            )  # fmt: skip
            rows.append(
                ratio_row(
                    f"B={samples}, {tried} lengths" if tried > 1 else f"B={samples}, 1 length",
                    seconds["ours"],
                    seconds["greedy"],
                    at_least=3.0 if (samples, tried) == (1, 1) else None,
                    note=f"{LENGTH} words, {PASSES} passes, vocabulary {VOCABULARY:,}, fp32",
                )
            )
    return rows


def _marian() -> Any:
    config = MarianConfig(
        vocab_size=VOCABULARY, d_model=256, encoder_layers=3, decoder_layers=3,
        encoder_ffn_dim=1024, decoder_ffn_dim=1024, encoder_attention_heads=4,
        decoder_attention_heads=4, max_position_embeddings=128, pad_token_id=PAD,
        eos_token_id=END, decoder_start_token_id=PAD, forced_eos_token_id=None,
    )  # fmt: skip
    return MarianMTModel(config).eval()


def _check(model: ConditionalMaskedLM) -> None:
    """The tokens and the score of the slow reference."""
    ids = torch.randint(3, VOCABULARY, (1, LENGTH))
    written = mask_predict(model, ids, passes=PASSES, lengths=[LENGTH])
    tokens, score = write_one(model, ids[0].tolist(), LENGTH, passes=PASSES)
    assert written.tokens[0].tolist() == tokens
    torch.testing.assert_close(written.scores[0].item(), score, atol=1e-4, rtol=0)
