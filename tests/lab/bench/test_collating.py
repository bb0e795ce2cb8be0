"""The batch whose making is timed is the one whose step is timed, with masks of ours."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from maskwright.errors import ModelError
from maskwright.lab.bench.bench import rows_of
from maskwright.lab.bench.cases import masked, pairs, prompted
from maskwright.lab.bench.own_model import own_case
from maskwright.lab.bench.steps import PADDED, Measured, measure
from maskwright.lab.bench.texts import Language
from tests.lab.bench import tiny

LANGUAGE = Language.hashed(1000)
CASES = {
    "masked": lambda: masked("m", None, LANGUAGE, 64, 1024, 0.15),
    "prompted": lambda: prompted("p", None, LANGUAGE, 64, 512),
    "pairs": lambda: pairs("q", None, LANGUAGE, 64, 32, 512),
}


@pytest.mark.parametrize("kind", CASES)
def test_the_same_texts_are_collated(kind):
    case = CASES[kind]()
    assert case.collate is not None
    batch = case.collate()
    real = case.ragged["attention_mask"] == 1
    longest = int(real.sum(1).max())  # it pads to the longest text only
    torch.testing.assert_close(batch["attention_mask"], real[:, :longest].long())
    assert batch["input_ids"].shape == batch["attention_mask"].shape
    assert 0 < (batch["labels"] != -100).sum() < real.sum()


def test_masks_are_drawn_for_it():
    case = CASES["masked"]()
    batch = case.collate()
    share = (batch["labels"] != -100).sum() / batch["attention_mask"].sum()
    assert 0.08 < share < 0.25
    assert (batch["input_ids"] == LANGUAGE.tokenizer.mask_token_id).any()


def test_it_is_measured_beside_the_step_and_told(tmp_path):
    case = own_case(tiny.folder_of("bert", tmp_path / "bert"), length=32, slots=128)
    found = measure(case, None, repeats=1)
    assert found.collation is not None
    assert found.collation > 0
    assert found.share_of_collation == found.collation / found.seconds["ours"]
    [row] = rows_of([found])
    assert row["collating"] == f"{found.share_of_collation:.2%}"
    other = replace(case, collate=CASES["masked"]().collate)
    with pytest.raises(ModelError, match="other texts are collated"):
        measure(other, None, repeats=1)


def test_without_a_policy_nothing_is_told():
    found = Measured(
        case="a", dtype="fp32", fill=0.3, seconds={"ours": 1.0, PADDED: 2.0},
        tokens={"ours": 10, PADDED: 10}, operations=1.0, peak=1.0, refusal=None,
    )  # fmt: skip
    assert found.share_of_collation is None
    assert rows_of([found])[0]["collating"] == "–"
    assert replace(found, collation=0.02).share_of_collation == 0.02
