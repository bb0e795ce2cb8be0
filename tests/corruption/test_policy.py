"""Masking as a value: the algebra of acts, settings outside their rule, binding, names."""

from __future__ import annotations

import numpy as np
import pytest

from maskwright import Clock, Keep, Mask, Masking, Ragged, Random, TokenBatch, Vocabulary, recipe
from maskwright.corruption import RECIPES, Mixture, Rotating
from maskwright.errors import (
    BatchError,
    ConfigError,
    PolicyError,
    ScheduleError,
    VocabularyError,
)
from maskwright.schedule import Constant, Linear
from tests.core import tokenizers
from tests.corruption.rows import WORDS, same_rows

ROW = TokenBatch(Ragged.from_lists([[5, 6]]), np.array([0]))


def test_acts_mix_by_weight():
    mixture = 0.8 * Mask() + 0.1 * Random() + 0.1 * Keep()
    assert mixture == Mixture(((0.8, Mask()), (0.1, Random()), (0.1, Keep())))
    assert str(mixture) == "0.8 mask + 0.1 random + 0.1 keep"
    assert 0.5 * Mask() + (0.25 * Keep() + 0.25 * Random()) == Mixture(
        ((0.5, Mask()), (0.25, Keep()), (0.25, Random()))
    )
    assert (Masking(act=Mask()), Mask() == Mask(), Mask() == Keep())[1:] == (True, False)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Masking(act=0.8 * Mask()), r"sum to 1, got 0.8 mask = 0.8"),
        (lambda: Masking(act=Mask() + Keep()), r"sum to 1, got 1 mask \+ 1 keep = 2"),
        (lambda: -0.1 * Mask(), r"share of mask must be from 0 to 1, got -0.1"),
        (lambda: 1.5 * Keep(), r"share of keep must be from 0 to 1, got 1.5"),
        (lambda: Masking(act="mask"), "'mask', which is no act"),
        (lambda: Masking(act=float("nan") * Mask()), "from 0 to 1, got nan"),
        (lambda: Masking(rate=15), r"a share from 0 to 1, got 15. 15% is 0.15"),
        (lambda: Masking(rate=-0.1), "got -0.1"),
        (lambda: Masking(rate=float("nan")), "got nan"),
        (lambda: Masking(rate="0.15"), "got '0.15'"),
        (lambda: Masking(rate=Constant(1.5)), "got 1.5"),
        (lambda: Masking(at_least=1), "needs exact=True"),
        (lambda: Masking(exact=True, at_least=-1), "at_least=-1"),
        (lambda: Masking(refresh=3), "refresh got 3, which is no refresh"),
        (lambda: Masking(select="tokens"), "select got 'tokens', which is no select"),
    ],
)
def test_settings_outside_their_rule(make, message):
    with pytest.raises(PolicyError, match=message):
        make()


def test_a_policy_is_a_value():
    assert Masking() == Masking(rate=0.15)
    assert Masking().bind(WORDS) == Masking()
    assert len({Masking(), Masking(), Masking(rate=0.3)}) == 2
    assert repr(Masking(rate=0.3, exact=True, at_least=1, stream=2)) == (
        "Masking(tokens, rate 0.3, 0.8 mask + 0.1 random + 0.1 keep, dynamic, exact, at least 1, "
        "stream 2)"
    )


def test_an_unbound_policy_says_how_to_bind_it():
    with pytest.raises(PolicyError, match=r"masking.bind\(Vocabulary.from_tokenizer"):
        Masking().plan(ROW)


def test_binding_asks_for_what_the_act_writes():
    bare = Vocabulary.from_tokenizer(tokenizers.unigram())
    with pytest.raises(VocabularyError, match="has no mask token"):
        Masking().bind(bare)
    assert Masking(act=Random()).bind(bare).bound is bare
    with pytest.raises(VocabularyError, match="only special and unused ids"):
        Masking(act=Random()).bind(Vocabulary(2, mask_id=0, pad_id=1))
    assert Masking(act=Mask()).bind(Vocabulary(2, mask_id=0, pad_id=1))


@pytest.mark.parametrize("token, message", [(1000, "id 1000 is outside"), (-1, "id -1 is outside")])
def test_tokens_of_another_tokenizer(token, message):
    batch = TokenBatch(Ragged.from_lists([[5, token]]), np.array([0]))
    with pytest.raises(BatchError, match=message + r".*words \(0 … 999\)"):
        Masking().bind(WORDS).plan(batch)


def test_tokens_that_are_no_integers():
    batch = TokenBatch(Ragged.from_lists([[5.0]], np.float32), np.array([0]))
    with pytest.raises(BatchError, match="must be integers, got float32"):
        Masking().bind(WORDS).plan(batch)


def test_a_rate_may_be_a_schedule():
    masking = Masking(rate=Linear(1.0, 0.0)).bind(WORDS)
    batch = same_rows(np.arange(5, 105), 10)
    shares = [
        masking.plan(batch, Clock(step=step, total_steps=100)).selected.values.mean()
        for step in (0, 50, 100)
    ]
    assert shares[0] == 1.0
    assert 0.4 < shares[1] < 0.6
    assert shares[2] == 0.0
    assert masking.plan(batch, Clock(step=25, total_steps=100)).rates.tolist() == [0.75] * len(
        batch
    )
    with pytest.raises(ScheduleError, match="total_steps=None"):
        masking.plan(batch, Clock(step=3))


def test_as_a_rate_falls_the_selection_only_shrinks():
    masking = Masking(rate=Linear(0.4, 0.1), refresh="static").bind(WORDS)
    batch = same_rows(np.arange(5, 105), 10)
    early, late = (
        set(masking.plan(batch, Clock(step=step, total_steps=10)).positions.tolist())
        for step in (0, 10)
    )
    assert late < early


def test_a_schedule_that_leaves_the_unit_interval():
    masking = Masking(rate=Linear(0.5, 1.5)).bind(WORDS)
    with pytest.raises(PolicyError, match=r"got 1\.5"):
        masking.plan(ROW, Clock(step=10, total_steps=10))


def test_recipes_by_name():
    assert {"bert", "roberta"} <= set(RECIPES)
    assert recipe("bert") == Masking(rate=0.15, refresh=Rotating(10))
    assert recipe("roberta") == Masking(rate=0.15, refresh="dynamic")
    assert recipe("bert", rate=0.4, refresh="static").rate == 0.4
    assert recipe("bert", WORDS).bound is WORDS
    assert recipe("bert", tokenizers.words()).bound.size == 100


def test_recipes_that_are_none():
    with pytest.raises(PolicyError, match=r"Unknown recipe 'robert'. Did you mean 'roberta'"):
        recipe("robert")
    with pytest.raises(ConfigError, match=r"'mask_rate'.*Available: act, arrange, at_least"):
        recipe("bert", mask_rate=0.2)
    with pytest.raises(ConfigError, match=r"Did you mean 'rate'"):
        recipe("bert", rates=0.2)


def test_a_plan_says_what_it_is():
    plan = Masking(rate=1.0, act=Mask()).bind(WORDS).plan(ROW, Clock(epoch=2, step=7))
    assert repr(plan) == (
        "MaskPlan(2 of 2 tokens in 1 samples: 2 mask; dynamic at epoch 2, step 7)"
    )
    assert plan.selected.to_lists() == [[1, 1]]
    assert plan.corrupted.to_lists() == [[4, 4]]
    assert plan.labels(ignore=-1).to_lists() == [[5, 6]]
