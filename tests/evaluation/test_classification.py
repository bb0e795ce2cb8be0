import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

from maskwright.evaluation.classification import (
    METRICS,
    WRONG,
    accuracy,
    difference,
    estimate,
    macro_f1,
    per_seed,
)


@st.composite
def judged(draw):
    """Truth of a few examples, answers of up to three seeds, and a resample of both."""
    examples = draw(st.integers(2, 12))
    seeds = draw(st.integers(1, 3))
    classes = st.integers(0, 3)
    truth = np.array(draw(st.lists(classes, min_size=examples, max_size=examples)))
    answers = np.array(
        draw(
            st.lists(
                st.lists(st.integers(WRONG, 3), min_size=examples, max_size=examples),
                min_size=seeds,
                max_size=seeds,
            )
        )
    )
    rows = np.array(draw(st.lists(st.integers(0, seeds - 1), min_size=seeds, max_size=seeds)))
    columns = np.array(
        draw(st.lists(st.integers(0, examples - 1), min_size=examples, max_size=examples))
    )
    return truth, answers, rows, columns


def test_literal_values():
    truth = np.array([0, 0, 1, 2])
    answers = np.array([[0, 1, 1, 1], [0, 0, 1, 2]])
    # F1 of the first seed: class 0: 2/3, class 1: 2 * 1 / (1 + 3), class 2: 0
    assert per_seed("accuracy", truth, answers) == [0.5, 1.0]
    assert per_seed("macro_f1", truth, answers) == pytest.approx([(2 / 3 + 0.5) / 3, 1.0])
    assert estimate("accuracy", truth, answers).mean == 0.75


@given(judged())
def test_each_seed_is_judged_as_by_scikit_learn(case):
    truth, answers, _, _ = case
    by_hand = [accuracy_score(truth, row) for row in answers]
    assert per_seed("accuracy", truth, answers) == pytest.approx(by_hand)
    labels = np.unique(truth)
    by_hand = [
        f1_score(truth, row, labels=labels, average="macro", zero_division=0.0) for row in answers
    ]
    assert per_seed("macro_f1", truth, answers) == pytest.approx(by_hand)


@given(judged())
def test_a_resample_is_judged_as_if_it_were_the_data(case):
    """The fast sums with weights, against scikit-learn on the repeated examples."""
    truth, answers, rows, columns = case
    drawn, said = truth[columns], answers[:, columns]
    assert accuracy(truth, answers)(rows, columns) == pytest.approx(
        np.mean([accuracy_score(drawn, said[row]) for row in rows])
    )
    present = np.unique(truth)
    values = []
    for row in rows:
        labels = [c for c in present if c in drawn or c in said[row]]
        values.append(f1_score(drawn, said[row], labels=labels, average="macro", zero_division=0.0))
    assert macro_f1(truth, answers)(rows, columns) == pytest.approx(np.mean(values))


@given(judged())
def test_resamples_at_a_time_are_those_one_by_one(case):
    truth, answers, rows, columns = case
    shift = np.stack([columns, columns[::-1], np.roll(columns, 1), columns])
    many = np.broadcast_to(rows, (4, len(rows)))
    for metric in METRICS.values():
        statistic = metric(truth, answers)
        alone = [float(statistic(r, c)) for r, c in zip(many, shift, strict=True)]
        assert statistic(many, shift) == pytest.approx(alone)


def test_a_difference_is_paired():
    """Two classifiers that share the hard examples differ surely, though each varies much."""
    random = np.random.default_rng(0)
    truth = random.integers(0, 2, 400)
    hard = random.random(400) < 0.4
    reference = np.where(hard, 1 - truth, truth)[None].repeat(3, 0)
    mine = reference.copy()
    mine[:, :60] = truth[:60]
    for metric in METRICS:
        found, seeds = difference(metric, truth, mine, reference)
        alone = estimate(metric, truth, mine)
        assert 0 < found.low < found.mean < found.high
        assert found.high - found.low < 0.9 * (alone.high - alone.low)
        assert np.mean(seeds) == pytest.approx(found.mean)
        same, _ = difference(metric, truth, mine, mine)
        assert (same.mean, same.low, same.high) == (0, 0, 0)


def test_one_example_or_one_seed():
    assert estimate("macro_f1", np.array([1]), np.array([[1]])).low is None
    found = estimate("macro_f1", np.array([0, 1, 1]), np.array([[0, 1, 0]]))
    assert found.low <= found.mean <= found.high
