"""Fine-tuning on tasks: what is judged, that policies of a seed share all else, that it goes on."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from maskwright.data.labelled import labelled
from maskwright.errors import ConfigError, DataError, ModelError
from maskwright.lab import compare as room
from maskwright.lab import fine_tune as tuning
from maskwright.lab.config import parse
from maskwright.lab.fine_tune import TaskJob, answers_of, fine_tune, load_classifier
from maskwright.lab.tasks import START
from maskwright.lab.work import finished as result_of
from tests.lab import tiny

RESULT = "task-sides.json"
# "up" has other words than "down"
ROWS = [
    (" ".join(tiny.WORDS[(5 * k * row + row + k) % 9 + 9 * (row % 2)] for k in range(6)), row % 2)
    for row in range(180)
]


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    path = tmp_path_factory.mktemp("task") / "sides.csv"
    lines = [f"{text} {number},{('down', 'up')[side]}" for number, (text, side) in enumerate(ROWS)]
    path.write_text("text,label\n" + "\n".join(lines) + "\n", "utf-8")
    return {
        "name": "sides", "source": str(path), "train": 48, "test": 30, "epochs": 2,
        "batch_size": 8, "learning_rate": 3e-3,
    }  # fmt: skip


REGIMES = [{"name": "often", "title": "Text seen often", "tokens": 250, "steps": 4}]


def small(text, *tasks, **changes):
    return tiny.experiment(text, **{"regimes": REGIMES, "tasks": list(tasks)} | changes)


@pytest.fixture(scope="module")
def judged(text, task, tmp_path_factory):
    """A comparison of two policies and two seeds, with one task. Do not write to it."""
    out = tmp_path_factory.mktemp("judged") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "run_all", tiny.run_here)
        return out, room.compare(small(text, task), out)


def copied(judged, tmp_path):
    shutil.copytree(judged[0], tmp_path / "out")
    return tmp_path / "out"


class Counted(room.Watcher):
    """The names of the work that was done."""

    def __init__(self):
        self.names = []

    def event(self, event):
        if event.done:
            self.names.append(event.job.name)


# -- what is in the results -------------------------------------------------------------------


def test_every_policy_and_the_shared_start_are_judged_for_each_seed(judged):
    _, results = judged
    [facts] = results["tasks"]
    assert (facts["train"], facts["test"], facts["labels"]) == (48, 30, ["down", "up"])
    [regime] = results["regimes"]
    [of_task] = regime["tasks"]
    assert [policy["name"] for policy in of_task["policies"]] == [*tiny.POLICIES, START]
    for policy in of_task["policies"]:
        for metric in ("accuracy", "macro_f1"):
            summary, seeds = policy["summary"][metric], policy["per_seed"][metric]
            assert len(seeds) == len(tiny.SEEDS)
            assert summary["mean"] == pytest.approx(np.mean(seeds))
            assert summary["low"] <= summary["mean"] <= summary["high"]
        assert policy["cost"]["seconds"] > 0
    assert [(d["policy"], d["metric"]) for d in of_task["differences"]] == [
        (name, metric) for name in ("static", START) for metric in ("accuracy", "macro_f1")
    ]


def test_differences_are_those_of_the_answers_that_were_kept(judged):
    out, results = judged
    [of_task] = results["regimes"][0]["tasks"]
    kept = {
        (policy, seed): json.loads((out / f"runs/often/{policy}/seed-{seed}" / RESULT).read_text())
        for policy in tiny.POLICIES
        for seed in tiny.SEEDS
    }
    one = kept["dynamic", 0]
    assert all(other["truth"] == one["truth"] for other in kept.values())
    right = np.mean(np.array(one["truth"]) == np.array(one["answers"]))
    assert one["final"]["accuracy"] == right
    assert one["final"]["macro_f1"] == f1_score(one["truth"], one["answers"], average="macro")
    for difference in of_task["differences"][:2]:
        by_hand = [
            kept["static", seed]["final"][difference["metric"]]
            - kept["dynamic", seed]["final"][difference["metric"]]
            for seed in tiny.SEEDS
        ]
        assert difference["per_seed"] == pytest.approx(by_hand)


def test_the_task_is_learned(judged):
    """Two classes of other words: the encoders must do better than a constant answer."""
    _, results = judged
    [of_task] = results["regimes"][0]["tasks"]
    means = [policy["summary"]["accuracy"]["mean"] for policy in of_task["policies"]]
    assert np.mean(means) > results["tasks"][0]["majority"] + 0.1


def test_without_tasks_nothing_is_fine_tuned(finished):
    assert finished.results["tasks"] == []
    assert [regime["tasks"] for regime in finished.results["regimes"]] == [[], []]
    assert not list(finished.out.rglob("task-*.json"))


# -- like with like ---------------------------------------------------------------------------


def job_of(judged, task, policy="dynamic", seed=0, **settings):
    folder = judged[0] / f"runs/often/{policy}/seed-{seed}"
    run = json.loads((folder / "run.json").read_text())["spec"]
    rows = [(f"{text} {n}", ("down", "up")[side]) for n, (text, side) in enumerate(ROWS)]
    examples = labelled("sides", "", {"train": rows}).draw(24, 8)
    usual = {"epochs": 1, "batch_size": 8, "learning_rate": 1e-3, "max_length": 32}
    spec = {"run": run, "settings": usual | settings, "examples": examples.fingerprint}
    return TaskJob("a", "sides", folder, spec, examples)


def test_new_weights_depend_on_the_seed_alone(judged, task):
    def head(policy, seed):
        job = job_of(judged, task, policy)
        return load_classifier(job.folder, ("down", "up"), seed)

    one, other = head("static", 5), head("dynamic", 5)
    assert torch.equal(one.classifier.weight, other.classifier.weight)
    embeddings = [model.get_input_embeddings().weight for model in (one, other)]
    assert not torch.equal(*embeddings)  # the encoders are those of the runs
    assert not torch.equal(one.classifier.weight, head("static", 6).classifier.weight)
    assert one.config.id2label == {0: "down", 1: "up"}


def test_policies_of_a_seed_see_the_examples_in_one_order(judged, task, tmp_path, monkeypatch):
    from transformers import AutoTokenizer

    seen = []
    collate = tuning.DataCollatorWithPadding.__call__

    def spy(self, features):
        batch = collate(self, features)
        seen[-1].append(batch["input_ids"].tolist())
        return batch

    monkeypatch.setattr(tuning.DataCollatorWithPadding, "__call__", spy)
    out = copied(judged, tmp_path)
    for policy, seed in (("static", 0), ("dynamic", 0), ("dynamic", 1)):
        job = job_of((out, None), task, policy, seed)
        seen.append([])
        fine_tune(job, AutoTokenizer.from_pretrained(job.folder), lambda *_: None)
    assert seen[0] == seen[1]
    assert seen[1] != seen[2]
    assert seen[1][-1] == seen[2][-1]  # the test examples stay


def test_the_same_again_bit_for_bit_and_nothing_but_the_result_is_written(judged, task, tmp_path):
    from transformers import AutoTokenizer

    out = copied(judged, tmp_path)
    job = job_of((out, None), task)
    before = set(tiny.contents(job.folder))
    tokenizer = AutoTokenizer.from_pretrained(job.folder)
    steps = []
    first = fine_tune(job, tokenizer, lambda step, value: steps.append((step, value)))
    second = fine_tune(job, tokenizer, lambda *_: None)
    assert (first["answers"], first["final"]) == (second["answers"], second["final"])
    assert set(tiny.contents(job.folder)) == before
    assert steps[-1] == (3, first["final"]["accuracy"]) == (job.total_steps, steps[-1][1])
    assert result_of(job) == second


def test_a_bert_is_fine_tuned_too(tmp_path):
    from transformers import BertConfig, BertForMaskedLM

    from tests.core.tokenizers import wordpiece

    tokenizer = wordpiece()
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=32,
    )  # fmt: skip
    BertForMaskedLM(config).save_pretrained(tmp_path)
    rows = [(f"{text} {n}", ("down", "up")[side]) for n, (text, side) in enumerate(ROWS)]
    examples = labelled("sides", "", {"train": rows}).draw(16, 8)
    settings = {"epochs": 1, "batch_size": 8, "learning_rate": 1e-3, "max_length": 12}
    job = TaskJob("a", "sides", tmp_path, {"run": {"seed": 3}, "settings": settings}, examples)
    result = fine_tune(job, tokenizer, lambda *_: None)
    assert len(result["answers"]) == 8
    assert torch.equal(
        load_classifier(tmp_path, "ab", 1).bert.pooler.dense.weight,
        load_classifier(tmp_path, "ab", 1).bert.pooler.dense.weight,
    )


def test_an_output_that_is_not_finite_is_a_wrong_answer():
    logits = np.array([[1.0, 2.0], [np.nan, 0.0], [np.inf, 0.0], [3.0, 2.0]])
    assert answers_of(logits) == [1, -1, -1, 0]
    assert tuning.scores([1, 0, 0, 0], [1, -1, -1, 0])["accuracy"] == 0.5


def test_an_encoder_that_cannot_be_read(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"cannot be fine-tuned: .*delete it"):
        load_classifier(tmp_path, "ab", 0)


# -- going on ---------------------------------------------------------------------------------


def test_finished_work_is_not_repeated(judged, text, task, tmp_path, here):
    out = copied(judged, tmp_path)
    before = tiny.contents(out / "runs")
    watcher = Counted()
    results = room.compare(small(text, task), out, watcher=watcher)
    assert watcher.names == []
    assert tiny.contents(out / "runs") == before
    assert results["regimes"][0]["tasks"] == judged[1]["regimes"][0]["tasks"]


def test_another_task_in_the_same_folder_trains_nothing_again(judged, text, task, tmp_path, here):
    out = copied(judged, tmp_path)
    watcher = Counted()
    other = task | {"name": "again", "epochs": 1}
    results = room.compare(small(text, task, other), out, watcher=watcher)
    assert len(watcher.names) == 6
    assert all(name.endswith(" on again") for name in watcher.names)
    assert [found["name"] for found in results["regimes"][0]["tasks"]] == ["sides", "again"]


def test_what_was_interrupted_goes_on_with_the_rest(judged, text, task, tmp_path, here):
    out = copied(judged, tmp_path)
    (out / "runs/often/static/seed-1" / RESULT).unlink()
    shutil.rmtree(out / "runs/often/dynamic/seed-0")  # run and task
    watcher = Counted()
    results = room.compare(small(text, task), out, watcher=watcher)
    assert set(watcher.names) == {
        "often/dynamic/seed-0",
        "often/static/seed-1 on sides",
        "often/dynamic/seed-0 on sides",
    }
    for mine, theirs in zip(
        results["regimes"][0]["tasks"][0]["policies"],
        judged[1]["regimes"][0]["tasks"][0]["policies"],
        strict=True,
    ):
        assert mine["per_seed"] == theirs["per_seed"]
    assert tiny.half_written(out) == []


def test_a_run_that_is_trained_again_is_judged_again(judged, text, task, tmp_path, here):
    out = copied(judged, tmp_path)
    (out / "runs/often/static/seed-1/run.json").unlink()
    watcher = Counted()
    room.compare(small(text, task), out, watcher=watcher)
    assert set(watcher.names) == {"often/static/seed-1", "often/static/seed-1 on sides"}


def test_other_settings_of_a_task_are_refused(judged, text, task, tmp_path, here):
    out = copied(judged, tmp_path)
    for change in ({"epochs": 3}, {"test": 29}):
        with pytest.raises(ConfigError, match=r"task-sides\.json was made with other settings"):
            room.compare(small(text, task | change), out)
    assert tiny.contents(out / "runs") == tiny.contents(judged[0] / "runs")


@pytest.mark.slow
def test_worker_processes_fine_tune_after_the_run(text, task, tmp_path):
    """Real workers: what a fine-tuning needs is done before, and the display hears of it."""
    watcher = Counted()
    experiment = small(text, task | {"epochs": 1}, seeds=[0], warmup=None)
    results = room.compare(experiment, tmp_path / "out", watcher=watcher)
    order = watcher.names
    assert len(order) == 4
    for policy in tiny.POLICIES:
        run = f"often/{policy}/seed-0"
        assert order.index(run) < order.index(f"{run} on sides")
    names = [policy["name"] for policy in results["regimes"][0]["tasks"][0]["policies"]]
    assert names == list(tiny.POLICIES)  # there was no warm-up


# -- settings ---------------------------------------------------------------------------------

MINIMAL = {"policies": {"dynamic": {}}, "regimes": [{"name": "a", "tokens": 10, "steps": 1}]}


@pytest.mark.parametrize(
    "tasks, message",
    [
        ([{"name": "a"}], r"tasks\.0\.source is missing"),
        ([{"name": "A b", "source": "x"}], r"tasks\.0\.name"),
        ([{"name": "a", "source": "x", "sources": 1}], r"Did you mean 'tasks\.0\.source'"),
        ([{"name": "a", "source": "x", "train": 1}], r"tasks\.0\.train.*got 1"),
        ([{"name": "a", "source": "questions", "only": "imdb"}], r"tasks\.0: only='imdb' picks"),
        ([{"name": "a", "source": "x"}, {"name": "a", "source": "y"}], "must differ"),
        ([{"name": "a", "source": "x", "max_length": 999}], r"max_length=999 .*max_length=128"),
    ],
)
def test_settings_that_are_refused(tasks, message):
    with pytest.raises(ConfigError, match=message):
        parse(MINIMAL | {"tasks": tasks})


def test_data_that_cannot_be_had_stop_before_training(text, task, tmp_path, here):
    with pytest.raises(DataError, match=r"Task sides: .*train examples, not 5,000"):
        room.compare(small(text, task | {"train": 5000}), tmp_path / "out")
    assert not list(tmp_path.rglob("run.json"))


# -- bf16 -------------------------------------------------------------------------------------


def test_training_in_bf16_keeps_weights_and_evaluation_in_fp32(text, tmp_path, here):
    from safetensors.torch import load_file

    from maskwright.lab.evaluate import evaluate

    finals = {}
    for bf16 in (False, True):
        training = {"batch_size": 4, "warmup_steps": 2, "bf16": bf16}
        experiment = small(
            text, training=training, seeds=[0], warmup=None, policies={"dynamic": {"rate": 0.3}}
        )
        out = tmp_path / str(bf16)
        [policy] = room.compare(experiment, out)["regimes"][0]["policies"]
        finals[bf16] = policy["runs"][0]["final"]["loss"]
        folder = out / "runs/often/dynamic/seed-0"
        assert {t.dtype for t in load_file(folder / "model.safetensors").values()} == {
            torch.float32
        }
        assert evaluate(folder).reproduced  # to the last bit, in a process without autocast
    assert finals[True] != finals[False]
    assert finals[True] == pytest.approx(finals[False], abs=0.05)
