"""Policies whose steps compute fewer tokens: an encoder of visible ones, and dropped ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoModelForMaskedLM

from maskwright.errors import ConfigError
from maskwright.hf import VisibleOnly
from maskwright.lab import compare as room
from maskwright.lab.evaluate import evaluate
from maskwright.lab.jobs import plan_jobs
from maskwright.lab.policy import Policy
from maskwright.lab.preparation import prepare
from maskwright.lab.run import execute, last_checkpoint
from maskwright.lab.settings import load
from tests.lab import tiny

MODEL = {"layers": 3, "width": 16, "heads": 2, "intermediate": 16}
VISIBLE = {"rate": 0.5, "act": {"mask": 1.0}, "visible_only": {"decoder_layers": 1}}
DROPPING = {"rate": 0.3, "token_dropping": {"share": 0.5, "beta": 0.5}}
BY_STORE = {"recipe": "loss-guided", "token_dropping": {"importance": "store"}}
POLICIES = {
    "dynamic": {"rate": 0.3},
    "visible": VISIBLE,
    "dropping": DROPPING,
    "by-store": BY_STORE,
}


class Stop(Exception):
    """The run was killed."""


def experiment(text: Any, **changes: Any) -> Any:
    settings = {
        "policies": POLICIES,
        "model": MODEL,
        "warmup": None,
        "seeds": [0],
        "regimes": [{"name": "once", "tokens": 800, "steps": 6}],
        "evaluation": {"tokens": 300, "every": 3},
    }
    return tiny.experiment(text, **(settings | changes))


@pytest.fixture(scope="module")
def compared(text, tmp_path_factory):
    out = tmp_path_factory.mktemp("fewer") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "run_all", tiny.run_here)
        return out, room.compare(experiment(text), out)


def test_they_begin_alike_and_are_compared_at_equal_seconds(compared):
    _, results = compared
    [regime] = results["regimes"]
    runs = {policy["name"]: policy["runs"][0] for policy in regime["policies"]}
    assert set(runs) == set(POLICIES)
    first = {name: run["history"][0]["loss"] for name, run in runs.items()}
    assert first["dropping"] == first["by-store"] == first["dynamic"] != first["visible"]
    last = {name: run["history"][-1]["loss"] for name, run in runs.items()}
    assert len(set(last.values())) == 4
    matched = [found for found in regime["matched"] if found["by"] == "seconds"]
    assert {found["policy"] for found in matched} == set(POLICIES) - {"dynamic"}
    assert all(found["clock"] == "processor" for found in matched)


def test_what_is_kept_is_an_encoder_that_is_judged_with_its_decoder(compared):
    out, _ = compared
    for name in POLICIES:
        folder = out / "runs" / "once" / name / "seed-0"
        _, found = AutoModelForMaskedLM.from_pretrained(folder, output_loading_info=True)
        assert not any(found[key] for key in ("missing_keys", "unexpected_keys"))
        assert evaluate(folder).reproduced
        assert (folder / "visible_only").exists() == (name == "visible")
    again = VisibleOnly.from_pretrained(out / "runs" / "once" / "visible" / "seed-0")
    assert again.decoder.config.num_hidden_layers == 1


@pytest.mark.parametrize("name", ["visible", "dropping"])
def test_a_broken_run_goes_on_bit_for_bit(text, tmp_path, name):
    made = experiment(
        text,
        policies={"dynamic": {}, name: POLICIES[name]},
        training={"batch_size": 4, "warmup_steps": 2, "checkpoint_every": 2},
    )
    prepared = prepare(made)

    def do(folder: str, stop: int | None = None) -> tuple[Any, Any]:
        _, jobs = plan_jobs(made, prepared, tmp_path / folder)
        job = jobs[1]

        def tell(step: int, loss: float | None) -> None:
            if stop is not None and step >= stop:
                raise Stop

        return job, lambda: execute(
            job, prepared.train, prepared.tokenizer, prepared.evaluation, tell
        )

    whole = do("whole")[1]()
    job, run = do("broken", 5)
    with pytest.raises(Stop):
        run()
    assert last_checkpoint(job.folder) is not None
    again = do("broken")[1]()
    for key in ("history", "final", "documents"):
        assert again[key] == whole[key]
    models = [
        AutoModelForMaskedLM.from_pretrained(tmp_path / folder / job.folder.relative_to(
            tmp_path / "broken")) for folder in ("whole", "broken")
    ]  # fmt: skip
    for one, two in zip(*(model.parameters() for model in models), strict=True):
        assert torch.equal(one, two)


def test_the_preset_says_what_it_compares():
    made = load(preset="fewer-tokens")
    assert list(made.policies) == ["dynamic", "high-rate", "visible-only", "token-dropping"]
    assert made.warmup is None  # all begin with the same weights
    assert made.tasks
    assert made.model.layers >= 3


def test_older_runs_know_nothing_of_it():
    dumped = Policy(rate=0.3).model_dump(mode="json")
    assert not {"visible_only", "token_dropping"} & dumped.keys()
    kept = Policy.model_validate(DROPPING).model_dump(mode="json")
    assert Policy.model_validate(kept) == Policy.model_validate(DROPPING)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (VISIBLE | DROPPING, "visible_only and token_dropping"),
        (VISIBLE | {"replaced_tokens": {}}, "visible_only and replaced_tokens"),
        ({"token_dropping": {"importance": "store"}}, "goes by none"),
        ({"recipe": "attention-guided", "token_dropping": {}}, "leaves tokens out"),
        ({"token_dropping": {"share": 0}}, "share"),
        ({"visible_only": {"decoder_layer": 1}}, "decoder_layers"),
    ],
)
def test_what_does_not_go_together_is_said(text, settings, message):
    with pytest.raises(ConfigError, match=message):
        experiment(text, policies={"dynamic": {}, "mine": settings})


def test_a_model_that_is_too_shallow_is_refused(text, tmp_path, here):
    made = experiment(text, policies={"dynamic": DROPPING}, model=MODEL | {"layers": 2})
    with pytest.raises(ConfigError, match="leave no middle layer of the 2"):
        room.compare(made, tmp_path / "out")
