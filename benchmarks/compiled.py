"""A mask-aware step against the padded one under `torch.compile`; compiling takes minutes."""

from __future__ import annotations

import copy
import time

import torch
from transformers import set_seed

from benchmarks.harness import Row, ratio_row
from maskwright.hf import accelerate_model
from maskwright.hf.compute.mask_aware import has_bfloat16
from maskwright.lab.bench.cases import Case, table_of_cases
from maskwright.lab.bench.steps import step
from maskwright.lab.bench.timing import time_interleaved

REPEATS = 3


def run(quick: bool) -> list[Row]:
    """Forward, backward and AdamW, in bfloat16 where the processor has it, one thread."""
    dtype = torch.bfloat16 if has_bfloat16(torch.device("cpu")) else None
    return [compiled_row(table_of_cases(512 if quick else 2_048)["bert-128"](), dtype)]


def compiled_row(case: Case, dtype: torch.dtype | None) -> Row:
    """The padded model with the whole head, compiled for any length, against ours as it is."""
    set_seed(0)
    plain = case.make().train()
    ours, other = copy.deepcopy(plain), copy.deepcopy(plain)
    accelerate_model(ours, unpad=True)
    # without the default, recompilation for a second shape would make it dynamic only then
    compiled = torch.compile(plain, dynamic=True)
    shorter = {name: value[:, :-16].contiguous() for name, value in case.ragged.items()}
    compiling = []
    for batch in (case.ragged, shorter):
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            begin = time.perf_counter()
            loss = compiled(**batch).loss
            loss.backward()
            compiling.append(time.perf_counter() - begin)
            expected = other(**batch).loss
        torch.testing.assert_close(loss.detach(), expected.detach(), rtol=2e-2, atol=0)
    seconds = time_interleaved(
        {
            "ours": step(ours, case.ragged, dtype),
            "compiled": step(compiled, case.ragged, dtype),
            "padded": step(other, case.ragged, dtype),
        },
        repeats=REPEATS,
    )
    return ratio_row(
        f"{case.name}, against padded and compiled, full head",
        seconds["ours"],
        seconds["compiled"],
        note=f"s a step; torch.compile(dynamic=True): {compiling[0]:.0f} s until the first step "
        f"was done, {compiling[1]:.0f} s for one of another length; the padded step takes "
        f"{seconds['padded'] / seconds['compiled']:.2f} times as long without it. Ours is not "
        "compiled: the length of its row changes with every batch",
    )
