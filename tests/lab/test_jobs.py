from dataclasses import replace

import numpy as np
import pytest

from maskwright.errors import ConfigError
from maskwright.lab.jobs import plan_jobs
from maskwright.lab.preparation import prepare
from tests.lab import tiny


@pytest.fixture(scope="module")
def prepared(text):
    return prepare(tiny.experiment(text))


def jobs_of(text, prepared, tmp_path, **changes):
    return plan_jobs(tiny.experiment(text, **changes), prepared, tmp_path)


def test_every_policy_seed_and_regime_has_a_run(text, prepared, tmp_path):
    warmups, runs = jobs_of(text, prepared, tmp_path)
    assert [job.name for job in warmups] == ["warmup/seed-0", "warmup/seed-1"]
    assert {job.name for job in runs} == {
        f"{regime}/{policy}/seed-{seed}"
        for regime in ("once", "often")
        for policy in tiny.POLICIES
        for seed in tiny.SEEDS
    }
    assert len({job.folder for job in [*warmups, *runs]}) == 10


def test_warm_up_and_regimes_read_disjoint_text(text, prepared, tmp_path):
    warmups, runs = jobs_of(text, prepared, tmp_path)
    parts = {
        name: {tuple(job.ids) for job in [*warmups, *runs] if job.name.startswith(name)}
        for name in ("warmup", "once", "often")
    }
    assert all(len(found) == 1 for found in parts.values())  # policies and seeds share their text
    ids = np.concatenate([np.array(next(iter(found))) for found in parts.values()])
    assert len(set(ids.tolist())) == len(ids)


def test_policies_of_a_seed_branch_from_the_warm_up_of_that_seed(text, prepared, tmp_path):
    warmups, runs = jobs_of(text, prepared, tmp_path)
    by_seed = {job.seed: job for job in warmups}
    for job in runs:
        assert job.start == by_seed[job.seed].folder
        assert job.spec["start"] == by_seed[job.seed].spec


def test_runs_differ_in_policy_or_seed_alone(text, prepared, tmp_path):
    _, runs = jobs_of(text, prepared, tmp_path)
    by_name = {job.name: job.spec for job in runs}
    static, dynamic = by_name["once/static/seed-0"], by_name["once/dynamic/seed-0"]
    assert {key for key in static if static[key] != dynamic[key]} == {"policy"}
    assert static["policy"] | {"refresh": "dynamic"} == dynamic["policy"]
    other = by_name["once/static/seed-1"]
    assert {key for key in static if static[key] != other[key]} == {"seed", "start"}


@pytest.mark.parametrize(
    "changes, key",
    [
        ({"training": {"learning_rate": 0.5}}, "training"),
        ({"model": {"layers": 2}}, "model"),
        ({"threads": 2}, "threads"),
        ({"evaluation": {"every": 7}}, "evaluation"),
        ({"seeds": [5]}, "seed"),
    ],
)
def test_what_a_result_depends_on_is_in_its_spec(text, prepared, tmp_path, changes, key):
    [before], _ = jobs_of(text, prepared, tmp_path, seeds=[0])
    [after], _ = jobs_of(text, prepared, tmp_path, **({"seeds": [0]} | changes))
    assert before.spec[key] != after.spec[key]


def test_a_description_or_title_changes_no_result(text, prepared, tmp_path):
    described = {"static": {"rate": 0.3, "refresh": "static", "description": "new"}, "dynamic": {}}
    plain = {"static": {"rate": 0.3, "refresh": "static"}, "dynamic": {}}
    first, second = (
        jobs_of(text, prepared, tmp_path, policies=policies)[1] for policies in (described, plain)
    )
    assert first[0].spec == second[0].spec


def test_the_warm_up_keeps_its_rate_of_learning(text, prepared, tmp_path):
    [warmup, _], runs = jobs_of(text, prepared, tmp_path)
    assert warmup.spec["training"]["lr_scheduler"] == "constant_with_warmup"
    assert runs[0].spec["training"]["lr_scheduler"] == "linear"


def test_without_a_warm_up_runs_start_from_new_weights(text, prepared, tmp_path):
    warmups, runs = jobs_of(text, prepared, tmp_path, warmup=None)
    assert warmups == []
    assert {job.start for job in runs} == {None}


def test_the_steps_of_an_epoch_are_counted(text, prepared, tmp_path):
    regimes = [
        {"name": "a", "tokens": 400, "epochs": 2.5},
        {"name": "b", "tokens": 400, "steps": 3},
    ]
    _, runs = jobs_of(text, prepared, tmp_path, regimes=regimes, warmup=None, seeds=[0])
    samples = len(runs[0].ids)
    assert runs[0].total_steps == int(np.ceil(2.5 * np.ceil(samples / 4)))
    assert runs[-1].total_steps == 3


def test_too_little_text(text, prepared, tmp_path):
    regimes = [{"name": "a", "tokens": 10**9, "steps": 1}]
    with pytest.raises(ConfigError, match=r"1,000,000,512 tokens .* Lower regimes"):
        jobs_of(text, prepared, tmp_path, regimes=regimes)


def test_a_job_survives_its_way_to_a_worker(text, prepared, tmp_path):
    import pickle

    job = jobs_of(text, prepared, tmp_path)[1][0]
    again = pickle.loads(pickle.dumps(job))
    assert replace(again, ids=None) == replace(job, ids=None)  # type: ignore[arg-type]
    assert again.ids.tolist() == job.ids.tolist()
