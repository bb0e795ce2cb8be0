"""Looks of a step, put together: the same rows however they were shared out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwright import Ragged
from maskwright.guidance.learned import LearnedPolicy, PolicySettings
from maskwright.guidance.policy_gradient import PolicyGradient
from maskwright.hf.guided.look import Look, of_step


def look(ids: list[int], *, scored: bool = True) -> Look:
    """A look whose every value says of which sample it is."""
    rows = [[10 * n + k + 1 for k in range(n + 1)] for n in ids]
    tokens = Ragged.from_lists(rows)
    place = tokens.positions
    return Look(
        np.array(ids, np.int64), tokens, np.ones(len(place), bool), place % 2 == 1,
        np.array(ids) / 7, tokens.like(tokens.values / 100) if scored else None,
    )  # fmt: skip


def test_a_literal_step():
    found = of_step([look([2, 0]), look([1])])
    assert found is not None
    assert found.sample_ids.tolist() == [0, 1, 2]
    assert found.tokens.to_lists() == [[1], [11, 12], [21, 22, 23]]
    assert found.chosen.tolist() == [False, False, True, False, True, False]
    assert found.rewards.tolist() == [0, 1 / 7, 2 / 7]
    assert found.scores is not None
    assert found.scores.to_lists() == [[0.01], [0.11, 0.12], [0.21, 0.22, 0.23]]


def test_nothing_was_looked_at():
    assert of_step([]) is None
    found = of_step([look([4], scored=False)])
    assert found is not None
    assert found.scores is None


@settings(max_examples=20)
@given(st.permutations(range(6)), st.integers(1, 5), st.booleans())
def test_what_is_learned_does_not_depend_on_how_samples_are_shared_out(order, cut, scored):
    def learned(looks: list[Look]) -> dict[str, np.ndarray]:
        policy = LearnedPolicy(
            PolicySettings(60, width=4, hidden=4, score="loss" if scored else "none")
        )
        learner = PolicyGradient(policy)
        for _ in range(3):
            one = of_step(looks)
            assert one is not None
            learner.step(one.tokens, one.candidates, one.chosen, one.rewards, one.scores)
        return {name: part.numpy().copy() for name, part in policy.scorer.state_dict().items()}

    whole = learned([look(list(range(6)), scored=scored)])
    parts = learned([look(order[:cut], scored=scored), look(order[cut:], scored=scored)])
    assert whole["out"].any()
    for name, part in whole.items():
        np.testing.assert_array_equal(parts[name], part)


@pytest.mark.parametrize("power", [0.5, -2.0])
def test_a_power_is_one_of_the_weights(power):
    # what is drawn with weights ** power: the likelier set is that of the higher power * logit
    tokens = Ragged.from_lists([[3, 4, 5]] * 2)
    chosen = np.array([1, 0, 0, 0, 0, 1], bool)
    policy = LearnedPolicy(PolicySettings(10, width=4, hidden=4))
    learner = PolicyGradient(policy, pull=0.0, learning_rate=0.1)
    for rewards in ([0.5, 0.5], *[[1.0, -1.0]] * 3):
        learner.step(tokens, np.ones(6, bool), chosen, np.array(rewards), None, power)
    policy.publish()
    logits = policy.logits(tokens).values
    assert (logits[0] - logits[2]) * power > 0
