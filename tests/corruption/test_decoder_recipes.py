"""Policies of a decoder's inputs by name, and the selects whose rate grows."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from maskwright import Clock, Masking, Ragged, TokenBatch, Vocabulary, randomness
from maskwright.corruption import (
    DECODER_MASKINGS,
    Decoder,
    Later,
    Longer,
    Mask,
    Tokens,
    decoder_masking,
)
from maskwright.errors import PolicyError
from maskwright.schedule import Linear

SIZE = 60
VOCABULARY = Vocabulary(
    SIZE, mask_id=4, pad_id=0, special_ids=(0, 1, 2, 3), word_start=np.arange(SIZE) % 3 != 0
)
START = 2


def batch_of(lengths: list[int], seed: int = 0) -> TokenBatch:
    random = np.random.default_rng(seed)
    rows = [[*random.integers(5, SIZE, length).tolist(), 3] for length in lengths]
    return TokenBatch(Ragged.from_lists(rows), np.arange(len(rows)))


@pytest.mark.parametrize("name", DECODER_MASKINGS)
def test_each_is_a_policy_of_a_decoder(name):
    policy = decoder_masking(name, start_id=START)
    assert isinstance(policy, Masking)
    assert isinstance(policy.emit, Decoder)
    assert policy.emit.labels == ("selected" if name == "cmlm" else "all")
    assert policy.emit.start_id == (None if name == "cmlm" else START)
    assert pickle.loads(pickle.dumps(policy)) == policy
    assert decoder_masking(name, start_id=START) == policy


@pytest.mark.parametrize(
    "name, share", [("none", 0), ("random", 0.15), ("sparse", 0.05), ("span", 0.15),
                    ("word-dropout", 0.30), ("cmlm", 0.5), ("position", 0.15), ("length", 0.30)],
)  # fmt: skip
def test_how_much_it_selects(name, share):
    """Of long samples, by the law of large numbers."""
    batch = batch_of([40] * 150)
    plan = decoder_masking(name, start_id=START).bind(VOCABULARY).plan(batch, Clock(1))
    assert len(plan.positions) / 6000 == pytest.approx(share, abs=0.08 if name == "cmlm" else 0.03)
    assert not (batch.tokens.values[plan.positions] == 3).any()
    if name == "cmlm":
        assert plan.selected.values.reshape(150, 41).sum(1).min() >= 1


def test_dropped_words_are_whole():
    plan = (
        decoder_masking("word-dropout", start_id=START).bind(VOCABULARY).plan(batch_of([30] * 20))
    )
    selected = plan.selected.values
    tokens = plan.batch.tokens
    inside = ~VOCABULARY.word_start[tokens.values] & (tokens.positions > 0) & (tokens.values > 4)
    assert inside.any()
    assert np.array_equal(selected[1:][inside[1:]], selected[:-1][inside[1:]])


def test_a_rate_in_place_of_its_own():
    assert decoder_masking("span", start_id=START, rate=0.4).rate == 0.4
    schedule = Linear(0.0, 0.3)
    assert decoder_masking("random", start_id=START, rate=schedule).rate is schedule
    with pytest.raises(PolicyError, match="masks nothing"):
        decoder_masking("none", start_id=START, rate=0.1)


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(PolicyError, match=r"'word_dropout'\. Did you mean 'word-dropout'"):
        decoder_masking("word_dropout", start_id=START)


# -- rates that grow ------------------------------------------------------------------------------


def test_later_tokens_against_the_slow_rule():
    """Token i of m where its own draw is below 2 * rate * (i + 1/2) / m."""
    batch, rate = batch_of([1, 7, 0, 12, 33], seed=2), 0.4
    plan = Masking(select=Later(), rate=rate, act=Mask()).bind(VOCABULARY).plan(batch, Clock(5, 2))
    key, wanted = randomness.run_key(5, 0, 2), []
    for row in range(len(batch)):
        start, tokens = batch.tokens.offsets[row], batch.tokens[row].tolist()
        own = int(
            randomness.sample_keys(key, batch.sample_ids[row : row + 1], randomness.SELECT)[0]
        )
        maskable = [place for place, token in enumerate(tokens) if token > 4]
        for number, place in enumerate(maskable):
            chance = min(1.0, 2 * rate * (number + 0.5) / len(maskable))
            if randomness.draw(own, place) >> 11 < randomness.threshold(chance):
                wanted.append(start + place)
    assert plan.positions.tolist() == wanted
    assert len(wanted) > 5


def test_later_tokens_are_likelier_and_the_mean_is_the_rate():
    plan = Masking(select=Later(), rate=0.2, act=Mask()).bind(VOCABULARY).plan(batch_of([20] * 500))
    shares = plan.selected.values.reshape(500, 21)[:, :20].mean(0)
    assert shares.mean() == pytest.approx(0.2, abs=0.015)
    assert shares[:5].mean() == pytest.approx(0.05, abs=0.02)
    assert shares[15:].mean() == pytest.approx(0.35, abs=0.03)


def test_later_tokens_have_no_exact_budget():
    policy = Masking(select=Later(), rate=0.2, exact=True).bind(VOCABULARY)
    with pytest.raises(PolicyError, match="no exact budget"):
        policy.plan(batch_of([5]))


def test_longer_samples_have_a_higher_rate():
    """The same draws as `Tokens` at that rate."""
    batch = batch_of([5, 10, 40, 10])
    longer = Masking(select=Longer(Tokens(), full=20), rate=0.4, act=Mask()).bind(VOCABULARY)
    found = longer.plan(batch, Clock(3)).selected
    for row, rate in enumerate((0.1, 0.2, 0.4, 0.2)):
        alone = Masking(rate=rate, act=Mask()).bind(VOCABULARY).plan(batch, Clock(3)).selected
        assert found[row].tolist() == alone[row].tolist()
    assert found.values.any()
    for wrong in ({"select": "tokens"}, {"select": Tokens(), "full": 0}):
        with pytest.raises(PolicyError, match="Longer"):
            Longer(**wrong)
