"""What a run masked, made again from its settings, against what its batches held."""

from __future__ import annotations

import shutil

import pytest
import torch

from maskwright.corruption import mlm
from maskwright.errors import ConfigError, ResultsError
from maskwright.lab import run as room
from maskwright.lab.config import parse
from maskwright.lab.files import read_json, write_json
from maskwright.lab.replay import replay
from maskwright.lab.train import train

TEXT = "the of and to in nation people war peace congress state law year great power tax"
WORDS = TEXT.split(" ")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of two epochs and a half, and every batch that it was trained on."""
    folder = tmp_path_factory.mktemp("replay")
    documents = (
        " ".join(WORDS[(7 * k * k + (3 + row) * k + row) % len(WORDS)] for k in range(40))
        for row in range(40)
    )
    (folder / "text.txt").write_text("\n\n".join(documents) + "\n", "utf-8")
    experiment = parse(
        {
            "name": "tiny",
            "data": {"source": str(folder / "text.txt"), "vocabulary_size": 80, "max_length": 32},
            "model": {"layers": 1, "width": 32, "heads": 2, "intermediate": 32},
            "training": {"batch_size": 7, "warmup_steps": 2},
            "policies": {
                "falling": {"rate": {"schedule": "linear", "start": 0.5, "end": 0.1}},
            },
            "reference": "falling",
            "regimes": [{"name": "all", "title": "All", "tokens": 500, "epochs": 1}],
            "seeds": [3],
            "evaluation": {"tokens": 200, "every": 50},
            "workers": 1,
        }
    )
    seen = []

    class Recording(room.MaskingCollator):
        def __call__(self, samples):
            batch = super().__call__(samples)
            seen.append({name: batch[name].clone() for name in batch})
            return batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "MaskingCollator", Recording)
        result = train(experiment, folder / "run", policy="falling", seed=3, epochs=2.5)
    return folder / "run", seen, result


def test_every_batch_comes_out_again(trained):
    folder, seen, result = trained
    total = result["steps"]
    epochs = {int(batch["clock"][0, 0]) for batch in seen[:total]}
    assert epochs == {0, 1, 2}
    assert len(seen) >= total >= 10
    for step in range(total):
        plan, batch = replay(folder, step), seen[step]
        assert plan.batch.sample_ids.tolist() == batch["sample_ids"].tolist()
        assert [plan.clock.epoch, plan.clock.step] == batch["clock"][0].tolist()
        again = mlm(plan)
        assert torch.equal(again.input_ids, batch["input_ids"])
        assert torch.equal(again.labels, batch["labels"])
    assert not torch.equal(seen[0]["labels"], seen[1]["labels"])


def test_a_step_that_was_not(trained):
    folder, _, result = trained
    for step in (-1, result["steps"]):
        with pytest.raises(ConfigError, match=rf"no batch {step}\."):
            replay(folder, step)


def test_a_folder_without_a_run(trained, tmp_path):
    folder, *_ = trained
    with pytest.raises(ResultsError, match=r"no run.json\.$"):
        replay(tmp_path, 0)
    with pytest.raises(ResultsError, match=r"Name one of the runs in it, such as .*run"):
        replay(folder.parent, 0)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda spec: spec["data"].update(corpus="other"), "The corpus of .* has changed"),
        (lambda spec: spec["data"].update(tokenizer="other"), "The tokenizer of .* has changed"),
        (lambda spec: spec["samples"].update(tokens=1), "not those of its training table"),
        (lambda spec: spec["budget"].update(epochs=5.0), "took .* steps and not the"),
    ],
)
def test_what_has_changed_since_is_an_error(trained, tmp_path, change, message):
    folder = shutil.copytree(trained[0], tmp_path / "run")
    record = read_json(folder / room.RUN_FILE)
    change(record["spec"])
    write_json(folder / room.RUN_FILE, record)
    with pytest.raises(ResultsError, match=message):
        replay(folder, 0)
