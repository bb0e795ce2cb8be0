"""A finished comparison: what it wrote, and that it compared like with like."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

from maskwright.data.tokenizer import tokenizer_fingerprint
from maskwright.errors import ConfigError
from maskwright.lab import compare as room
from maskwright.lab.run import RUN_FILE
from maskwright.report import write_report
from tests.lab import tiny


def record(finished, name):
    return json.loads((finished.out / name / RUN_FILE).read_text())


def runs_of(finished):
    return {
        (regime, policy, seed): record(finished, f"runs/{regime}/{policy}/seed-{seed}")
        for regime in ("once", "often")
        for policy in tiny.POLICIES
        for seed in tiny.SEEDS
    }


# -- what was written ---------------------------------------------------------------------


def test_the_results_file_is_what_was_returned(finished):
    assert json.loads((finished.out / "results.json").read_text()) == finished.results


def test_the_results_have_everything_that_the_report_reads(finished):
    results = finished.results
    assert set(results) == {
        "format", "created", "command", "versions", "machine", "experiment", "model", "vocabulary",
        "data", "evaluation", "unigram", "warmup", "tasks", "regimes", "examples", "verdict",
        "seconds",
    }  # fmt: skip
    assert [regime["name"] for regime in results["regimes"]] == ["once", "often"]
    for regime in results["regimes"]:
        assert set(regime) == {
            "name", "title", "explanation", "tokens", "epochs", "steps", "reference", "policies",
            "differences", "matched", "reached", "same_masks", "tasks", "verdict",
        }  # fmt: skip
        assert [policy["name"] for policy in regime["policies"]] == list(tiny.POLICIES)
        for policy in regime["policies"]:
            assert set(policy) == {"name", "description", "runs", "summary", "cost"}
            assert [run["seed"] for run in policy["runs"]] == list(tiny.SEEDS)
            for run in policy["runs"]:
                assert set(run) == {"seed", "history", "training", "timing", "final", "cost"}
                assert run["history"][0]["step"] == 0
                assert run["history"][-1]["loss"] == run["final"]["loss"]
                assert run["cost"]["predicted_tokens"] < run["cost"]["tokens"]
        assert [(d["policy"], d["metric"]) for d in regime["differences"]] == [
            ("static", "loss"),
            ("static", "accuracy"),
        ]
    assert results["experiment"] == finished.experiment.model_dump(mode="json")


def test_a_difference_is_the_mean_of_what_the_seeds_say(finished):
    for regime in finished.results["regimes"]:
        finals = {
            policy["name"]: [run["final"] for run in policy["runs"]]
            for policy in regime["policies"]
        }
        for difference in regime["differences"]:
            key = difference["metric"]
            by_hand = [
                mine[key] - other[key]
                for mine, other in zip(finals["static"], finals["dynamic"], strict=True)
            ]
            assert difference["per_seed"] == pytest.approx(by_hand, abs=1e-12)
            assert difference["mean"] == pytest.approx(np.mean(by_hand), abs=1e-12)
            assert difference["low"] <= difference["mean"] <= difference["high"]


def test_the_report_is_written_from_it(finished, tmp_path):
    page = write_report(finished.results, tmp_path / "report.html").read_text()
    assert "Text seen often" in page
    assert finished.results["evaluation"]["fingerprint"] in page


def test_nothing_temporary_is_left(finished):
    assert tiny.half_written(finished.out) == []
    assert not list(finished.out.rglob("checkpoints"))


def test_a_model_loads_anywhere_with_its_tokenizer(finished):
    folder = finished.out / "runs/often/dynamic/seed-1"
    model, tokenizer = (
        kind.from_pretrained(folder) for kind in (AutoModelForMaskedLM, AutoTokenizer)
    )
    logits = model(**tokenizer("the state of the nation", return_tensors="pt")).logits
    assert logits.shape[-1] == len(tokenizer)
    assert tokenizer_fingerprint(tokenizer) == finished.results["vocabulary"]["fingerprint"]


# -- like with like -------------------------------------------------------------------------


def test_static_and_dynamic_are_one_policy_where_text_is_seen_once(finished):
    runs = runs_of(finished)
    for seed in tiny.SEEDS:
        static, dynamic = runs["once", "static", seed], runs["once", "dynamic", seed]
        assert static["final"] == dynamic["final"]
        assert static["documents"] == dynamic["documents"]
    [regime, _] = finished.results["regimes"]
    for difference in regime["differences"]:
        assert (difference["mean"], difference["low"], difference["high"]) == (0, 0, 0)
        assert difference["verdict"] == "no difference"
    assert "0.000" in regime["verdict"]
    assert "+0.000" not in regime["verdict"]


def test_they_differ_where_text_comes_again(finished):
    runs = runs_of(finished)
    for seed in tiny.SEEDS:
        static, dynamic = runs["often", "static", seed], runs["often", "dynamic", seed]
        assert static["history"][0] == dynamic["history"][0]  # the shared start
        assert static["final"] != dynamic["final"]


def test_every_run_was_judged_on_the_same_positions(finished):
    runs = [
        *runs_of(finished).values(),
        *(record(finished, f"warmup/seed-{seed}") for seed in tiny.SEEDS),
    ]
    assert {run["spec"]["evaluation"]["fingerprint"] for run in runs} == {
        finished.results["evaluation"]["fingerprint"]
    }
    assert len({tuple(run["documents"]["count"]) for run in runs}) == 1
    assert sum(runs[0]["documents"]["count"]) == finished.results["evaluation"]["predicted"]


def test_policies_of_a_seed_start_from_the_warm_up_and_seeds_do_not(finished):
    runs = runs_of(finished)
    starts = {seed: record(finished, f"warmup/seed-{seed}")["final"] for seed in tiny.SEEDS}
    for (_, _, seed), run in runs.items():
        assert run["history"][0]["loss"] == starts[seed]["loss"]
    assert starts[0] != starts[1]


def test_policies_of_a_seed_see_the_same_samples_in_the_same_order(finished):
    """The same number of tokens is read at each step, though the masks differ."""
    runs = runs_of(finished)
    for seed in tiny.SEEDS:
        tokens = {runs["often", policy, seed]["cost"]["tokens"] for policy in tiny.POLICIES}
        assert len(tokens) == 1


def test_without_a_warm_up_weights_depend_on_the_seed_alone(text, tmp_path, here):
    experiment = tiny.experiment(
        text, warmup=None, regimes=[{"name": "a", "tokens": 250, "steps": 1}]
    )
    results = room.compare(experiment, tmp_path / "out")
    first = {
        (policy["name"], run["seed"]): run["history"][0]["loss"]
        for policy in results["regimes"][0]["policies"]
        for run in policy["runs"]
    }
    assert first["static", 0] == first["dynamic", 0]
    assert first["static", 1] == first["dynamic", 1]
    assert first["static", 0] != first["static", 1]
    assert results["warmup"] is None


# -- again ------------------------------------------------------------------------------------


class Seen(room.Watcher):
    def __init__(self):
        self.done = set()

    def begin(self, jobs, done):
        self.done = done


def test_a_finished_comparison_is_not_repeated_and_starts_no_process(finished, monkeypatch):
    before = tiny.contents(finished.out / "runs")

    def no_process(*_):
        raise AssertionError("a worker was started")

    monkeypatch.setattr("multiprocessing.context.SpawnProcess.start", no_process)
    seen = Seen()
    again = room.compare(finished.experiment, finished.out, command="again", watcher=seen)
    assert len(seen.done) == 10
    assert tiny.contents(finished.out / "runs") == before
    for key in finished.results.keys() - {"created", "command"}:
        assert again[key] == finished.results[key]


def test_processes_change_nothing(finished, text, tmp_path, here):
    """The same comparison in this process has the same losses, bit for bit."""
    results = room.compare(tiny.experiment(text), tmp_path / "out")
    for mine, theirs in zip(results["regimes"], finished.results["regimes"], strict=True):
        assert mine["differences"] == theirs["differences"]
        for one, other in zip(mine["policies"], theirs["policies"], strict=True):
            assert [r["history"] for r in one["runs"]] == [r["history"] for r in other["runs"]]
            assert [r["final"] for r in one["runs"]] == [r["final"] for r in other["runs"]]


def test_other_settings_in_the_same_folder_name_what_changed(finished, text):
    before = tiny.contents(finished.out)
    other = tiny.experiment(
        text, training={"batch_size": 4, "warmup_steps": 2, "learning_rate": 0.5}
    )
    with pytest.raises(ConfigError, match=r"seed-0 holds .*\(training\.learning_rate\)"):
        room.compare(other, finished.out)
    assert tiny.contents(finished.out) == before


def test_more_policies_in_the_same_folder_keep_what_was_run(finished, text, tmp_path, here):
    import shutil

    out = tmp_path / "out"
    shutil.copytree(finished.out, out)
    before = tiny.contents(out / "runs")
    policies = tiny.settings(text)["policies"] | {"high": {"rate": 0.5}}
    seen = Seen()
    results = room.compare(tiny.experiment(text, policies=policies), out, watcher=seen)
    assert len(seen.done) == 10
    assert [policy["name"] for policy in results["regimes"][0]["policies"]][-1] == "high"
    after = tiny.contents(out / "runs")
    assert {name: after[name][1] for name in before} == {n: c for n, (_, c) in before.items()}


def test_a_folder_of_somebody_else_is_not_written_to(text, tmp_path):
    out = tmp_path / "out"
    (out / "tokenizer").mkdir(parents=True)
    (out / "tokenizer" / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"not the folder of a comparison .*tokenizer"):
        room.compare(tiny.experiment(text), out)
    assert list(tiny.contents(out)) == ["tokenizer/mine.txt"]


def test_one_policy_and_one_seed_have_no_verdict(text, tmp_path, here):
    policies = {"dynamic": {"rate": 0.3}}
    one = tiny.experiment(text, policies=policies, seeds=[0])
    assert "Only dynamic was run" in room.compare(one, tmp_path / "a")["verdict"]
    alone = tiny.experiment(text, seeds=[0])
    results = room.compare(alone, tmp_path / "b")
    assert "one seed: no verdict is possible" in results["verdict"]
    assert {d["verdict"] for r in results["regimes"] for d in r["differences"]} == {"no difference"}


def test_the_threads_of_this_process_are_left_alone(finished):
    assert torch.get_num_threads() == 1
