"""What `python -m benchmarks mask_aware` claims, from times that are given."""

from __future__ import annotations

import pytest
import torch

from benchmarks.compiled import compiled_row
from benchmarks.mask_aware import BARS, SLOTS, rows_of
from maskwright.lab.bench.own_model import own_case
from maskwright.lab.bench.steps import PACKED, PADDED, Measured
from tests.lab.bench import tiny

FOUND = Measured(
    case="a", dtype="bf16", fill=0.25, seconds={"ours": 0.5, PADDED: 4.0, PACKED: 1.0},
    tokens={"ours": 1000, PADDED: 1000, PACKED: 1000}, operations=2e9, peak=1e10, refusal=None,
    collation=0.002,
)  # fmt: skip


def test_a_row_for_each_step_and_one_for_collation():
    padded, packed, collation = rows_of(FOUND, {PADDED: 8.0, PACKED: 2.5}, 0.01)
    assert (padded.ratio, padded.held) == (8.0, True)
    assert (packed.ratio, packed.held) == (2.0, False)
    assert "40% of a matrix product's speed (MFU), collation 0.40% of the step" in packed.note
    assert collation.ratio == pytest.approx(2.5)
    assert (collation.bar, collation.held) == (1.0, True)
    slow = rows_of(FOUND, {}, 0.003)[-1]
    assert slow.held is False


def test_a_quick_run_claims_nothing():
    assert all(row.held is None for row in rows_of(FOUND, {}, None))


def test_every_claim_is_of_a_case_that_is_measured():
    assert set(BARS) == set(SLOTS)


@pytest.mark.slow
@pytest.mark.timeout(1200)  # it compiles a model, twice
def test_a_compiled_step_is_compared(tmp_path):
    case = own_case(tiny.folder_of("bert", tmp_path / "bert"), length=64, slots=256)
    row = compiled_row(case, None)
    assert row.ratio is not None
    assert row.held is None
    assert "until the first step was done" in row.note
    torch._dynamo.reset()
