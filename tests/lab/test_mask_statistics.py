"""Figures of masks, by hand and against a slow count; and comparisons at equal expense."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch

from maskwright.guidance import ScoreStore
from maskwright.hf.guided.observer import SeenBatch
from maskwright.lab.mask_statistics import MaskStatistics
from maskwright.lab.matched import matched_differences
from maskwright.ragged import Ragged
from maskwright.vocabulary import Vocabulary

VOCABULARY = Vocabulary(size=20, mask_id=4, special_ids=(0, 1, 4))


def seen(ids, rows, chosen):
    """A batch of rows of tokens, padded, with labels at the places in ``chosen``."""
    width = max(map(len, rows))
    labels = torch.full((len(rows), width), -100)
    mask = torch.zeros((len(rows), width), dtype=torch.int64)
    for row, (tokens, places) in enumerate(zip(rows, chosen, strict=True)):
        mask[row, : len(tokens)] = 1
        for place in places:
            labels[row, place] = tokens[place]
    return SeenBatch(torch.tensor(ids), mask, labels, False, None, None, None)


ROWS = {7: [0, 5, 6, 7, 1], 3: [0, 8, 9, 1]}


def statistics(store=None):
    return MaskStatistics(
        np.array([7, 3]), Ragged.from_lists(list(ROWS.values())), VOCABULARY, store
    )


def test_figures_by_hand(tmp_path):
    lengths = np.zeros(8, np.int64)
    lengths[[7, 3]] = 5, 4
    with ScoreStore.create(tmp_path / "s", lengths, decay=0) as store:
        masks = statistics(store)
        masks.observe(seen([3, 7], [ROWS[3], ROWS[7]], [[1], [1, 2]]))
        first = masks.take(2)
        assert first["overlap"] is None
        assert first["score"] is None
        assert (first["scored"], first["age"]) == (0, None)
        assert first["entropy"] == pytest.approx(math.log(3))
        assert masks.rate() == pytest.approx(3 / 5)  # specials are not maskable
        scores = Ragged.from_lists([[9.0, 1.0, 2.0, 3.0, 9.0]], np.float32)
        store.update(np.array([7]), scores, step=3)
        masks.observe(seen([7], [ROWS[7]], [[2, 3]]))
        second = masks.take(5)
    assert second["overlap"] == pytest.approx(1 / 3)
    assert (second["score"], second["score_all"]) == (2.5, 2)
    assert second["scored"] == pytest.approx(3 / 5)
    assert second["age"] == 2
    assert second["entropy"] == pytest.approx(math.log(2))
    assert masks.rate() == pytest.approx(2 / 3)
    assert masks.rate() is None


def test_against_a_slow_count(tmp_path):
    random = np.random.default_rng(0)
    tokens = [random.integers(5, 20, size).tolist() for size in (3, 9, 1, 6)]
    ids = np.array([4, 9, 2, 5])
    masks = MaskStatistics(ids, Ragged.from_lists(tokens), VOCABULARY)
    last, overlaps, counts = {}, [], Counter()
    for turn in range(12):
        some = random.permutation(4)[: random.integers(1, 5)]
        chosen = [np.flatnonzero(random.random(len(tokens[i])) < 0.4).tolist() for i in some]
        masks.observe(seen(ids[some], [tokens[i] for i in some], chosen))
        for i, places in zip(some, chosen, strict=True):
            counts.update(tokens[i][place] for place in places)
            if i in last and last[i] | set(places):
                overlaps.append(len(last[i] & set(places)) / len(last[i] | set(places)))
            last[i] = set(places)
        if turn == 5:  # a checkpoint in between changes nothing
            masks.save(tmp_path)
            masks = MaskStatistics(ids, Ragged.from_lists(tokens), VOCABULARY)
            masks.restore(tmp_path)
    found = masks.take(12)
    total = sum(counts.values())
    assert found["overlap"] == pytest.approx(np.mean(overlaps))
    assert found["entropy"] == pytest.approx(
        -sum(n / total * math.log(n / total) for n in counts.values())
    )
    assert masks.take(12) == {"overlap": None, "entropy": None}


# -- equal expense ------------------------------------------------------------------------


def run(losses, predicted, seconds):
    steps = range(len(losses))
    return {
        "history": [{"step": s, "loss": losses[s], "predicted": predicted * s} for s in steps],
        "timing": [{"step": s, "seconds": seconds * s} for s in steps],
    }


def test_curves_are_read_where_the_cheaper_run_ends():
    runs = {
        "dynamic": [run([4, 3, 2], 100, 1.0), run([4, 3, 1], 100, 1.0)],
        "costly": [run([4, 2, 1], 200, 1.0), run([4, 2, 1], 200, 2.0)],
    }
    tokens, seconds = matched_differences("dynamic", runs)
    assert (tokens["by"], tokens["spent"]) == ("predicted tokens", 200)
    assert tokens["per_seed"] == [2 - 2, 2 - 1]
    assert (seconds["by"], seconds["spent"]) == ("seconds", 2)
    assert seconds["per_seed"] == [1 - 2, 2 - 1]
    # Student's for two seeds: 12.706 · 0.5
    assert tokens["high"] - tokens["mean"] == pytest.approx(12.7062 * 0.5, rel=1e-4)
    assert tokens["verdict"] == seconds["verdict"] == "no difference"


def test_a_difference_that_every_seed_shows_counts():
    runs = {
        "dynamic": [run([4, 3 + s / 100], 10, 1.0) for s in range(4)],
        "better": [run([4, 2 + s / 90], 10, 1.0) for s in range(4)],
    }
    for found in matched_differences("dynamic", runs):
        assert found["low"] <= found["mean"] <= found["high"] < 0
        assert found["verdict"] == "better"


def test_one_seed_and_older_runs_have_no_verdict():
    runs = {"dynamic": [run([4, 3], 10, 1.0)], "other": [run([4, 2], 10, 1.0)]}
    for found in matched_differences("dynamic", runs):
        assert (found["low"], found["high"], found["verdict"]) == (None, None, "no difference")
    old = {"history": [{"step": 0, "loss": 4.0}]}
    assert matched_differences("dynamic", {"dynamic": [old], "other": [old]}) == []
