"""Steps that leave out padding and unpredicted logits, against padded and packed full steps."""

from __future__ import annotations

from dataclasses import replace

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
# Places of a batch: more where a bar is near what the arithmetic allows, so that the optimizer,
# which costs the same for any batch, weighs less. Of all, ten minutes or more on two slow cores.
SLOTS = {"bert-512": 8_192, "bert-128": 8_192, "modernbert": 8_192, "gpt2": 4_096, "bart": 4_096}
SINGLE = "bert-512"  # measured in fp32 as well
QUICK = 512
REPEATS = 3
COLLATION = 0.01


def run(quick: bool) -> list[Row]:
    """Forward, backward and AdamW, in bfloat16 where the processor has it, one thread.

    The first case also in single precision, which claims nothing: it shows the share of the
    machine's speed without the casts.
    """
    dtype = torch.bfloat16 if has_bfloat16(torch.device("cpu")) else None
    rows = []
    for key, slots in SLOTS.items():
        case = table_of_cases(QUICK if quick else slots)[key]()
        found = measure(case, dtype, unpad=True, repeats=1 if quick else REPEATS)
        # a step of a few tokens is too short for the claims
        rows += rows_of(found, {} if quick else BARS[key], None if quick else COLLATION)
        if key == SINGLE and dtype is not None:
            case = replace(case, name=f"{case.name}, in single precision", collate=None)
            found = measure(case, None, unpad=True, repeats=1 if quick else REPEATS)
            rows += rows_of(found, {}, None)
    return rows


def rows_of(found: Measured, bars: dict[str, float], most: float | None) -> list[Row]:
    """A row for each step that ours is compared with, and one for collation.

    Args:
        bars: least ratio by the name of a step.
        most: of collation, as a share of our step.
    """
    kind = found.dtype
    collation, share = found.collation, found.share_of_collation
    note = (
        f"s per 1,000 real tokens; filled to {found.fill:.2f}; ours {kind}, "
        f"{found.tokens_per_second:,.0f} tokens/s, {found.share_of_peak:.0%} of a matrix product's "
        "speed (MFU)"
    )
    if share is not None:
        note += f", collation {share:.2%} of the step"
    against = {
        PADDED: "padded, full head, fp32",
        PACKED: f"packed blocks, full head, {kind}",
        PADDED_SAME: f"padded, full head, {kind}",
    }
    rows = [
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
    if collation is not None and share is not None:
        rows.append(
            ratio_row(
                f"{found.case}: collation",
                collation,
                COLLATION * found.seconds["ours"],
                at_least=None if most is None else COLLATION / most,
                note=f"{share:.2%} of our step; peer is {COLLATION:.0%} of it. From ids in memory "
                "to the batch, in the process of the step",
            )
        )
    return rows
