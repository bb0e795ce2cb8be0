"""Guided runs whose emits move tokens: each score finds the token that it is of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from maskwright import Masking, Ragged, TokenBatch, recipe
from maskwright.corruption import Cautious, Weighted
from maskwright.corruption.emit import Mlm, Seq2Seq
from maskwright.errors import BatchError, ConfigError
from maskwright.hf import MaskingCollator
from maskwright.hf.guided.places import TokenPlaces, is_read
from tests.core import tokenizers
from tests.corruption.emit.plans import T5
from tests.hf.guided import runs
from tests.hf.guided.moving import (
    CASES,
    COUNT,
    GUIDED,
    TRAINERS,
    label_places,
    plan_of,
    prepare,
    slow_attention,
    slow_losses,
    train,
)
from tests.hf.guided.runs import Broken
from tests.hf.guided.test_runs import Remember

kinds = pytest.mark.parametrize("kind", TRAINERS)


def in_turn(names: Iterable[str], often: int = 99) -> Any:
    """Each case with each trainer; in the quick tests the first ones with one of them, in turn."""
    pairs = [(i + j, name, kind) for i, name in enumerate(names) for j, kind in enumerate(TRAINERS)]
    return pytest.mark.parametrize(
        "name, kind",
        [
            pytest.param(name, kind, marks=[pytest.mark.slow] if i % 2 or i >= often else [])
            for i, name, kind in pairs
        ],
    )


def first_step(run) -> list[int]:
    return list(run.seen[0])


def assert_scores(run, wanted) -> None:
    """Of the samples of the first step; nobody else has any."""
    samples, known = first_step(run), 0
    for sample in range(COUNT):
        (row,) = run.store.read(np.array([sample]))
        if sample not in samples:
            assert np.isnan(row).all()
            continue
        slow = wanted(sample)
        known += int((~np.isnan(slow)).sum())
        np.testing.assert_allclose(row, slow, rtol=3e-3)  # half precision
    assert known > len(samples)


@in_turn(CASES)
def test_losses_are_of_the_tokens_that_were_predicted(name, kind, tmp_path):
    run = train(tmp_path, name, kind, guidance={"source": "loss"}, max_steps=1)
    assert_scores(run, lambda sample: slow_losses(run, sample))


def test_other_scores_of_predictions_are_of_the_same_tokens(tmp_path):
    losses, entropies, margins = (
        np.nan_to_num(
            train(tmp_path / one, "t5", "ours", guidance={"source": one}, max_steps=1).scores
        )
        for one in ("loss", "entropy", "margin")
    )
    np.testing.assert_array_equal(entropies > 0, losses > 0)
    np.testing.assert_array_equal(margins > 0, losses > 0)
    assert (margins <= 1).all()
    assert (entropies[losses > 0] > 1).all()


SEATS = {
    "t5": (None, "encoder_attentions"),
    "t5, chance": ("cross", "cross_attentions"),
    "bart": ("cross", "cross_attentions"),
    "mass": ("encoder", "encoder_attentions"),
    "cmlm": (None, "decoder_attentions"),
    "word-dropout": ("decoder", "decoder_attentions"),
    "fim": (None, "attentions"),
    "prefix-lm": (None, "attentions"),
}


@in_turn(SEATS)
def test_attention_is_of_the_tokens_that_are_read(name, kind, tmp_path):
    role, attentions = SEATS[name]
    guidance = {"role": role, "queries": None}
    run = train(tmp_path, name, kind, guidance=guidance, max_steps=1)
    assert_scores(run, lambda sample: slow_attention(run, sample, attentions))


@in_turn(["t5", "bart", "mass"])
def test_attention_is_of_the_tokens_that_a_decoder_reads_again(name, kind, tmp_path):
    run = train(tmp_path, name, kind, guidance={"role": "decoder", "queries": None}, max_steps=1)

    def wanted(sample):
        # behind the start token, each label but the last
        places = [-1, *label_places(run.case, plan_of(run, sample, 0, None))[:-1]]
        return slow_attention(run, sample, "decoder_attentions", places)

    assert_scores(run, wanted)


def test_visible_only_leaves_out_what_was_masked(tmp_path):
    whole, part = (
        train(
            tmp_path / str(visible), "mass", "ours",
            guidance={"queries": None, "visible_only": visible}, max_steps=1,
        )
        for visible in (False, True)
    )  # fmt: skip
    for sample in first_step(part):
        chosen = plan_of(part, sample, 0, None).selected.values == 1
        one, two = (run.store.read(np.array([sample])).values for run in (whole, part))
        assert chosen.any()
        np.testing.assert_array_equal(two, np.where(chosen, np.nan, one))


def test_padding_on_the_left_changes_no_score(tmp_path, monkeypatch):
    found = []
    for side in ("right", "left"):
        monkeypatch.setattr(tokenizers.unigram(), "padding_side", side)
        found.append(train(tmp_path / side, "t5", "ours", guidance={"queries": 3}, max_steps=1))
    assert not np.isnan(found[0].scores).all()
    np.testing.assert_allclose(found[1].scores, found[0].scores, rtol=3e-3)


SOURCE = {"t5": "attention", "word-dropout": "attention"}


@in_turn(GUIDED)
def test_masks_are_those_of_the_scores_at_the_begin_of_the_epoch(name, kind, tmp_path):
    run = prepare(tmp_path, name, kind, guidance={"source": SOURCE.get(name, "loss")})
    scores = Remember(run.store)
    run.trainer.add_callback(scores)
    run.trainer.train()
    steps, emit = len(run.seen) // 3, run.case.masking.emit
    for epoch in range(3):
        seen = {
            k: v for one in run.seen[epoch * steps : (epoch + 1) * steps] for k, v in one.items()
        }
        assert len(seen) == COUNT
        others = 0
        for sample, (read, labels) in seen.items():
            for known in (scores.epochs[epoch].take([sample]), None):
                masked = emit(plan_of(run, sample, epoch, known))
                own = masked.labels[0]
                same = masked.input_ids[0].tolist() == read
                same = same and own[own != -100].tolist() == labels
                assert same or known is None
            others += not same
        # chance in the first epoch, and not in those after it
        assert others == 0 if epoch == 0 else others > COUNT // 3


@in_turn(["t5", "bart", "cmlm"], often=1)
def test_a_killed_run_goes_on_as_if_it_had_not_been(name, kind, tmp_path):
    settings: dict[str, Any] = {
        "guidance": {"source": SOURCE.get(name, "loss")},
        "save_strategy": "steps", "save_steps": 4,
    }  # fmt: skip
    whole = train(tmp_path / "whole", name, kind, **settings)
    killed = prepare(tmp_path / "killed", name, kind, kill=6, **settings)
    with pytest.raises(Broken):
        killed.trainer.train()
    killed.store.close()  # as the end of its process would
    checkpoint = str(tmp_path / "killed" / "run" / "checkpoint-4")
    resumed = train(tmp_path / "killed", name, kind, resume=checkpoint, **settings)
    assert resumed.losses == whole.losses
    assert resumed.seen == whole.seen[4:]
    np.testing.assert_array_equal(resumed.scores, whole.scores)


@in_turn(["fim", "t5"])
def test_the_same_seed_gives_the_same_losses_masks_and_scores(name, kind, tmp_path):
    one, two = (
        train(tmp_path / part, name, kind, num_train_epochs=2, guidance={"source": "loss"})
        for part in ("one", "two")
    )
    assert one.losses == two.losses
    assert one.seen == two.seen
    np.testing.assert_array_equal(one.scores, two.scores)


@kinds
def test_the_model_never_sees_the_map(kind, tmp_path):
    run = prepare(tmp_path, "t5", kind, max_steps=1)
    given: list[set[str]] = []
    inner = run.trainer.model.forward

    def forward(**options: Any) -> Any:
        given.append(set(options))
        return inner(**options)

    run.trainer.model.forward = forward
    run.trainer.train()
    assert given
    for names in given:
        assert not names & {"input_places", "label_places", "sample_mask", "sample_ids", "clock"}


def test_the_words_that_were_selected_are_counted_and_not_all_labels(tmp_path):
    run = train(tmp_path, "word-dropout", "ours", guidance={"source": "loss"}, max_steps=1)
    words = []
    for sample in first_step(run):
        plan = plan_of(run, sample, 0, None)
        words += plan.targets.tolist()
    shares = np.bincount(words)[np.unique(words)] / len(words)
    logged = run.trainer.state.log_history[0]["guidance/entropy"]
    assert logged == pytest.approx(-(shares * np.log(shares)).sum(), rel=1e-5)


@dataclass(frozen=True)
class Own:
    """An emit that nobody here knows; it leaves every token where it stands."""

    def __call__(self, plan, *, side="right", length=None, multiple=1):
        return Mlm()(plan, side=side, length=length, multiple=multiple)

    def check(self, masking):
        Mlm().check(masking)


@pytest.mark.parametrize("source", ["attention", "loss"])
def test_an_emit_of_the_users_has_the_same_scores_by_its_map_as_without_one(source, tmp_path):
    own, mlm = (
        runs.train(
            tmp_path / str(emit), "ours", epochs=2, guidance={"source": source},
            policy=Masking(CASES["t5"].masking.select, emit=emit),
        )
        for emit in (Own(), Mlm())
    )  # fmt: skip
    assert own.seen == mlm.seen
    np.testing.assert_array_equal(own.scores, mlm.scores)


# -- which recipes can follow scores ---------------------------------------------------------

TAKEN = {
    "t5": {}, "bart": {"ends": (50,)}, "mass": {}, "cmlm": {}, "word-dropout": {"start_id": 2},
}  # fmt: skip


def scored_batch() -> TokenBatch:
    """Four samples; those tokens have scores that are even, and high ones at the begin."""
    rows = [list(range(10, 30)), list(range(30, 60)), list(range(11, 35)), [40, 41]]
    tokens = Ragged.from_lists(rows)
    scores = np.where(tokens.values % 2, np.nan, 60.0 - tokens.values).astype(np.float32)
    return TokenBatch(tokens, np.arange(4), scores=tokens.like(scores))


@pytest.mark.parametrize("name", TAKEN)
def test_recipes_that_move_tokens_take_a_select_that_follows_scores(name):
    select = Cautious(Weighted(temperature=0), start_rate=0.0)
    policy = recipe(name, T5, **TAKEN[name], select=select, exact=True, rate=0.2, at_least=1)
    batch = scored_batch()
    plan = policy.plan(batch)
    known = np.flatnonzero(~np.isnan(batch.scores.values))
    assert set(plan.positions) <= set(known)
    masked = policy.emit(plan)
    assert (masked.sample_mask >= 2).sum() == len(plan.positions) >= 4
    for row in range(3):  # without a draw, the highest scores are taken
        own = plan.positions[batch.tokens.rows[plan.positions] == row]
        of_row = known[batch.tokens.rows[known] == row]
        assert own.tolist() == of_row[: len(own)].tolist()


@pytest.mark.parametrize(
    "name, given, said",
    [
        ("fim", {"prefix_id": 97, "suffix_id": 98, "middle_id": 99}, "moves one unit"),
        ("prefix-lm", {}, "tokens after it were not selected"),
    ],
)
def test_recipes_of_one_piece_take_none(name, given, said):
    policy = recipe(name, T5, **given, select=Weighted(), rate=0.4)
    with pytest.raises(BatchError, match=said):
        policy.emit(policy.plan(scored_batch()))


# -- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, settings, said",
    [
        ("fim", {"scores": False}, r"MaskingCollator\(…, scores=store\)"),
        ("cmlm", {"guidance": {"role": "cross"}}, 'Use role="decoder"'),
        ("word-dropout", {"guidance": {"role": "encoder"}}, 'Use role="decoder"'),
        ("t5", {"guidance": {"spike": 2.0}, "dataloader_num_workers": 16}, "their number"),
    ],
)
def test_what_cannot_be_guided_is_refused(name, settings, said, tmp_path):
    with pytest.raises(ConfigError, match=said):
        train(tmp_path, name, "plain", **settings)


class Forgetful(MaskingCollator):
    """Hands on what a model takes."""

    def __call__(self, samples: Any) -> Any:
        batch = super().__call__(samples)
        del batch["label_places"]
        return batch


def test_a_collator_that_drops_the_map_is_named(tmp_path):
    with pytest.raises(ConfigError, match="label_places, sample_mask of the MaskingCollator"):
        train(tmp_path, "t5", "ours", collator=Forgetful, max_steps=1)


# -- the collator and the map -----------------------------------------------------------------


def test_the_collator_sends_the_map_only_where_it_is_wanted(tmp_path):
    samples = [row | {"sample_id": i} for i, row in enumerate(CASES["t5"].rows()[:3])]
    run = prepare(tmp_path, "t5")
    tokenizer, policy = tokenizers.unigram(), CASES["t5"].masking
    plain = MaskingCollator(tokenizer, policy, scores=run.store)
    plain.set_clock(0)
    assert set(plain(samples)) == {"input_ids", "attention_mask", "labels"}
    asked = MaskingCollator(tokenizer, policy, scores=run.store, carry=True)
    asked.set_clock(0)
    batch = asked(samples)
    assert isinstance(policy.emit, Seq2Seq)
    assert batch["input_places"].shape == batch["input_ids"].shape
    assert batch["label_places"].shape == batch["labels"].shape
    lengths = [len(row["input_ids"]) for row in samples]
    assert (batch["sample_mask"] > 0).sum(1).tolist() == lengths


def test_scores_of_several_slots_are_their_mean():
    tokens = torch.tensor([[1, 3, 2], [1, 0, 0]], dtype=torch.int8)
    places = torch.tensor([[2, 0, 2, -1], [0, -1, -1, -1]], dtype=torch.int32)
    found = TokenPlaces(places, places, tokens)
    nan = torch.nan
    scores = torch.tensor([[1.0, 5.0, 3.0, 9.0], [nan, 8.0, nan, 1.0]])
    expected = torch.tensor([[5.0, nan, 2.0], [nan, nan, nan]])
    torch.testing.assert_close(found.gather(scores, places), expected, equal_nan=True)
    assert found.hidden.tolist() == [[False, True, False], [False, False, False]]
    assert found.shifted.tolist() == [[-1, 2, 0, 2], [-1, 0, -1, -1]]
    labels = torch.tensor([[7, 8, 9, 6], [5, 4, 3, 2]])
    # the third token was selected, the first was not, and 6 is of none
    assert found.chosen(labels).tolist() == [[7, -100, 9, -100], [-100] * 4]
    assert TokenPlaces.of({"input_places": places}) is None


def test_a_decoder_is_asked_up_to_its_last_label():
    labels = torch.tensor([[4, -100, 5, -100], [-100, -100, -100, -100]])
    assert is_read(labels).tolist() == [[True, True, True, False], [False] * 4]
