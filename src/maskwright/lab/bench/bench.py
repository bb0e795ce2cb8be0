"""`maskwright bench`: the table of mask-aware compute on this machine."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch

from maskwright.errors import ConfigError
from maskwright.hf.compute.mask_aware import has_bfloat16
from maskwright.lab.bench import shapes
from maskwright.lab.bench.cases import RATE, Case, masked, table_of_cases
from maskwright.lab.bench.steps import PACKED, PADDED, PADDED_SAME, Measured, measure
from maskwright.lab.bench.texts import Language
from maskwright.lab.machine import machine, versions
from maskwright.placing import place_bytes

# The whole table is to end within five minutes on a machine of two slow cores: of so many seconds
# each case has an equal share of what is left, and goes round until it has passed.
SLOTS, REPEATS, SECONDS = 4096, 5, 200.0
QUICK_SLOTS, QUICK_REPEATS = 2048, 1
SHORTEST = 16


def cases_of(
    model: Path | None = None,
    *,
    length: int | None = None,
    rate: float | None = None,
    quick: bool = False,
) -> Sequence[Callable[[], Case]]:
    """What is to be measured; each case is made when it is called.

    Args:
        model: a folder: that model alone. None: the table.
        length: that of one case: of the model, or of BERT 4 × 256.
        rate: share of the tokens that masked models predict, 0.15 unless given.
        quick: half the batch.

    Raises:
        ConfigError: the length is below 16, or the rate is not between 0 and 1.
    """
    if length is not None and length < SHORTEST:
        raise ConfigError(f"--length {length}: a text has {SHORTEST} tokens or more.")
    if rate is not None and not 0 < rate < 1:
        raise ConfigError(f"--rate {rate}: it is above 0 and below 1, such as {RATE}.")
    rate = RATE if rate is None else rate
    slots = QUICK_SLOTS if quick else SLOTS
    if model is not None:
        from maskwright.lab.bench.own_model import own_case

        return [partial(own_case, model, length=length, slots=slots, rate=rate)]
    if length is None:
        return list(table_of_cases(slots, rate=rate).values())
    return [partial(_bert, length, slots, rate)]


def _bert(length: int, slots: int, rate: float) -> Case:
    make = partial(shapes.bert, max(512, length))
    language = Language.hashed(shapes.VOCABULARY)
    return masked(f"BERT 4 × 256, S={length}", make, language, length, slots, rate)


def bench(
    cases: Sequence[Callable[[], Case]],
    *,
    quick: bool = False,
    told: Callable[[str], None] = lambda line: None,
) -> list[Measured]:
    """Measure each case; ours in bfloat16 where the processor has it.

    Raises:
        ModelError: a model cannot be accelerated, or its loss would be another one.
    """
    dtype = torch.bfloat16 if has_bfloat16(torch.device("cpu")) else None
    found = []
    begin = time.perf_counter()
    for number, make in enumerate(cases, 1):
        left = SECONDS - (time.perf_counter() - begin)
        told(f"{number}/{len(cases)} reading text")
        case = make()

        def stage(what: str, number: int = number, case: Case = case) -> None:
            told(f"{number}/{len(cases)} {case.name}: {what}")

        found.append(
            measure(
                case,
                dtype,
                repeats=QUICK_REPEATS if quick else REPEATS,
                max_seconds=left / (len(cases) - number + 1),
                told=stage,
            )
        )
    return found


def rows_of(found: Sequence[Measured]) -> list[dict[str, str]]:
    """A row for each case, with the heads of its columns."""

    def times(one: Measured, name: str) -> str:
        ratio = one.times_faster(name)
        return "–" if ratio is None else f"{ratio:.1f}×"

    return [
        {
            "case": one.case,
            "type": one.dtype,
            "filled": f"{one.fill:.2f}",
            "tokens/s": f"{one.tokens_per_second:,.0f}",
            "× padded fp32": times(one, PADDED),
            "× padded": times(one, PADDED_SAME),
            "× packed": times(one, PACKED),
            "MFU": f"{one.share_of_peak:.0%}",
            "collating": (
                "–" if one.share_of_collation is None else f"{one.share_of_collation:.2%}"
            ),
        }
        for one in found
    ]


NOTES = (
    "tokens/s: real tokens that a mask-aware training step (forward, backward, AdamW) trains on, "
    "on one thread. ×: so many times those of a plain step with the whole head, on padded batches "
    "in fp32, on padded batches in the type of ours, and on text packed into full blocks, in the "
    "type of ours. MFU: of the speed of a 1,024 × 1,024 matrix product, timed between the steps. "
    "Collating: making the batch, masks and all, as a share of our step. "
    "Loss and gradients of each case were compared in fp32 before it was timed.",
)


def notes_of(found: Sequence[Measured]) -> list[str]:
    """What a reader of the table is to know."""
    refusals = [
        f"{one.case}: padding was not left out. {one.refusal}" for one in found if one.refusal
    ]
    return [*NOTES, *refusals]


def table_of(found: Sequence[Measured]) -> list[str]:
    """The lines of the table."""
    rows = rows_of(found)
    lines = [list(rows[0]), *(list(row.values()) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]


def text_of(found: Sequence[Measured], took: float) -> str:
    """The table and its notes, as a file has them; ``took`` in seconds."""
    where, table = machine(), table_of(found)
    head = f"{where['processor']}, {where['cores']} cores; took {took:.0f} s"
    return "\n".join([head, "", *table, "", *notes_of(found), ""])


def save(found: Sequence[Measured], folder: Path, command: str, quick: bool, took: float) -> Path:
    """``bench.json`` and ``bench.txt`` in a folder; gives that of the text.

    Raises:
        SaveError: they cannot be written.
    """
    content: dict[str, Any] = {
        "command": command,
        "quick": quick,
        "took": took,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        "cases": [
            asdict(one)
            | {
                "tokens_per_second": one.tokens_per_second,
                "share_of_peak": one.share_of_peak,
                "times_faster": {
                    name: one.times_faster(name) for name in one.seconds if name != "ours"
                },
            }
            for one in found
        ],
    }
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    place_bytes(folder / "bench.json", text.encode())
    return place_bytes(folder / "bench.txt", text_of(found, took).encode())
