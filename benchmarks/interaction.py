"""Heads that an exported interaction mask closes cost nothing: attached, and pruned."""

from __future__ import annotations

from typing import Any

import torch
from transformers import MarianConfig, MarianMTModel, set_seed

from benchmarks.harness import Row, ratio_row, time_interleaved
from maskwright.hf import InteractionMask, attach, prune

_HEADS, _LAYERS = 8, 3


def run(quick: bool) -> list[Row]:
    """A Marian of 3 + 3 layers × 256; heads of its cross-attention closed by an exported mask."""
    rows = []
    for share in (0.5, 0.125):
        for source, target, samples in ((24, 24, 64), (512, 64, 8)):
            rows += _rows(share, source, target, samples, quick)
    return rows


def _rows(share: float, source: int, target: int, samples: int, quick: bool) -> list[Row]:
    plain, attached, pruned, patterns = _models(share)
    generator = torch.Generator().manual_seed(0)
    batch = {
        "input_ids": torch.randint(2, 1000, (samples, source), generator=generator),
        "decoder_input_ids": torch.randint(2, 1000, (samples, target), generator=generator),
    }
    held = attach(attached, **patterns)
    with torch.no_grad():
        expected = plain(**batch).logits
        for other in (attached, pruned):
            torch.testing.assert_close(other(**batch).logits, expected, atol=1e-4, rtol=1e-4)
    with torch.no_grad():
        states = plain.get_encoder()(batch["input_ids"])

    def forward(model: Any) -> Any:
        # the decoder alone: the encoder has no gates here
        with torch.no_grad():
            return model.get_decoder()(
                input_ids=batch["decoder_input_ids"], encoder_hidden_states=states[0]
            )

    seconds = time_interleaved(
        {
            "plain": lambda: forward(plain),
            "attached": lambda: forward(attached),
            "pruned": lambda: forward(pruned),
        },
        repeats=2 if quick else 9,
        min_seconds=0.05 if quick else 0.3,
    )
    held.detach()
    where = f"{share:.0%} of heads open, source {source}, target {target}"
    note = "forward pass of the decoder, batch of " + str(samples)
    return [
        ratio_row(f"attached: {where}", seconds["attached"], seconds["plain"], note=note),
        ratio_row(f"pruned: {where}", seconds["pruned"], seconds["plain"], at_least=1.0, note=note),
    ]


def _models(share: float) -> tuple[Any, Any, Any, dict[str, Any]]:
    """The model with the mask folded in, thrice, and what the mask closed."""
    made: list[Any] = []
    patterns: dict[str, Any] = {}
    for _ in range(3):
        set_seed(0)
        model = MarianMTModel(
            MarianConfig(
                vocab_size=1000, d_model=256, encoder_layers=_LAYERS, decoder_layers=_LAYERS,
                encoder_attention_heads=_HEADS, decoder_attention_heads=_HEADS,
                encoder_ffn_dim=1024, decoder_ffn_dim=1024, pad_token_id=0, eos_token_id=1,
                decoder_start_token_id=0, forced_eos_token_id=1, max_position_embeddings=1024,
            )
        ).eval()  # fmt: skip
        mask = InteractionMask(model, start=3.0)
        generator = torch.Generator().manual_seed(1)
        for gates in mask.gates:
            with torch.no_grad():
                gates.log_alpha.add_(torch.rand(_HEADS, generator=generator))
        patterns = mask.export(share)
        made.append(model)
    prune(made[2], **patterns)
    return made[0], made[1], made[2], patterns
