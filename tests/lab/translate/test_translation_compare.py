"""A comparison of masks, from pairs to the page."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from maskwright.errors import ConfigError, ResultsError
from maskwright.lab.translate import compare as room
from maskwright.lab.translate.jobs import plan_translation
from maskwright.lab.translate.preparation import prepare_pairs
from maskwright.report.translation import render_translation, write_translation_report
from tests.lab.translate import toy


def run_of(finished, name):
    return json.loads((finished.out / "runs" / name / "run.json").read_text())


def test_everything_that_was_asked_for_is_there(finished):
    results = finished.results
    assert [one["name"] for one in results["variants"]] == ["none", "random", "wait-k"]
    assert {found["policy"] for found in results["differences"]} == {"random", "wait-k"}
    metrics = {found["metric"] for found in results["differences"]}
    assert metrics == {"bleu", "chrf", "loss", "exposure"}
    for one in results["variants"]:
        assert len(one["runs"]) == 2
        assert one["runs"][0]["history"][-1]["step"] == results["steps"] == 6
        assert set(one["summary"]) == {"bleu", "chrf", "loss", "exposure", "perplexity"}
    [waiting] = [one for one in results["variants"] if one["name"] == "wait-k"]
    assert waiting["written"]["greedy"]["lagging"] > 0
    assert json.loads((finished.out / "results.json").read_text()) == results


def test_figures_are_those_of_the_runs(finished):
    runs = [run_of(finished, f"random/seed-{seed}") for seed in (0, 1)]
    [random] = [one for one in finished.results["variants"] if one["name"] == "random"]
    bleu = np.mean([run["final"]["bleu"] for run in runs])
    assert random["summary"]["bleu"]["mean"] == pytest.approx(bleu)
    loss = np.mean([run["final"]["loss"] for run in runs])
    assert random["summary"]["loss"]["mean"] == pytest.approx(loss)


def test_runs_of_a_seed_share_their_start_and_differ_in_masks(finished):
    """Masks change what is learned; the first point of each curve is the shared start's last."""
    for seed in (0, 1):
        start = json.loads((finished.out / f"warmup/seed-{seed}/run.json").read_text())
        for name in ("none", "random"):
            history = run_of(finished, f"{name}/seed-{seed}")["history"]
            assert history[0]["loss"] == pytest.approx(start["history"][-1]["loss"], abs=1e-6)
    one, other = (
        load_file(finished.out / f"runs/{name}/seed-0/model.safetensors")
        for name in ("none", "random")
    )
    assert any(not torch.equal(one[key], other[key]) for key in one)


def test_the_decoder_mask_is_not_on_what_a_model_is_judged_by(finished):
    """Held-out losses are of whole targets: none's and random's count the same tokens."""
    counts = [run_of(finished, f"{name}/seed-0")["sentences"]["count"] for name in
              ("none", "random", "wait-k")]  # fmt: skip
    assert counts[0] == counts[1] == counts[2]


def test_given_again_it_trains_nothing(finished, here, monkeypatch):
    monkeypatch.setattr(room, "execute", lambda *_: pytest.fail("it trained again"))
    again = room.compare_translation(finished.experiment, finished.out, command="x")
    for key in ("variants", "differences", "verdict", "bootstrap"):
        assert again[key] == finished.results[key]


def test_a_run_with_other_settings_is_not_overwritten(finished, here):
    other = finished.experiment.model_copy(
        update={"training": finished.experiment.training.model_copy(update={"steps": 7})}
    )
    with pytest.raises(ConfigError, match=r"training\.steps"):
        room.compare_translation(other, finished.out)


def test_the_page_has_it_all_and_nothing_from_elsewhere(finished, tmp_path):
    page = write_translation_report(finished.results, tmp_path / "r.html").read_text()
    for shown in ("wait-k", "Paired differences", "Where the decoder looked", "lagging"):
        assert shown in page
    assert finished.results["verdict"] in page
    assert "http" not in page.replace("http-equiv", "")
    assert render_translation(finished.results) == page


def test_maps_say_what_the_mask_forbids(finished):
    maps = {one["variant"]: one for one in finished.results["maps"]}
    assert maps["none"]["allowed"] is None
    allowed, weights = (np.array(maps["wait-k"][key]) for key in ("allowed", "weights"))
    assert allowed[0].sum() == 2
    assert (weights[allowed == 0] == 0).all()
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-2)


def test_results_of_another_format_are_refused(finished):
    with pytest.raises(ResultsError, match=r"maskwright\.translation/1"):
        render_translation({**finished.results, "format": "other"})
    with pytest.raises(ResultsError, match="lack a field"):
        render_translation({k: v for k, v in finished.results.items() if k != "variants"})


def test_no_test_source_is_trained_on(source):
    prepared = prepare_pairs(toy.experiment(source))
    train = set(prepared.train.lines.tolist())
    held_out = {pair.line for pair in prepared.test.pairs}
    assert not train & held_out
    assert len(prepared.test.sources) == len(prepared.test_rows) == 8


def test_jobs_have_all_that_a_result_depends_on(source, tmp_path):
    experiment = toy.experiment(source)
    prepared = prepare_pairs(experiment)
    _, [job] = plan_translation(experiment, prepared, tmp_path)
    wider = toy.experiment(source, decoder_masks={"none": {"description": "words"}})
    _, [same] = plan_translation(wider, prepared, tmp_path)
    assert job.spec == same.spec
    json.dumps(job.spec)
