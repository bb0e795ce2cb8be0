"""Measuring: what is compared is checked first, and the numbers are what they say."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest
import torch

from maskwright.errors import DataError, ModelError
from maskwright.hf import accelerate_model
from maskwright.lab.bench import bench as room
from maskwright.lab.bench.cases import Case
from maskwright.lab.bench.own_model import own_case
from maskwright.lab.bench.steps import PACKED, PADDED, PADDED_SAME, Measured, check, measure
from tests.lab.bench import tiny

KINDS = ("bert", "gpt2", "bart")
KNOWN = Measured(
    case="a",
    dtype="bf16",
    fill=0.25,
    seconds={"ours": 0.5, PADDED: 4.0, PADDED_SAME: 2.0, PACKED: 1.0},
    tokens={"ours": 1000, PADDED: 1000, PADDED_SAME: 1000, PACKED: 800},
    operations=2e9,
    peak=1e10,
    refusal=None,
)


@pytest.fixture(scope="module")
def cases(tmp_path_factory) -> dict[str, Case]:
    folders = {kind: tmp_path_factory.mktemp("models") / kind for kind in KINDS}
    return {
        kind: own_case(tiny.folder_of(kind, folder), length=32, slots=256)
        for kind, folder in folders.items()
    }


def test_ratios_and_rates():
    assert KNOWN.tokens_per_second == 2000
    assert KNOWN.per_thousand(PACKED) == 1.25
    assert [KNOWN.times_faster(name) for name in (PADDED, PADDED_SAME, PACKED)] == [8, 4, 2.5]
    assert replace(KNOWN, seconds={"ours": 0.5}).times_faster(PACKED) is None
    assert KNOWN.share_of_peak == pytest.approx(0.4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_a_case_is_measured(kind, dtype, cases):
    stages = []
    case = cases[kind]
    found = measure(case, dtype, unpad=True, repeats=1, told=stages.append)
    assert stages == ["checking", "timing"]
    wanted = {"ours", PADDED} | ({PADDED_SAME} if dtype else set())
    assert set(found.seconds) == set(found.tokens) == wanted | ({PACKED} if case.packed else set())
    assert found.dtype == ("fp32" if dtype is None else "bf16")
    assert 0.1 < found.fill < 0.95
    assert found.refusal is None
    assert min(*found.seconds.values(), found.operations, found.peak) > 0


def test_another_loss_is_not_timed(cases):
    case = cases["bert"]
    plain = case.make().train()
    ours = copy.deepcopy(plain)
    accelerate_model(ours)
    check(ours, plain, case.ragged, "same")
    assert all(p.grad is None for p in plain.parameters())
    with torch.no_grad():
        ours.bert.embeddings.word_embeddings.weight[5] += 0.1
    with pytest.raises(ModelError, match="other: mask-aware compute gives the loss"):
        check(ours, plain, case.ragged, "other")


def test_another_gradient_is_not_timed(cases):
    case = cases["bert"]
    plain = case.make().train()
    ours = copy.deepcopy(plain)
    accelerate_model(ours)
    ours.bert.encoder.layer[0].output.dense.weight.register_hook(lambda grad: 1.1 * grad)
    with pytest.raises(ModelError, match="or other gradients"):
        check(ours, plain, case.ragged, "other")


def test_a_batch_without_a_loss(cases):
    case = cases["bert"]
    nothing = case.ragged | {"labels": torch.full_like(case.ragged["labels"], -100)}
    with pytest.raises(DataError, match="tokens is predicted, so there is no loss"):
        measure(replace(case, ragged=nothing), None)


def test_the_table_as_text_and_as_a_file(tmp_path):
    refused = replace(KNOWN, case="b", refusal="It attends elsewhere.", seconds={"ours": 0.5})
    path = room.save([KNOWN, refused], tmp_path / "new", "maskwright bench", quick=True, took=12.4)
    text = path.read_text("utf-8")
    assert text == room.text_of([KNOWN, refused], 12.4)
    assert text.splitlines()[0].endswith("cores; took 12 s")
    first, second = text.splitlines()[3:5]
    assert first.split() == ["a", "bf16", "0.25", "2,000", "8.0×", "4.0×", "2.5×", "40%", "–"]
    assert second.split() == ["b", "bf16", "0.25", "2,000", "–", "–", "–", "40%", "–"]
    assert "b: padding was not left out. It attends elsewhere." in text
    saved = json.loads((tmp_path / "new" / "bench.json").read_text("utf-8"))
    assert saved["quick"] is True
    assert saved["took"] == 12.4
    assert saved["cases"][0]["times_faster"] == {PADDED: 8.0, PADDED_SAME: 4.0, PACKED: 2.5}
    assert saved["cases"][0]["share_of_peak"] == pytest.approx(0.4)
