"""Guided policies in an experiment: as any other, resumable, and replayed from what they kept."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from maskwright.corruption import mlm
from maskwright.data.table import TokenTable
from maskwright.errors import ConfigError, ResultsError
from maskwright.lab import compare as compare_room
from maskwright.lab import run as run_room
from maskwright.lab.compare import to_yaml
from maskwright.lab.config import parse
from maskwright.lab.evaluate import evaluate
from maskwright.lab.guided import kept_scores
from maskwright.lab.jobs import plan_jobs
from maskwright.lab.preparation import prepare
from maskwright.lab.replay import replay
from maskwright.lab.run import execute, last_checkpoint
from maskwright.lab.settings import load
from maskwright.lab.train import train
from maskwright.report import write_report
from tests.lab import tiny

ATTENTION = {"recipe": "attention-guided", "rate": 0.3, "start_rate": 0.3}
LOSS = {"recipe": "loss-guided", "rate": 0.3}
POLICIES = {"dynamic": {"rate": 0.3}, "attention": ATTENTION, "loss": LOSS}
OFTEN = [{"name": "often", "tokens": 250, "steps": 12}]
CHECKPOINTS = {"batch_size": 4, "warmup_steps": 2, "checkpoint_every": 4}


# -- settings ------------------------------------------------------------------------------


def policy_of(text, **settings):
    policies = {"dynamic": {}, "mine": settings}
    return tiny.experiment(text, policies=policies).policies["mine"]


def test_a_recipe_keeps_what_is_not_changed(text):
    policy = policy_of(text, **ATTENTION)
    masking = policy.masking()
    assert (masking.rate, masking.exact, masking.at_least) == (0.3, True, 1)
    assert masking.select.start_rate == 0.3
    assert policy_of(text, recipe="attention-guided").masking().rate == 0.15
    assert policy_of(text, recipe="whole-word", exact=False).masking().exact is False


@pytest.mark.parametrize(
    "settings, source",
    [
        ({"recipe": "attention-low"}, "attention"),
        ({"recipe": "loss-guided"}, "loss"),
        ({"recipe": "loss-guided", "guidance": {"decay": 0.9}}, "loss"),
        ({"recipe": "loss-guided", "guidance": {"source": "entropy"}}, "entropy"),
        ({"rate": 0.3}, None),
        ({"recipe": "high-rate"}, None),
    ],
)
def test_where_the_scores_come_from(text, settings, source):
    guided = policy_of(text, **settings).guided
    assert (guided and guided.source) == source


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"recipe": "atention-guided"}, "Did you mean 'attention-guided'"),
        ({"recipe": "t5"}, "'t5' is not for masked language models"),
        ({"rate": 0.3, "guidance": {}}, "goes by no scores"),
        ({"rate": 0.3, "start_rate": 0.1}, "start_rate is of tokens that have no score"),
        ({**LOSS, "guidance": {"decay": 0.5, "window": 2}}, "decay or window, not both"),
        ({**LOSS, "guidance": {"sorce": "loss"}}, r"mine\.guidance\.source"),
        ({**LOSS, "guidance": {"source": "los"}}, r"policies\.mine\.guidance\.source"),
    ],
)
def test_settings_that_cannot_be(text, settings, message):
    with pytest.raises(ConfigError, match=message):
        policy_of(text, **settings)


def test_a_guided_experiment_comes_back_from_its_own_file(text):
    experiment = tiny.experiment(text, policies=POLICIES)
    again = parse(yaml.safe_load(to_yaml(experiment)))
    assert [p.masking() for p in again.policies.values()] == [
        p.masking() for p in experiment.policies.values()
    ]
    assert again.policies["loss"].masking().select.start_rate == 0.15  # the recipe's own


def test_settings_of_plain_policies_are_recorded_as_before(text):
    assert policy_of(text, rate=0.3).model_dump(mode="json", exclude={"description"}) == {
        "rate": 0.3, "act": {"mask": 0.8, "random": 0.1, "keep": 0.1}, "refresh": "dynamic",
        "exact": False, "at_least": 0,
    }  # fmt: skip


def test_any_comparison_may_name_the_known_policies():
    names = ["static", "dynamic", "coverage", "high-rate", "rate-decay", "attention-guided"]
    names += ["attention-low", "attention-hints", "loss-guided", "attention-threshold"]
    experiment = load(preset="quick", policies=names)
    assert list(experiment.policies) == names
    assert experiment.policies["high-rate"] == load().policies["high-rate"]
    with pytest.raises(ConfigError, match="Did you mean 'loss-guided'"):
        load(policies=["loss-guide"])


# -- a comparison --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compared(text, tmp_path_factory):
    out = tmp_path_factory.mktemp("guided") / "out"
    experiment = tiny.experiment(text, policies=POLICIES, regimes=OFTEN)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compare_room, "run_all", tiny.run_here)
        return out, compare_room.compare(experiment, out, command="maskwright compare")


def history(results, policy, seed=0):
    [regime] = results["regimes"]
    [found] = [p for p in regime["policies"] if p["name"] == policy]
    return found["runs"][seed]["history"]


def test_every_policy_has_a_verdict_at_equal_steps_tokens_and_time(compared):
    [regime] = compared[1]["regimes"]
    assert [(m["policy"], m["by"]) for m in regime["matched"]] == [
        (policy, by) for policy in ("attention", "loss") for by in ("predicted tokens", "seconds")
    ]
    for found in (*regime["matched"], *regime["differences"]):
        assert found["verdict"] in ("better", "worse", "no difference")
        assert found["low"] <= found["mean"] <= found["high"]
    assert {history(compared[1], policy)[0]["loss"] for policy in POLICIES} == {
        history(compared[1], "dynamic")[0]["loss"]
    }


def test_what_masks_were_like_is_recorded(compared):
    first, *points = history(compared[1], "attention")
    assert (first["masks"], first["predicted"]) == ({}, 0)
    for point in points:
        masks = point["masks"]
        assert 0 <= masks["overlap"] <= 1
        assert 0 <= masks["scored"] <= 1
        assert masks["entropy"] > 1
        assert masks["age"] > 0
    assert points[-1]["masks"]["scored"] == 1  # attention is of every token
    assert points[-1]["masks"]["score"] > 0
    # a loss is known where a token was predicted only
    assert history(compared[1], "loss")[1]["masks"]["scored"] < 1
    assert set(history(compared[1], "dynamic")[-1]["masks"]) == {"overlap", "entropy"}


def test_the_example_shows_what_the_scores_did(compared):
    out, results = compared
    shown = {example["policy"]: example["epochs"] for example in results["examples"]}

    def untouched(epoch):
        return [token["state"] == "untouched" for token in epoch["tokens"]]

    found = kept_scores(out / "runs/often/attention/seed-0", 1)
    assert np.isfinite(found.rows.values).all()
    # exact budgets by score, where the first visit is by chance
    assert untouched(shown["attention"][1]) != untouched(shown["dynamic"][1])


def test_the_report_draws_what_was_recorded(compared, tmp_path):
    page = write_report(compared[1], tmp_path / "report.html").read_text()
    for said in ("How the masks drift", "On the time axis", "equal predicted tokens"):
        assert said in page


def test_a_guided_model_is_scored_again(compared):
    assert evaluate(compared[0] / "runs/often/attention/seed-1").reproduced


# -- one run -------------------------------------------------------------------------------


class Stop(Exception):
    pass


@pytest.fixture(scope="module")
def prepared(text):
    return prepare(tiny.experiment(text))


def do(text, prepared, folder, policy, tell=lambda step, loss: None):
    experiment = tiny.experiment(
        text, policies={"dynamic": policy}, regimes=OFTEN, warmup=None, seeds=[3],
        training=CHECKPOINTS,
    )  # fmt: skip
    _, [job] = plan_jobs(experiment, prepared, folder)
    table = TokenTable.open(prepared.train.path)
    return job, lambda: execute(job, table, prepared.tokenizer, prepared.evaluation, tell)


def stop_at(wanted):
    def tell(step, loss):
        if step == wanted:
            raise Stop

    return tell


@pytest.mark.parametrize("policy", [ATTENTION, LOSS], ids=["attention", "loss"])
@pytest.mark.parametrize("stop", [5, 10])
def test_a_guided_run_goes_on_from_its_checkpoint(text, prepared, tmp_path, policy, stop):
    _, run = do(text, prepared, tmp_path / "a", policy)
    whole = run()
    job, run = do(text, prepared, tmp_path / "b", policy, stop_at(stop))
    with pytest.raises(Stop):
        run()
    assert last_checkpoint(job.folder) is not None
    job, run = do(text, prepared, tmp_path / "b", policy)
    again = run()
    for key in ("history", "final", "documents"):
        assert again[key] == whole[key]
    rates = [[line["mask_rate"] for line in run["training"]] for run in (again, whole)]
    assert rates[0] == rates[1]
    first, second = (tmp_path / name / "runs/often/dynamic/seed-3/scores" for name in "ab")
    names = sorted(path.name for path in first.iterdir())
    assert names == sorted(path.name for path in second.iterdir())
    for name in names[:-1]:
        with np.load(first / name) as one, np.load(second / name) as other:
            assert np.array_equal(one["values"], other["values"], equal_nan=True)


def test_stopped_before_a_checkpoint_it_begins_anew(text, prepared, tmp_path):
    _, run = do(text, prepared, tmp_path, ATTENTION, stop_at(0))
    with pytest.raises(Stop):
        run()
    job, run = do(text, prepared, tmp_path, ATTENTION)
    assert run()["steps"] == 12
    assert not (job.folder / "checkpoints").exists()


@pytest.fixture(scope="module")
def trained(text, tmp_path_factory):
    """A run of `train`, with the batches that it was trained on."""
    out = tmp_path_factory.mktemp("replayed") / "run"
    seen = []

    class Recording(run_room.MaskingCollator):
        def __call__(self, samples):
            batch = super().__call__(samples)
            seen.append({name: batch[name].clone() for name in batch})
            return batch

    experiment = tiny.experiment(text, policies={"dynamic": ATTENTION}, training={"batch_size": 40})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_room, "MaskingCollator", Recording)
        result = train(experiment, out, policy="dynamic", seed=3, epochs=2.5)
    return out, seen, result


def test_every_guided_batch_comes_out_again(trained):
    folder, seen, result = trained
    differs = 0
    for step in range(result["steps"]):
        plan, batch = replay(folder, step), seen[step]
        assert plan.batch.sample_ids.tolist() == batch["sample_ids"].tolist()
        assert torch.equal(mlm(plan).input_ids, batch["input_ids"])
        assert torch.equal(mlm(plan).labels, batch["labels"])
        assert plan.batch.scores is not None
        differs += bool(np.isfinite(plan.batch.scores.values).any())
    assert 0 < differs < result["steps"]  # none at the first visit, some later


def test_without_the_scores_of_its_epoch_a_replay_is_refused(trained, tmp_path):
    folder, _, result = trained
    copy: Path = shutil.copytree(folder, tmp_path / "copy")
    (copy / "scores" / "epoch-0001.npz").unlink()
    per_epoch = -(-result["spec"]["samples"]["number"] // 40)
    assert replay(copy, 0).positions.size
    with pytest.raises(ResultsError, match=r"epoch 1 began with are not in epoch-0001\.npz"):
        replay(copy, per_epoch)
    (copy / "scores" / "epoch-0000.npz").write_bytes(b"PK")
    with pytest.raises(ResultsError, match=r"epoch-0000\.npz is damaged"):
        replay(copy, 0)


def test_train_knows_the_policies_that_any_experiment_may_name(text, tmp_path):
    result = train(tiny.experiment(text), tmp_path / "run", policy="loss-guided", steps=2)
    assert result["spec"]["policy"]["recipe"] == "loss-guided"
    assert evaluate(tmp_path / "run").reproduced
    with pytest.raises(ConfigError, match="Did you mean 'loss-guided'"):
        train(tiny.experiment(text), tmp_path / "other", policy="loss-guidd", steps=2)


def test_scores_are_not_kept_where_they_are_not_wanted(text, tmp_path):
    policy = {**ATTENTION, "guidance": {"keep": False, "window": 2}}
    out = tmp_path / "run"
    train(tiny.experiment(text, policies={"dynamic": policy}), out, policy="dynamic", steps=3)
    assert [path.name for path in (out / "scores").iterdir()] == ["scores.maskwright"]
    with pytest.raises(ResultsError, match=r"guidance\.keep"):
        replay(out, 0)
