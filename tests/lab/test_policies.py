"""Policies that need more than masks: learned phrases, learned weights, replaced tokens."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from maskwright.corruption import Collocations, Weighted, learn_phrases, mlm
from maskwright.data.table import TokenTable
from maskwright.errors import ConfigError, ResultsError, VocabularyError
from maskwright.guidance.learned import LearnedPolicy
from maskwright.lab import compare as compare_room
from maskwright.lab import run as run_room
from maskwright.lab.compare import to_yaml
from maskwright.lab.config import parse
from maskwright.lab.evaluate import evaluate
from maskwright.lab.jobs import plan_jobs
from maskwright.lab.model import load_model
from maskwright.lab.phrases import phrases_for
from maskwright.lab.policy import Policy
from maskwright.lab.preparation import prepare
from maskwright.lab.replay import replay
from maskwright.lab.run import execute, last_checkpoint
from maskwright.lab.settings import PRESETS, known_policies, load
from maskwright.lab.train import train
from maskwright.ragged import Ragged
from maskwright.report import write_report
from maskwright.vocabulary import Vocabulary
from tests.lab import tiny

NAMES = [
    "static", "dynamic", "coverage", "high-rate", "rate-decay", "attention-high", "attention-low",
    "attention-hints", "loss", "pmi", "learned", "electra",
]  # fmt: skip
LEARNED = {"rate": 0.3, "learned": {"every": 1, "learning_rate": 0.1}}
DIFFICULT = {"rate": 0.3, "learned": {"every": 2, "share": 0.7, "reward": "difficulty"}}
PMI = {"recipe": "pmi", "rate": 0.3, "phrases": {"size": 40}}
ELECTRA = {"rate": 0.3, "replaced_tokens": {"weight": 5}}
POLICIES = {"dynamic": {"rate": 0.3}, "pmi": PMI, "learned": LEARNED, "electra": ELECTRA}
OFTEN = [{"name": "often", "tokens": 250, "steps": 12}]
TRAINING = {"batch_size": 4, "warmup_steps": 2, "checkpoint_every": 4}


# -- settings ------------------------------------------------------------------------------


def policy_of(text, **settings) -> Policy:
    policies = {"dynamic": {}, "mine": settings}
    return tiny.experiment(text, policies=policies).policies["mine"]


@pytest.mark.parametrize("preset", PRESETS)
def test_any_preset_takes_the_twelve_names(preset):
    experiment = load(preset=preset, policies=NAMES)
    assert list(experiment.policies) == NAMES
    again = parse(yaml.safe_load(to_yaml(experiment)))
    for name, policy in experiment.policies.items():
        assert again.policies[name].masking() == policy.masking()
        assert again.policies[name].model_dump() == policy.model_dump()


def test_two_names_of_one_policy_mean_the_same():
    known = known_policies()
    for short, long in (("attention-high", "attention-guided"), ("loss", "loss-guided")):
        assert known[short].masking() == known[long].masking()
        assert known[short].guided == known[long].guided
    assert known["electra"].masking() == known["dynamic"].masking()


def test_what_the_new_policies_are(text):
    learned = policy_of(text, **LEARNED)
    assert learned.masking().select == Weighted()
    guided = learned.guided
    assert guided is not None
    assert (guided.source, guided.decay, guided.window) == ("loss", 0.0, None)
    averaged = policy_of(text, **LEARNED, guidance={"window": 2}).guided
    assert averaged is not None
    assert (averaged.source, averaged.decay, averaged.window) == ("loss", None, 2)
    pmi = policy_of(text, **PMI)
    assert isinstance(pmi.masking().select, Collocations)
    assert (pmi.masking().rate, pmi.masking().exact) == (0.3, True)
    assert pmi.guided is None
    collocations = policy_of(text, recipe="pmi").collocations
    assert collocations is not None
    assert collocations.size == 50_000
    assert policy_of(text, rate=0.3).collocations is None


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"learned": {"reward": "progress"}}, r"mine\.learned\.reward: should be 'learning_prog"),
        ({"learned": {"every": 0}}, r"mine\.learned\.every: .* greater than or equal to 1, got 0"),
        ({"learned": {"share": 1.5}}, r"mine\.learned\.share: .*, got 1\.5"),
        ({"learned": {"learning_rte": 1}}, r"Did you mean 'policies\.mine\.learned\.learning_rate"),
        ({"learned": True}, r"policies\.mine\.learned takes a section of settings|learned: .*True"),
        ({"learned": {}, "recipe": "loss-guided"}, "draws them otherwise"),
        ({"learned": {}, "refresh": "static"}, "refresh: 'static' would hold masks"),
        ({"learned": {}, "start_rate": 0.1}, "start_rate is of tokens that have no score"),
        ({"learned": {}, "guidance": {"source": "attention"}}, "learned goes by losses"),
        ({"phrases": {}}, "masks no collocations"),
        ({"recipe": "pmi", "phrases": {"longest": 1}}, r"mine\.phrases\.longest: .*, got 1"),
        ({"replaced_tokens": {"weight": -1}}, r"mine\.replaced_tokens\.weight: .*, got -1"),
        ({"replaced_tokens": {}, "recipe": "loss-guided"}, "runs the model twice a step"),
        ({"replaced_tokens": {}, "learned": {}}, "runs the model twice a step"),
    ],
)
def test_settings_that_cannot_be(text, settings, message):
    with pytest.raises(ConfigError, match=message):
        policy_of(text, **settings)


# -- phrases -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prepared(text):
    return prepare(tiny.experiment(text))


@pytest.fixture
def copied(prepared, tmp_path) -> tuple[TokenTable, Vocabulary]:
    """The training table, in a folder without phrases."""
    shutil.copytree(prepared.train.path.parent, tmp_path / "table")
    for path in (tmp_path / "table").glob("*.npz"):
        path.unlink()
    table = TokenTable.open(tmp_path / "table" / prepared.train.path.name)
    return table, Vocabulary.from_tokenizer(prepared.tokenizer)


def test_phrases_are_those_of_the_whole_training_table(text, copied):
    table, vocabulary = copied
    found = phrases_for(policy_of(text, **PMI), table, vocabulary)
    assert found is not None
    rows = Ragged(table.tokens.values, table.tokens.offsets)
    starts = None if table.word_starts is None else rows.like(table.word_starts.values)
    assert found == learn_phrases(rows, vocabulary, size=40, word_starts=starts)
    assert 5 < len(found) <= 41
    part = phrases_for(policy_of(text, **PMI | {"phrases": {"tokens": 900}}), table, vocabulary)
    rows = Ragged.from_lists([table.tokens[i] for i in range(len(table))])
    kept = int(np.searchsorted(rows.offsets, 900, side="right")) - 1
    batch = table.batch(np.arange(kept))
    assert batch.tokens.lengths.sum() <= 900
    assert part == learn_phrases(batch.tokens, vocabulary, word_starts=batch.word_starts)
    assert part != found
    assert phrases_for(policy_of(text, rate=0.3), table, vocabulary) is None


def test_phrases_are_learned_once_and_again_where_their_file_is_damaged(text, copied, monkeypatch):
    from maskwright.lab import phrases as room

    table, vocabulary = copied
    policy = policy_of(text, **PMI)
    first = phrases_for(policy, table, vocabulary)
    [path] = table.path.parent.glob("*.npz")
    content = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(room, "learn_phrases", None)
        assert phrases_for(policy, table, vocabulary) == first
    for damage in (b"", b"PK", content[: len(content) // 2]):
        path.write_bytes(damage)
        assert phrases_for(policy, table, vocabulary) == first
        assert path.read_bytes() == content
    phrases_for(policy_of(text, recipe="pmi"), table, vocabulary)
    assert len(list(table.path.parent.glob("*.npz"))) == 2


def test_without_phrases_it_draws_nothing(text, prepared):
    from maskwright.lab.examples import plans_of

    with pytest.raises(VocabularyError, match="Learn them again with this tokenizer"):
        plans_of(policy_of(text, **PMI).masking(), [5, 6, 7], prepared.tokenizer, epochs=1)


# -- a comparison --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compared(text, tmp_path_factory):
    out = tmp_path_factory.mktemp("policies") / "out"
    experiment = tiny.experiment(text, policies=POLICIES, regimes=OFTEN)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compare_room, "run_all", tiny.run_here)
        return out, compare_room.compare(experiment, out, command="maskwright compare")


def runs_of(results, policy) -> list[dict[str, Any]]:
    [regime] = results["regimes"]
    [found] = [p for p in regime["policies"] if p["name"] == policy]
    return found["runs"]


def test_they_are_compared_as_any_other(compared, tmp_path):
    out, results = compared
    [regime] = results["regimes"]
    assert {d["policy"] for d in regime["differences"]} == set(POLICIES) - {"dynamic"}
    ends = {policy: runs_of(results, policy)[0]["final"]["loss"] for policy in POLICIES}
    assert len(set(ends.values())) == len(POLICIES)  # they branch, and none is as another
    firsts = {runs_of(results, policy)[0]["history"][0]["loss"] for policy in POLICIES}
    assert len(firsts) == 1
    for policy in POLICIES:
        assert evaluate(out / f"runs/often/{policy}/seed-1").reproduced
    page = write_report(results, tmp_path / "report.html").read_text()
    assert "Seconds are those of the processor" in page


def test_what_is_kept_is_an_ordinary_model(compared):
    out, _ = compared
    sizes = set()
    for policy in POLICIES:
        folder = out / f"runs/often/{policy}/seed-0"
        model = load_model(folder)  # refuses missing weights
        sizes.add(sum(parameter.numel() for parameter in model.parameters()))
        assert {path.name for path in folder.glob("*.safetensors")} == {"model.safetensors"}
    assert len(sizes) == 1


def test_replaced_tokens_cost_time_and_no_tokens(compared):
    _, results = compared
    costs = [runs_of(results, policy)[0]["cost"] for policy in ("dynamic", "electra")]
    assert costs[0]["tokens"] == costs[1]["tokens"]
    assert costs[0]["predicted_tokens"] == costs[1]["predicted_tokens"]


def test_the_policy_that_was_learned_is_kept(compared, text):
    out, _ = compared
    folder = out / "runs/often/learned/seed-0"
    policy = LearnedPolicy.load(folder)
    table = prepare(tiny.experiment(text)).train
    weights = policy.weights(Ragged.from_lists([table.tokens[0]]), _no_scores(table.tokens[0]))
    assert np.ptp(weights.values) > 0.01
    first = LearnedPolicy.load(folder / "scores" / "epoch-0000")
    assert (first.weights(Ragged.from_lists([table.tokens[0]])).values == 1).all()  # by chance


def _no_scores(tokens) -> Ragged:
    return Ragged.from_lists([np.full(len(tokens), np.nan)], np.float32)


def test_examples_show_collocations_and_weights(compared):
    _, results = compared
    shown = {example["policy"]: example["epochs"] for example in results["examples"]}
    assert set(shown) == set(POLICIES)
    masked = {
        name: sum(token["state"] != "untouched" for token in epochs[2]["tokens"])
        for name, epochs in shown.items()
    }
    assert all(masked.values())
    assert shown["electra"] == shown["dynamic"]


# -- one run -------------------------------------------------------------------------------


class Stop(Exception):
    pass


def stop_at(wanted):
    def tell(step, loss):
        if step == wanted:
            raise Stop

    return tell


def do(text, prepared, folder, policy, tell=lambda step, loss: None):
    experiment = tiny.experiment(
        text, policies={"dynamic": policy}, regimes=OFTEN, warmup=None, seeds=[3],
        training=TRAINING,
    )  # fmt: skip
    _, [job] = plan_jobs(experiment, prepared, folder)
    table = TokenTable.open(prepared.train.path)
    return job, lambda: execute(job, table, prepared.tokenizer, prepared.evaluation, tell)


def kept(folder) -> dict[str, Any]:
    """What the result of a run is, but for times: figures, weights, masks' scores and policies."""
    state = load_model(folder).state_dict()
    found: dict[str, Any] = {name: value.numpy() for name, value in state.items()}
    for path in sorted(folder.glob("scores/epoch-*.npz")):
        with np.load(path) as file:
            found[path.name] = file["values"]
    for path in sorted(folder.rglob("policy.maskwright")):
        policy = LearnedPolicy.load(path.parent)
        for name, value in policy.scorer.state_dict().items():
            found[f"{path.parent.name}/{name}"] = value.numpy()
    return found


@pytest.mark.parametrize(
    "policy", [PMI, LEARNED, DIFFICULT, ELECTRA], ids=["pmi", "learned", "difficult", "electra"]
)
def test_a_run_goes_on_from_its_checkpoint_bit_for_bit(text, prepared, tmp_path, policy):
    job, run = do(text, prepared, tmp_path / "a", policy)
    whole, expected = run(), kept(job.folder)
    for stop in (5, 10):
        job, run = do(text, prepared, tmp_path / f"b{stop}", policy, stop_at(stop))
        with pytest.raises(Stop):
            run()
        assert last_checkpoint(job.folder) is not None
        job, run = do(text, prepared, tmp_path / f"b{stop}", policy)
        again = run()
        for key in ("history", "final", "documents"):
            assert again[key] == whole[key]
        found = kept(job.folder)
        assert {n for n in found if "seed" not in n} == {n for n in expected if "seed" not in n}
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name], value, err_msg=name)
    assert whole["device"] == "cpu"


@pytest.fixture(scope="module")
def recorded(text, tmp_path_factory):
    """Runs of `train`, with the batches that they were trained on."""
    found = {}
    for name in ("dynamic", "pmi", "learned", "electra"):
        seen = []

        class Recording(run_room.MaskingCollator):
            def __call__(self, samples, seen=seen):
                batch = super().__call__(samples)
                seen.append({key: batch[key].clone() for key in batch})
                return batch

        out = tmp_path_factory.mktemp(name) / "run"
        experiment = tiny.experiment(text, policies=POLICIES, training={"batch_size": 40})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(run_room, "MaskingCollator", Recording)
            result = train(experiment, out, policy=name, seed=3, epochs=2.5)
        found[name] = out, seen, result
    return found


@pytest.mark.parametrize("name", ["pmi", "learned", "electra"])
def test_every_batch_comes_out_again(recorded, name):
    folder, seen, result = recorded[name]
    assert len(seen) >= result["steps"] >= 6
    for step in range(result["steps"]):
        plan, batch = replay(folder, step), seen[step]
        assert plan.batch.sample_ids.tolist() == batch["sample_ids"].tolist()
        assert torch.equal(mlm(plan).input_ids, batch["input_ids"])
        assert torch.equal(mlm(plan).labels, batch["labels"])


def test_replaced_tokens_see_the_masks_of_dynamic(recorded):
    plain, both = recorded["dynamic"][1], recorded["electra"][1]
    for one, other in zip(plain, both, strict=True):
        assert torch.equal(one["input_ids"], other["input_ids"])
        assert torch.equal(one["labels"], other["labels"])
    weights = [load_model(recorded[name][0]).state_dict() for name in ("dynamic", "electra")]
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_without_its_weights_a_learned_epoch_is_refused(recorded, tmp_path):
    folder, _, result = recorded["learned"]
    copy = shutil.copytree(folder, tmp_path / "copy")
    second = -(-result["spec"]["samples"]["number"] // 40)
    path = copy / "scores" / "epoch-0001" / "policy.maskwright"
    path.write_bytes(path.read_bytes()[:-5])
    assert replay(copy, 0).positions.size
    with pytest.raises(ResultsError, match=r"those of epoch 1 cannot be read.*damaged"):
        replay(copy, second)
    path.unlink()
    with pytest.raises(ResultsError, match="learned weights, and those of epoch 1"):
        replay(copy, second)


def test_learned_weights_that_are_not_kept(text, tmp_path):
    policy = {**LEARNED, "guidance": {"keep": False}}
    out = tmp_path / "run"
    train(tiny.experiment(text, policies={"dynamic": policy}), out, policy="dynamic", steps=3)
    assert [path.name for path in (out / "scores").iterdir()] == ["scores.maskwright"]
    assert LearnedPolicy.load(out).version >= 0
    with pytest.raises(ResultsError, match=r"guidance\.keep"):
        replay(out, 0)


def test_train_by_name(text, tmp_path):
    for name in ("electra", "attention-high"):
        result = train(tiny.experiment(text), tmp_path / name, policy=name, steps=2)
        assert result["steps"] == 2
        assert evaluate(tmp_path / name).reproduced
