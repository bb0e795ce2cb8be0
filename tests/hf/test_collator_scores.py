"""Scores through the collator: from a reader, or from a column of the data set."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from maskwright import Clock, Masking, Ragged, TokenBatch, recipe
from maskwright.corruption import Weighted
from maskwright.errors import BatchError
from maskwright.hf import ClockedSampler, MaskingCollator, with_sample_ids
from tests.core import tokenizers
from tests.hf import tiny

ROWS = [row | {"sample_id": 3 * i} for i, row in enumerate(tiny.samples(12))]
HIGHEST = Masking(Weighted(temperature=0), rate=0.2, refresh="static", exact=True)


class Kept:
    """A reader of scores in memory; remembers what it was asked for."""

    def __init__(self, scores: dict[int, list[float]]) -> None:
        self.scores = scores
        self.asked: list[list[int]] = []

    def read(self, sample_ids: np.ndarray) -> Ragged:
        self.asked.append(sample_ids.tolist())
        return Ragged.from_lists([self.scores[i] for i in sample_ids.tolist()], np.float32)


def scores_of(row: dict) -> list[float]:
    return [((7 * token + 3 * place) % 11) / 4 for place, token in enumerate(row["input_ids"])]


KEPT = {row["sample_id"]: scores_of(row) for row in ROWS}
WITH_COLUMN = [row | {"scores": KEPT[row["sample_id"]]} for row in ROWS]


def collator(masking: Masking = HIGHEST, **settings) -> MaskingCollator:
    return MaskingCollator(tokenizers.words(), masking, seed=4, **settings)


def assert_same(one, other) -> None:
    assert set(one) == set(other)
    for name in one:
        assert torch.equal(one[name], other[name]), name


def test_the_reader_is_asked_for_the_samples_of_the_batch():
    kept = Kept(KEPT)
    plan = collator(scores=kept).plan(ROWS[2:7])
    assert kept.asked == [[6, 9, 12, 15, 18]]
    assert plan.batch.scores.values.dtype == np.float32
    assert plan.batch.scores.to_lists() == [KEPT[i] for i in (6, 9, 12, 15, 18)]
    # the highest of each sample, between its special tokens
    for row in range(5):
        own = plan.batch.scores[row][1:-1]
        taken = plan.selected[row][1:-1].astype(bool)
        assert taken.any()
        assert own[taken].min() >= own[~taken].max()


def test_a_column_gives_the_same_masks():
    assert_same(collator()(WITH_COLUMN), collator(scores=Kept(KEPT))(ROWS))
    with pytest.raises(BatchError, match="goes by scores, but the batch has none"):
        collator()(ROWS)


def test_a_policy_by_chance_reads_no_difference():
    for masking in (recipe("bert", refresh="static"), recipe("electra", refresh="static")):
        assert_same(collator(masking)(WITH_COLUMN), collator(masking)(ROWS))


def test_padding_is_taken_off_the_scores():
    padded = []
    for row in WITH_COLUMN:
        ids = [0, *row["input_ids"], 0, 0]
        attended = [0] + [1] * len(row["input_ids"]) + [0, 0]
        own = [99.0, *row["scores"], 99.0, 99.0]
        padded.append(row | {"input_ids": ids, "attention_mask": attended, "scores": own})
    assert_same(collator()(padded), collator()(WITH_COLUMN))
    without = [{k: v for k, v in row.items() if k != "scores"} for row in padded]
    assert_same(collator(scores=Kept(KEPT))(without), collator()(WITH_COLUMN))


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_a_token_may_have_none(missing):
    masking = recipe("attention-guided", refresh="static")
    unknown = [row | {"scores": [missing] * len(row["input_ids"])} for row in ROWS]
    plan = collator(masking).plan(unknown)
    assert np.isnan(plan.batch.scores.values).all()
    assert_same(collator(masking)(unknown), collator(masking)(ROWS))  # chance, in both


def test_scores_twice_are_refused():
    with pytest.raises(BatchError, match=r"Sample 0 has a column scores, and the collator reads"):
        collator(scores=Kept(KEPT))(WITH_COLUMN)


def test_scores_of_other_samples_are_refused():
    other = KEPT | {9: [0.5]}
    wanted = len(ROWS[3]["input_ids"])
    with pytest.raises(BatchError, match=f"Sample 9 has {wanted} tokens, but 1 scores"):
        collator(scores=Kept(other))(ROWS)

    class Few(Kept):
        def read(self, sample_ids: np.ndarray) -> Ragged:
            return super().read(sample_ids[:-1])

    with pytest.raises(BatchError, match="scores of 12 samples were asked for, and 11 rows came"):
        collator(scores=Few(KEPT))(ROWS)
    with pytest.raises(BatchError, match="scores has 1 values for"):
        collator()([row | {"scores": [1.0]} for row in ROWS])


class Table:
    """A data set that hands out whole batches."""

    def __init__(self, own_scores: bool) -> None:
        self.own_scores = own_scores

    def __len__(self) -> int:
        return len(ROWS)

    def __getitem__(self, index: int) -> dict:
        raise AssertionError("batches are asked for")

    def batch(self, sample_ids: np.ndarray) -> TokenBatch:
        tokens = Ragged.from_lists([ROWS[i]["input_ids"] for i in sample_ids])
        batch = TokenBatch(tokens, np.asarray(sample_ids))
        if not self.own_scores:
            return batch
        rows = [KEPT[3 * i] for i in sample_ids.tolist()]
        return replace(batch, scores=Ragged.from_lists(rows, np.float32))


def test_batches_that_are_fetched_at_once():
    kept = Kept({i: KEPT[3 * i] for i in range(len(ROWS))})
    fetched = [with_sample_ids(Table(own)).__getitems__([5, 1, 8]) for own in (False, True)]
    plan = collator(scores=kept).plan(fetched[0])
    assert plan.batch.scores.to_lists() == [KEPT[15], KEPT[3], KEPT[24]]
    assert_same(collator(scores=kept)(fetched[0]), collator()(fetched[1]))
    # and as single samples
    assert_same(collator()(list(fetched[1])), collator()(fetched[1]))


@pytest.mark.parametrize("workers", [0, 2])
def test_any_number_of_workers(workers):
    rows = [{"input_ids": row["input_ids"], "scores": row["scores"]} for row in WITH_COLUMN]
    sampler = ClockedSampler(len(rows), 5, seed=9, total_steps=10)
    masking = recipe("attention-hints")
    loader = DataLoader(
        with_sample_ids(rows), batch_size=5, sampler=sampler, num_workers=workers,
        collate_fn=collator(masking, carry=True),
    )  # fmt: skip
    bound = collator(masking).masking
    seen = 0
    for batch in loader:
        for row, sample in enumerate(batch["sample_ids"].tolist()):
            own = TokenBatch(
                Ragged.from_lists([rows[sample]["input_ids"]]),
                np.array([sample]),
                scores=Ragged.from_lists([rows[sample]["scores"]], np.float32),
            )
            epoch, step = batch["clock"][row].tolist()
            plan = bound.plan(own, Clock(4, epoch, step, 10))
            real = batch["attention_mask"][row].bool()
            assert batch["labels"][row][real].tolist() == plan.labels().values.tolist()
            seen += 1
    assert seen == len(rows)
