"""What share of the text was asked about is logged, kept in checkpoints, and has a floor."""

from __future__ import annotations

import math

import numpy as np
import pytest

from maskwright import Masking, TokenBatch, Vocabulary
from maskwright.corruption import Above, Tokens, Weighted
from maskwright.corruption.coverage import coverage
from maskwright.errors import ConfigError
from maskwright.guidance import ScoreStore
from maskwright.hf.guided.coverage import Coverage
from maskwright.hf.guided.spikes import AHEAD, EVERY, Spikes
from maskwright.ragged import Ragged
from tests.core import tokenizers
from tests.hf.guided.runs import LENGTHS, ROWS, prepare, train


def rows(*lists):
    return Ragged.from_lists([list(map(bool, row)) for row in lists], np.bool_)


def test_tokens_are_counted_once(tmp_path):
    store = ScoreStore.create(tmp_path / "s", np.array([2, 3, 1]))
    made = Coverage(store)
    assert made.share() == 0
    made.see(np.array([2, 0]), rows([1], [0, 1]))
    assert made.share() == pytest.approx(2 / 6)
    made.see(np.array([0]), rows([0, 1]))
    assert made.share() == pytest.approx(2 / 6)
    again = Coverage(store)
    again.restore(made.state())
    assert again.predicted.tolist() == made.predicted.tolist()
    again.restore({})  # of an older version
    assert again.predicted.tolist() == made.predicted.tolist()


def test_of_many_samples_some_are_looked_at(tmp_path):
    store = ScoreStore.create(tmp_path / "s", np.full(2_000, 3))
    made = Coverage(store)
    assert len(made.predicted) == 3 * 512
    made.see(np.arange(2_000), Ragged.from_lists([[True, False, False]] * 2_000, np.bool_))
    assert made.share() == pytest.approx(1 / 3)


def test_an_empty_store_has_none(tmp_path):
    assert Coverage(ScoreStore.create(tmp_path / "s", np.empty(0, np.int64))).share() == 0


def logged(run, name):
    return [e[f"guidance/{name}"] for e in run.trainer.state.log_history if "loss" in e]


@pytest.mark.parametrize("kind", ["ours", pytest.param("plain", marks=pytest.mark.slow)])
def test_the_log_says_what_was_predicted_at_least_once(kind, tmp_path):
    run = train(tmp_path, kind, epochs=4, save_strategy="steps", save_steps=8)
    shares = logged(run, "coverage")
    assert shares == sorted(shares)
    masked = {}
    for tokens, chosen in run.selected():
        masked[tokens] = masked.get(tokens, np.zeros(len(chosen), bool)) | np.array(chosen)
    assert run.guidance.measures()["guidance/coverage"] == pytest.approx(
        sum(row.sum() for row in masked.values()) / LENGTHS.sum()
    )
    run.store.close()
    resumed = train(
        tmp_path, kind, epochs=4, resume=str(tmp_path / "run" / "checkpoint-8"),
        save_strategy="steps", save_steps=8,
    )  # fmt: skip
    assert logged(resumed, "coverage") == shares


@pytest.mark.parametrize(
    "bare, floored",
    [
        (Weighted(temperature=0), Weighted(temperature=0, floor=0.05)),
        (Weighted(temperature=0), Weighted(temperature=0, chance=0.25)),
        (Above(0.9), Above(0.9) | Tokens().at(0.05)),
    ],
    ids=["floor", "chance", "threshold"],
)
def test_a_floor_reaches_every_token_that_scores_would_never_choose(bare, floored):
    """By the highest scores alone, which stay, the same tokens are chosen for ever."""
    tokens = Ragged.from_lists([row["input_ids"] for row in ROWS])
    scores = np.random.default_rng(0).random(len(tokens.values)).astype(np.float32)
    batch = TokenBatch(tokens, np.arange(len(ROWS)), scores=Ragged(scores, tokens.offsets))
    vocabulary = Vocabulary.from_tokenizer(tokenizers.words())
    inside = vocabulary.maskable[tokens.values]

    def reached(select, epochs=160):
        masking = Masking(select, rate=0.2).bind(vocabulary)
        return (coverage(masking, batch, epochs).values[inside] > 0).mean()

    assert reached(bare) < 0.35
    # a token escapes a chance of 1 in 20 for 160 visits with a probability of 0.0003
    assert reached(floored) > 0.99


# -- the floor of entropy ---------------------------------------------------------------------


def fed(values, floor=2.0, pause=10):
    spikes = Spikes(None, pause, floor)
    return spikes, [i for i, value in enumerate(values) if spikes.see_entropy(i, i // 7, value)]


@pytest.mark.parametrize(
    "values, found",
    [
        ([2.0] * 40, []),  # below, not at
        ([1.9] * 15, []),  # too early to know
        ([1.9] * 16, [15]),
        ([3.0] * 16 + [1.0] * 17, [32]),  # in the mean
    ],
)
def test_the_floor_is_under_the_mean(values, found):
    assert fed(values)[1] == found


def test_it_begins_as_a_spike_does_and_is_not_made_longer_by_itself():
    spikes, found = fed([1.0] * 60, pause=10)
    first = (15 // EVERY + 1) * EVERY + AHEAD
    assert found == [15]
    assert (spikes.first, spikes.last, spikes.epoch) == (first, first + 10, 15 // 7 + 1)
    # after the pause it is looked at anew
    spikes, found = fed([1.0] * 70, pause=10)
    assert found == [15, first + 10 + 15]


def test_the_state_of_an_older_checkpoint_is_taken():
    spikes = Spikes(None, 10, 2.0)
    spikes.restore({"losses": [1.0], "first": 3, "last": 4, "epoch": 1, "covered": "00"})
    assert (spikes.losses, spikes.entropies, spikes.first) == ([1.0], [], 3)


@pytest.mark.parametrize("floor", [0.0, -1.0, math.inf, math.nan])
def test_wrong_floors_are_refused(floor):
    with pytest.raises(ConfigError, match="entropy_floor"):
        Spikes(floor=floor)


def test_a_run_below_the_floor_is_by_chance_for_a_while_and_resumes(tmp_path):
    settings = {
        "epochs": 11, "guidance": {"entropy_floor": 50.0, "pause": 8}, "save_strategy": "steps",
        "save_steps": 42,
    }  # fmt: skip
    whole = train(tmp_path, "ours", **settings)
    chance = logged(whole, "by_chance")
    # sixteen entropies are there at step 15; noticed after step 16, and 24 steps later
    assert [step for step, on in enumerate(chance) if on] == list(range(40, 48))
    wanted, scores = whole.losses, whole.scores
    whole.store.close()
    checkpoint = str(tmp_path / "run" / "checkpoint-42")
    again = train(tmp_path, "ours", resume=checkpoint, **settings)
    assert again.losses == wanted
    np.testing.assert_array_equal(again.scores, scores)


def test_policies_that_would_select_nothing_are_refused(tmp_path):
    run = prepare(tmp_path, policy=Masking(Above(0.5)), guidance={"entropy_floor": 1.0})
    with pytest.raises(ConfigError, match=r"entropy_floor=1\.0: while scores are withheld"):
        run.trainer.train()
