"""A rolling window in guided runs: what is kept stays bit for bit, though new scores arrive."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from maskwright import Clock, Masking, Ragged, TokenBatch, recipe
from maskwright.corruption import Above, Tokens, Weighted
from maskwright.errors import ConfigError
from maskwright.guidance import KnownScores, ScoreStore
from tests.hf.guided.runs import LENGTHS, ROWS, Broken, prepare, train
from tests.hf.guided.test_runs import Remember

WIDTH, EPOCHS = 7, 4  # rows of 8 to 22 tokens: two to four tiles
POLICIES: dict[str, tuple[Masking, str]] = {
    "weighted": (Masking(Weighted(chance=0.1), rate=0.3, exact=True, at_least=1), "loss"),
    "above": (Masking(Above(0.3), rate=0.6), "attention"),
    "cautious": (recipe("attention-guided"), "attention"),
    "cautious above": (recipe("attention-threshold"), "attention"),
}


def rolling(name: str) -> dict[str, Any]:
    masking, source = POLICIES[name]
    return {
        "policy": replace(masking, refresh=f"window-{WIDTH}"),
        "guidance": {"source": source},
        "epochs": EPOCHS,
    }


def store_at(path, width: int | None = WIDTH) -> ScoreStore:
    """A new store in which every token has a score already, as bare selects need it."""
    path.mkdir(parents=True, exist_ok=True)
    store = ScoreStore.create(path / "scores.store", LENGTHS, update_window=width)
    rng = np.random.default_rng(1)
    rows = Ragged.from_lists([rng.random(length) for length in LENGTHS], np.float32)
    store.initialise(KnownScores(rows))
    return store


def views_by_sample(run, epoch: int) -> dict[int, np.ndarray]:
    """``(2, S)`` for each sample: input ids and labels, as the model saw them in an epoch."""
    number = {tuple(row["input_ids"]): i for i, row in enumerate(ROWS)}
    part = slice(epoch * len(ROWS), (epoch + 1) * len(ROWS))
    pairs = zip(run.selected()[part], run.seen[part], strict=True)
    found = {number[tokens]: np.array(view) for (tokens, _), view in pairs}
    assert len(found) == len(ROWS)
    return found


@pytest.mark.parametrize(
    "name, kind", [*((name, "ours") for name in POLICIES), ("cautious", "plain")], ids=str
)
def test_outside_the_window_masks_are_kept_though_scores_arrive(name, kind, tmp_path):
    store = None if "cautious" in name else store_at(tmp_path)
    if store is None:
        store = ScoreStore.create(tmp_path / "scores.store", LENGTHS, update_window=WIDTH)
    run = prepare(tmp_path, kind, store=store, **rolling(name))
    kept = Remember(store)
    run.trainer.add_callback(kept)
    run.trainer.train()
    guided = arrived = changed = 0
    seen = [views_by_sample(run, epoch) for epoch in range(EPOCHS)]
    masking, seed = run.trainer.data_collator.masking, run.trainer.data_collator.seed
    for epoch in range(1, EPOCHS):
        for sample, length in enumerate(LENGTHS.tolist()):
            inside = np.arange(length) // WIDTH == epoch % -(-length // WIDTH)
            before, after = seen[epoch - 1][sample], seen[epoch][sample]
            np.testing.assert_array_equal(before[:, ~inside], after[:, ~inside])
            changed += (before[:, inside] != after[:, inside]).any()
            # the scores that the tile was drawn by came with the visit before
            old, new = (kept.epochs[e][sample] for e in (epoch - 1, epoch))
            arrived += not np.array_equal(old[inside], new[inside], equal_nan=True)
            np.testing.assert_array_equal(old[~inside], new[~inside])
            chosen = after[1] != -100
            batch = TokenBatch(
                Ragged.from_lists([ROWS[sample]["input_ids"]]), np.array([sample]),
                scores=Ragged.from_lists([new], np.float32),
            )  # fmt: skip
            plan = masking.plan(batch, Clock(seed, epoch))
            np.testing.assert_array_equal(chosen, plan.selected[0] != 0)
            by_chance = replace(masking, select=Tokens()).plan(batch, Clock(seed, epoch))
            guided += not np.array_equal(chosen, by_chance.selected[0] != 0)
    visits = (EPOCHS - 1) * len(ROWS)
    assert changed > visits / 2
    assert arrived > visits * (0.9 if POLICIES[name][1] == "attention" else 0.5)
    assert guided > visits / 2


def test_a_store_without_a_window_would_change_what_is_kept(tmp_path, monkeypatch):
    """The test above can fail: this is what the refusal prevents."""
    monkeypatch.setattr("maskwright.hf.guided.run._check_window", lambda *_: None)
    run = train(tmp_path, "ours", store=store_at(tmp_path, None), **rolling("above"))
    one, two = (views_by_sample(run, epoch) for epoch in (0, 1))
    lost = 0
    for sample, length in enumerate(LENGTHS.tolist()):
        inside = np.arange(length) // WIDTH == 1 % -(-length // WIDTH)
        lost += not np.array_equal(one[sample][:, ~inside], two[sample][:, ~inside])
    assert lost > len(ROWS) / 4


@pytest.mark.parametrize("kind", ["ours", pytest.param("plain", marks=pytest.mark.slow)])
def test_a_killed_run_goes_on_as_if_it_had_not_been(kind, tmp_path):
    settings = {**rolling("cautious"), "save_strategy": "steps", "save_steps": 8}

    def store(name: str) -> ScoreStore:
        (tmp_path / name).mkdir()
        return ScoreStore.create(tmp_path / name / "scores.store", LENGTHS, update_window=WIDTH)

    whole = train(tmp_path / "whole", kind, store=store("whole"), **settings)
    with store("killed") as killed, pytest.raises(Broken):
        train(tmp_path / "killed", kind, kill=11, store=killed, **settings)
    checkpoint = tmp_path / "killed" / "run" / "checkpoint-8"
    resumed = train(tmp_path / "killed", kind, resume=str(checkpoint), **settings)
    assert resumed.losses == whole.losses
    assert resumed.seen == whole.seen[8 * 4 :]
    np.testing.assert_array_equal(resumed.scores, whole.scores)


@pytest.mark.slow  # workers start
def test_workers_that_read_ahead_change_nothing(tmp_path):
    changes = {"dataloader_num_workers": 2, "dataloader_persistent_workers": True}
    found = []
    for name, more in (("one", {}), ("two", changes)):
        (tmp_path / name).mkdir()
        store = ScoreStore.create(tmp_path / name / "scores", LENGTHS, update_window=WIDTH)
        found.append(train(tmp_path / name, "ours", store=store, **rolling("cautious"), **more))
    assert found[0].seen == found[1].seen
    np.testing.assert_array_equal(found[0].scores, found[1].scores)


@pytest.mark.parametrize(
    "width, changes, said",
    [
        (None, {}, r"update_window=None.* ScoreStore.create\(path, lengths, update_window=7\)"),
        (8, {}, "update_window=8: what a visit writes"),
        (7, {"policy": "attention-guided"}, r'refresh="dynamic".*update_window=None\)'),
        (7, {"policy": Masking(refresh="window-7")}, "update_window=7: what a visit writes"),
        (7, {"guidance": {"spike": 2.0}}, "spike=2.0 would withhold the scores of whole samples"),
        (7, {"guidance": {"entropy_floor": 1.0}}, "entropy_floor=1.0 would withhold"),
        (
            7,
            {"guided": False, "collator": {"scores": KnownScores(Ragged.from_lists([[1.0]]))}},
            "scores of KnownScores may change",
        ),
    ],
    ids=["none", "other", "dynamic", "unguided", "spike", "floor", "reader"],
)
def test_what_would_not_keep_its_tiles_is_refused(width, changes, said, tmp_path):
    store = ScoreStore.create(tmp_path / "scores", LENGTHS, update_window=width)
    settings = rolling("cautious") | changes
    collator = settings.pop("collator", None)
    run = prepare(tmp_path, "ours", store=store, **settings)
    if collator:
        run.trainer.data_collator.scores = collator["scores"]
    with pytest.raises(ConfigError, match=said):
        run.trainer.train()
