"""A comparison of one policy computed in two ways: the same masks, and curves on one another."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml

from maskwright.errors import ConfigError
from maskwright.evaluation.statistics import Interval, verdict
from maskwright.lab import compare as room
from maskwright.lab.compare import to_yaml
from maskwright.lab.config import parse
from maskwright.lab.policy import Policy
from maskwright.lab.replay import replay
from maskwright.lab.results import overall_verdict
from maskwright.lab.same_masks import same_masks
from maskwright.lab.settings import load
from maskwright.report.tables import same_masks_sentences
from tests.lab import tiny

PLAIN = {"rate": 0.3, "mask_aware": False}
USUAL = {"rate": 0.3}
AWARE = {"rate": 0.3, "mask_aware": True}


@pytest.fixture(scope="module")
def compared(text, tmp_path_factory):
    out = tmp_path_factory.mktemp("aware") / "out"
    experiment = tiny.experiment(
        text,
        policies={"plain": PLAIN, "mask-aware": AWARE, "more": {"rate": 0.5}},
        reference="plain",
        warmup=None,
        regimes=[{"name": "once", "tokens": 800, "steps": 8}],
        evaluation={"tokens": 500, "every": 4},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "run_all", tiny.run_here)
        return out, room.compare(experiment, out)


def test_the_curves_lie_on_one_another_and_the_masks_are_the_same(compared):
    out, results = compared
    [regime] = results["regimes"]
    [found] = regime["same_masks"]  # the third policy draws others
    assert found["policies"] == ["plain", "mask-aware"]
    assert 0 <= found["final"] <= found["largest"] < 1e-4
    assert found["largest"] == max(found["per_seed"])
    by_name = {policy["name"]: policy for policy in regime["policies"]}
    for mine, theirs in zip(by_name["mask-aware"]["runs"], by_name["plain"]["runs"], strict=True):
        assert [p["predicted"] for p in mine["history"]] == [
            p["predicted"] for p in theirs["history"]
        ]
    one, other = (replay(out / f"runs/once/{name}/seed-0", 5) for name in ("plain", "mask-aware"))
    np.testing.assert_array_equal(one.positions, other.positions)
    assert abs(by_name["more"]["runs"][0]["final"]["loss"]
               - by_name["plain"]["runs"][0]["final"]["loss"]) > found["largest"]  # fmt: skip


def test_it_really_was_computed_in_the_other_way(compared, monkeypatch):
    from maskwright.hf import predicted_loss as trainer_room
    from maskwright.hf.compute import mask_aware as part

    out, _ = compared
    spec = json.loads((out / "runs/once/mask-aware/seed-0/run.json").read_text())["spec"]
    assert spec["policy"]["mask_aware"] is True
    spec = json.loads((out / "runs/once/plain/seed-0/run.json").read_text())["spec"]
    assert spec["policy"]["mask_aware"] is False
    spec = json.loads((out / "runs/once/more/seed-0/run.json").read_text())["spec"]
    assert "mask_aware" not in spec["policy"]  # as in runs of before there was the setting
    steps, real = [], part.MaskAwareStep.installed

    def counted(self):
        steps.append(self.head)
        return real(self)

    monkeypatch.setattr(part.MaskAwareStep, "installed", counted)
    from maskwright.lab.train import train

    experiment = parse(yaml.safe_load((out / "experiment.yaml").read_text()))
    heads, usual = [], trainer_room.predicted_only

    def seen(*arguments, **others):
        heads.append(arguments)
        return usual(*arguments, **others)

    monkeypatch.setattr(trainer_room, "predicted_only", seen)
    train(experiment, out.parent / "model", policy="plain", steps=2)
    assert not steps
    assert not heads  # all logits are computed
    train(experiment, out.parent / "usual", policy="more", steps=2)
    assert len(heads) == 2
    train(experiment, out.parent / "aware", policy="mask-aware", steps=2)
    assert len(steps) >= 2
    assert all(head is not None for head in steps)


def test_the_report_says_how_far_they_are_apart(compared):
    [regime] = compared[1]["regimes"]
    [sentence] = same_masks_sentences(regime)
    assert sentence.startswith("plain and mask-aware draw the same masks. Their curves differ by")
    del regime["same_masks"]  # results of an earlier version
    assert same_masks_sentences(regime) == []


def test_the_largest_difference_is_found_where_it_is():
    def run(seed, *losses):
        points = [{"step": 10 * k, "loss": loss} for k, loss in enumerate(losses)]
        return {"spec": {"seed": seed}, "history": points}

    given = {"a": PLAIN, "b": AWARE, "c": PLAIN}
    policies = {name: Policy.model_validate(one) for name, one in given.items()}
    assert not same_masks({"a": Policy.model_validate(USUAL), "b": Policy(rate=0.4)}, {})
    runs = {
        "a": [run(3, 5.0, 4.0, 3.0), run(7, 5.0, 4.0, 3.0)],
        "b": [run(3, 5.0, 4.25, 3.0), run(7, 5.0, 4.0, 2.875)],
        "c": [run(3, 5.0, 4.0, 3.0), run(7, 5.0, 4.0, 3.0)],
    }
    first, second = same_masks(policies, runs)  # not a with c: they are computed alike
    assert first == {
        "policies": ["a", "b"], "metric": "loss", "largest": 0.25, "seed": 3, "step": 10,
        "per_seed": [0.25, 0.125], "final": 0.125,
    }  # fmt: skip
    assert second["policies"] == ["b", "c"]


def test_rounding_is_no_verdict(compared):
    rounding = Interval(2e-5, 1e-5, 3e-5)
    assert verdict(rounding, [2e-5, 2e-5], lower_is_better=True) == "worse"
    assert verdict(rounding, [2e-5, 2e-5], lower_is_better=True, least=5e-4) == "no difference"
    real = Interval(-2e-3, -3e-3, -1e-3)
    assert verdict(real, [-2e-3, -2e-3], lower_is_better=True, least=5e-4) == "better"
    assert "no difference for mask-aware (0.000)" in overall_verdict(compared[1]["regimes"])


def test_the_setting_comes_back_from_a_file_and_is_refused_beside_replaced_tokens(text):
    experiment = load(preset="mask-aware")
    assert experiment.policies["mask-aware"].mask_aware
    again = parse(yaml.safe_load(to_yaml(experiment)))
    assert again == experiment
    guided = Policy(recipe="loss-guided", mask_aware=True)
    assert guided.model_dump()["mask_aware"] is True
    both = {"rate": 0.3, "mask_aware": True, "replaced_tokens": {"weight": 5}}
    with pytest.raises(ConfigError, match=r"policies\.both: .*Leave one of them out"):
        tiny.experiment(text, policies={"both": both}, reference="both")
