"""The learned policy without a model: its likelihood, its gradient, what it learns, its files."""

from __future__ import annotations

import itertools
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maskwright import Clock, Masking, Ragged, TokenBatch, Vocabulary
from maskwright.corruption import Weighted
from maskwright.errors import BatchError, CacheError, ConfigError, SampleIdError
from maskwright.guidance import KnownScores, ScoreReader
from maskwright.guidance.learned import NAME, FrozenPolicy, LearnedPolicy, PolicySettings
from maskwright.guidance.policy_gradient import (
    PolicyGradient,
    difficulty,
    learning_progress,
    surrogate,
)
from maskwright.guidance.successive import log_probability

TOKENS = Ragged.from_lists([[3, 4, 5, 6, 7, 8], [9, 3], [4, 4, 9]])


def enumerated(weights: list[float], chosen: tuple[int, ...]) -> float:
    """The probability of a set: the sum over the orders in which it may be drawn."""
    total = 0.0
    for order in itertools.permutations(chosen):
        left, probability = sum(weights), 1.0
        for one in order:
            probability *= weights[one] / left
            left -= weights[one]
        total += probability
    return total


def of(logits: list[float], chosen: tuple[int, ...]) -> torch.Tensor:
    hit = torch.zeros(1, len(logits), dtype=torch.bool)
    hit[0, list(chosen)] = True
    there = torch.ones_like(hit)
    return log_probability(torch.tensor([logits], dtype=torch.float64), there, hit)


# -- the likelihood -----------------------------------------------------------------------


@given(st.lists(st.floats(-6, 6), min_size=1, max_size=5), st.data())
def test_the_probability_of_a_set_is_that_of_its_orders(logits, data):
    size = data.draw(st.integers(0, len(logits)))
    chosen = data.draw(st.sampled_from(list(itertools.combinations(range(len(logits)), size))))
    expected = enumerated([math.exp(one) for one in logits], chosen)
    assert of(logits, chosen).exp().item() == pytest.approx(expected, rel=1e-6)


def test_literal_probabilities():
    # weights 1, 2, 3: {0} first with 1/6; {0, 1}: 1/6 * 2/5 + 2/6 * 1/4
    logits = [0.0, math.log(2), math.log(3)]
    assert of(logits, (0,)).exp().item() == pytest.approx(1 / 6, rel=1e-7)
    assert of(logits, (0, 1)).exp().item() == pytest.approx(1 / 15 + 1 / 12, rel=1e-7)
    assert of(logits, ()).item() == of(logits, (0, 1, 2)).item() == 0


def test_a_large_uniform_draw_is_one_of_all_its_sets():
    for n, k in ((512, 77), (2048, 1024), (40, 39)):
        expected = math.lgamma(k + 1) + math.lgamma(n - k + 1) - math.lgamma(n + 1)
        assert of([0.7] * n, tuple(range(k))).item() == pytest.approx(expected, rel=1e-7)


def test_the_gradient_is_that_of_the_enumerated_probability():
    weights = torch.tensor([[0.3, -1.0, 2.0, 0.5]], dtype=torch.float64, requires_grad=True)
    hit = torch.tensor([[True, False, True, False]])
    there = torch.ones_like(hit)
    assert torch.autograd.gradcheck(lambda w: log_probability(w, there, hit), (weights,))
    log_probability(weights, there, hit).sum().backward()
    step = 1e-5
    for place in range(4):
        ends = []
        for sign in (1, -1):
            moved = weights.detach()[0].clone()
            moved[place] += sign * step
            ends.append(math.log(enumerated(moved.exp().tolist(), (0, 2))))
        assert weights.grad[0, place].item() == pytest.approx(
            (ends[0] - ends[1]) / (2 * step), abs=1e-5
        )


def test_rows_do_not_touch_each_other_and_padding_counts_for_nothing():
    logits = torch.tensor([[1.0, 2.0, 9.0, 0.0], [0.0, 1.0, 2.0, 3.0], [5.0, 0.0, 0.0, 0.0]])
    there = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]]).bool()
    hit = torch.tensor([[0, 1, 0, 0], [1, 1, 1, 0], [0, 0, 0, 0]]).bool()
    logits.requires_grad_()
    found = log_probability(logits, there, hit)
    assert found[0].item() == pytest.approx(of([1.0, 2.0], (1,)).item())
    assert found[1].item() == pytest.approx(of([0.0, 1.0, 2.0, 3.0], (0, 1, 2)).item())
    found.sum().backward()
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[0, 2:].abs().sum() == logits.grad[2].abs().sum() == 0


def test_what_weighted_draws_has_that_probability():
    # 4,000 draws, chi-square with 9 degrees of freedom above 39.3: one run in 1e5 fails by chance
    weights, draws = [0.2, 1.0, 2.5, 0.7, 1.6], 4000
    batch = TokenBatch(
        Ragged.from_lists([[3, 4, 5, 6, 7]] * draws),
        np.arange(draws),
        scores=Ragged.from_lists([weights] * draws, np.float32),
    )
    vocabulary = Vocabulary(10, mask_id=1, special_ids=(0, 1, 2))
    plan = Masking(select=Weighted(), rate=0.4, exact=True).bind(vocabulary).plan(batch, Clock(3))
    hit = plan.labels().values.reshape(draws, 5) != -100
    kinds = dict.fromkeys(itertools.combinations(range(5), 2), 0)
    for row in hit:
        kinds[tuple(np.flatnonzero(row).tolist())] += 1
    logits = np.log(weights).tolist()
    expected = {pair: draws * of(logits, pair).exp().item() for pair in kinds}
    assert sum(expected.values()) == pytest.approx(draws, rel=1e-6)
    assert sum((kinds[p] - expected[p]) ** 2 / expected[p] for p in kinds) < 39.3


@pytest.mark.parametrize("hit", [[[True, True]], [[True]]], ids=["no candidate", "shape"])
def test_a_likelihood_of_what_cannot_be_is_refused(hit):
    with pytest.raises(BatchError, match="log_probability"):
        log_probability(torch.zeros(1, 2), torch.tensor([[True, False]]), torch.tensor(hit))


# -- the gradient -------------------------------------------------------------------------


def test_the_estimate_is_unbiased_on_a_bandit():
    # 4 arms, 2 drawn; reward of a set: a sum and an interaction. Each of 4 means of 20,000 is
    # within 4.5 standard errors of the enumerated gradient: one run in 3e4 fails by chance.
    logits = torch.tensor([0.5, -0.5, 1.0, 0.0], dtype=torch.float64)
    sets = list(itertools.combinations(range(4), 2))
    reward = torch.tensor([{0: 1.0, 1: -2.0, 2: 0.5, 3: 3.0}[a] + b * a for a, b in sets]).double()
    hits = torch.zeros(len(sets), 4, dtype=torch.bool)
    for row, pair in enumerate(sets):
        hits[row, list(pair)] = True
    live = logits.expand(len(sets), 4).clone().requires_grad_()
    now = log_probability(live, torch.ones_like(hits), hits)
    single = torch.autograd.grad(surrogate(now, now, reward - 0.7, 0.2).sum(), live)[0]
    own = logits.clone().requires_grad_()
    chances = torch.stack([_chance(own, pair) for pair in sets])
    exact = torch.autograd.grad((chances * reward).sum(), own)[0]
    drawn = np.random.default_rng(4).choice(len(sets), 20_000, p=chances.detach().numpy())
    sample = single[torch.from_numpy(drawn)]
    error = sample.std(0) / math.sqrt(len(sample))
    assert ((sample.mean(0) - exact).abs() < 4.5 * error).all()
    assert (exact.abs() > 4.5 * error).any()  # a gradient of nothing would not pass


def _chance(logits: torch.Tensor, pair: tuple[int, int]) -> torch.Tensor:
    weights = logits.exp()
    total, (one, other) = weights.sum(), weights[list(pair)]
    return one / total * other / (total - one) + other / total * one / (total - other)


def test_beyond_the_clip_nothing_more_is_gained():
    now = torch.tensor([math.log(1.5), math.log(1.5), math.log(0.5), math.log(0.5)])
    now.requires_grad_()
    advantage = torch.tensor([1.0, -1.0, 1.0, -1.0])
    found = surrogate(now, torch.zeros(4), advantage, 0.2)
    torch.testing.assert_close(found.detach(), torch.tensor([1.2, -1.5, 0.5, -0.8]))
    found.sum().backward()
    assert (now.grad != 0).tolist() == [False, True, True, False]


def test_rewards():
    nan = math.nan
    losses = Ragged.from_lists([[nan, 2.0, 9.0], [nan, nan], [1.0]], np.float32)
    before = Ragged.from_lists([[1.0, 3.0, nan], [1.0, 1.0], [9.0]], np.float32)
    np.testing.assert_array_equal(difficulty(losses, 5.0), [3.5, nan, 1.0])
    np.testing.assert_array_equal(learning_progress(losses, before, 5.0), [1.0, nan, 5.0])


# -- learning -----------------------------------------------------------------------------


def planted(learning_rate: float, reward: str) -> LearnedPolicy:
    """Ids 3 … 11 are learnable: their loss falls at each visit. 12 … 20 stay at 3 nats."""
    policy = LearnedPolicy(PolicySettings(21, width=8, hidden=8))
    learner = PolicyGradient(policy, learning_rate=learning_rate)
    rng = np.random.default_rng(0)
    rows = Ragged.from_lists([rng.permutation(np.arange(3, 21))[:12] for _ in range(32)])
    vocabulary = Vocabulary(21, mask_id=1, special_ids=(0, 1, 2))
    masking = Masking(select=Weighted(), rate=0.25, exact=True).bind(vocabulary)
    reader = FrozenPolicy(policy, rows)
    ids = np.arange(32)
    for epoch in range(40):
        batch = TokenBatch(rows, ids, scores=reader.read(ids))
        hit = masking.plan(batch, Clock(0, epoch)).labels().values != -100
        noise = rng.normal(0, 0.3, len(hit))
        learnable = rows.values < 12
        falls = np.where(learnable, 0.5, 0.0) + noise
        losses = rows.like(np.where(hit, np.where(learnable, 1.0, 3.0) + noise, np.nan))
        before = rows.like(losses.values + falls)
        gains = difficulty(losses, 5.0) if reward == "difficulty" else (
            learning_progress(losses, before, 5.0)
        )  # fmt: skip
        learner.step(rows, np.ones(len(hit), bool), hit, gains)
        policy.publish()
    return policy


def contrast(policy: LearnedPolicy) -> float:
    """Mean logit of learnable ids less that of the others."""
    found = policy.logits(Ragged.from_lists([list(range(3, 21))])).values
    return float(found[:9].mean() - found[9:].mean())


@pytest.mark.parametrize("reward, sign", [("progress", 1), ("difficulty", -1)])
def test_weights_rise_where_the_reward_is(reward, sign):
    assert sign * contrast(planted(0.03, reward)) > 0.5
    assert contrast(planted(0.0, reward)) == 0  # the control: chance


def test_entropy_and_pull_hold_it_back():
    rows, candidates = Ragged.from_lists([[3, 4, 5, 6]] * 8), np.ones(32, bool)
    chosen = np.tile([True, False, False, False], 8)
    gains = np.array([1.0, 0.0] * 4)

    def logit(**settings: float) -> float:
        policy = LearnedPolicy(PolicySettings(10))
        learner = PolicyGradient(policy, momentum=0.9, clip=0.9, **settings)
        learner.step(rows, candidates, chosen, gains)
        for _ in range(30):
            learner.step(rows, candidates, chosen, gains + 2)  # always better than before
        policy.publish()
        return float(np.ptp(policy.logits(rows).values))

    free = logit(pull=0.0)
    assert logit(pull=1.0) < free
    assert logit(pull=0.0, entropy=1.0) < free


def test_the_same_batches_give_the_same_bits_and_a_state_goes_on():
    def run(breaks: bool) -> LearnedPolicy:
        policy = LearnedPolicy(PolicySettings(10, score="loss"))
        learner = PolicyGradient(policy)
        rng = np.random.default_rng(1)
        for number in range(8):
            chosen = TOKENS.positions == rng.integers(0, 2)
            scores = TOKENS.like(rng.uniform(0, 3, len(TOKENS.values)).astype(np.float32))
            if breaks and number == 5:
                state = pickle.loads(pickle.dumps(learner.state()))
                policy = LearnedPolicy(PolicySettings(10, score="loss", seed=9))
                learner = PolicyGradient(policy)
                learner.load_state(state)
            learner.step(TOKENS, np.ones(11, bool), chosen, rng.normal(size=3), scores)
            if number % 3 == 0:
                policy.publish()
        return policy

    one, two, broken = run(False), run(False), run(True)
    for other in (two, broken):
        assert other.version == one.version == 3
        for name, part in one.scorer.state_dict().items():
            assert torch.equal(part, other.scorer.state_dict()[name]), name
        for name, part in one.published.items():
            assert torch.equal(part, other.published[name]), name
    assert np.ptp(one.logits(TOKENS).values) > 0


# -- weights and files --------------------------------------------------------------------


def random_policy(**settings) -> LearnedPolicy:
    policy = LearnedPolicy(PolicySettings(10, **settings))
    with torch.no_grad():
        policy.scorer.out.normal_(generator=torch.Generator().manual_seed(2))
    policy.publish()
    return policy


@pytest.mark.parametrize("rows", [None, 4])
def test_published_weights_are_those_of_the_network(rows):
    policy = random_policy(score="attention", rows=rows)
    scores = TOKENS.like(np.linspace(0, 1, 11).astype(np.float32))
    scores.values[::3] = np.nan
    own = policy.scorer.logits(TOKENS, scores).detach().numpy()
    np.testing.assert_allclose(policy.logits(TOKENS, scores).values, own, rtol=1e-4, atol=1e-6)
    weights = policy.weights(TOKENS, scores).values
    assert np.ptp(weights) > 0.1
    assert (np.abs(np.log(weights)) <= 3).all()
    if rows is None:
        assert np.array_equal(policy.settings.row_of, np.arange(10))
    else:
        assert policy.settings.row_of.max() < 4


@given(st.lists(st.lists(st.integers(0, 9), max_size=40), min_size=1, max_size=9), st.data())
def test_a_sample_has_the_same_bits_in_every_batch(rows, data):
    policy = random_policy()
    together = policy.weights(Ragged.from_lists(rows))
    one = data.draw(st.integers(0, len(rows) - 1))
    alone = policy.weights(Ragged.from_lists([rows[one]]))
    np.testing.assert_array_equal(alone.values.view(np.int32), together[one].view(np.int32))


def test_nothing_changes_before_it_is_published():
    policy = random_policy()
    reader = FrozenPolicy(policy, TOKENS)
    assert isinstance(reader, ScoreReader)
    before = reader.read(np.array([2, 0]))
    with torch.no_grad():
        policy.scorer.out.mul_(-1)
    assert reader.read(np.array([2, 0])) == before
    policy.publish()
    assert policy.version == 2
    assert reader.read(np.array([2, 0])) != before


def test_a_saved_policy_weighs_another_corpus_the_same(tmp_path):
    policy = random_policy(score="loss", bound=2.0)
    assert policy.save(tmp_path) == tmp_path / NAME
    loaded = LearnedPolicy.load(tmp_path)
    assert loaded.settings == policy.settings
    other = Ragged.from_lists([[7, 8, 9]])
    scores = KnownScores(Ragged.from_lists([[0.5, math.nan, 2.0]], np.float32))
    expected = policy.weights(other, scores.scores).values
    found = FrozenPolicy(loaded, other, scores).read(np.array([0]))
    np.testing.assert_array_equal(found.values, expected)
    again = pickle.loads(pickle.dumps(FrozenPolicy(loaded, other, scores)))
    assert again.read(np.array([0])) == found


def test_a_damaged_or_missing_file_is_named(tmp_path):
    with pytest.raises(CacheError, match=NAME):
        LearnedPolicy.load(tmp_path)
    path = random_policy().save(tmp_path)
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    with pytest.raises(CacheError, match="checksum"):
        LearnedPolicy.load(tmp_path)


def test_refusals():
    policy = random_policy()
    with pytest.raises(BatchError, match="10 token ids"):
        policy.weights(Ragged.from_lists([[10]]))
    with pytest.raises(BatchError, match="one score a token"):
        policy.weights(TOKENS, Ragged.from_lists([[1.0]], np.float32))
    with pytest.raises(SampleIdError, match="FrozenPolicy"):
        FrozenPolicy(policy, TOKENS).read(np.array([3]))
    with pytest.raises(ConfigError, match="scores=store"):
        FrozenPolicy(random_policy(score="loss"), TOKENS)
    for wrong in ({"score": "los"}, {"width": 0}, {"bound": 0}):
        with pytest.raises(ConfigError, match="PolicySettings"):
            PolicySettings(10, **wrong)
    for wrong in ({"clip": 1.0}, {"pull": -1.0}, {"momentum": 1.0}):
        with pytest.raises(ConfigError, match="PolicyGradient"):
            PolicyGradient(policy, **wrong)
