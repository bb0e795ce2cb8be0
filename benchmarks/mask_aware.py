"""Steps that leave out padding and unpredicted logits, against padded and packed full steps."""

from __future__ import annotations

import torch

from benchmarks.harness import Row, ratio_row
from maskwright.hf.compute.mask_aware import has_bfloat16
from maskwright.lab.bench.cases import table_of_cases
from maskwright.lab.bench.steps import PACKED, PADDED, PADDED_SAME, Measured, measure

# Least ratio against each step that ours is compared with; where there is none, nothing is claimed.
BARS = {
    "bert-512": {PADDED: 8.0, PACKED: 2.5},
    "bert-128": {PADDED: 8.0, PACKED: 3.0},
    "modernbert": {PACKED: 2.2},
    "gpt2": {PACKED: 1.5},
    "bart": {PADDED_SAME: 2.5},
}


def run(quick: bool) -> list[Row]:
    """Forward, backward and AdamW, in bfloat16 where the processor has it, one thread."""
    dtype = torch.bfloat16 if has_bfloat16(torch.device("cpu")) else None
    rows = []
    for key, make in table_of_cases(2_048 if quick else 16_384).items():
        found = measure(make(), dtype, unpad=True, repeats=1 if quick else 5)
        rows += _rows(found, BARS[key])
    return rows


def _rows(found: Measured, bars: dict[str, float]) -> list[Row]:
    kind = found.dtype
    note = (
        f"s per 1,000 real tokens; filled to {found.fill:.2f}; ours {kind}, "
        f"{found.tokens_per_second:,.0f} tokens/s, {found.share_of_peak:.0%} of a matrix product's "
        "speed"
    )
    against = {
        PADDED: "padded, full head, fp32",
        PACKED: f"packed blocks, full head, {kind}",
        PADDED_SAME: f"padded, full head, {kind}",
    }
    return [
        ratio_row(
            f"{found.case}, against {what}",
            found.per_thousand("ours"),
            found.per_thousand(name),
            at_least=bars.get(name),
            note=note,
        )
        for name, what in against.items()
        if name in found.seconds
    ]
