import random
import statistics

import numpy as np
import pytest

from maskwright.evaluation import statistics as room
from maskwright.evaluation.statistics import Interval, interval, verdict

NOTHING = np.array([3, 5, 2, 9])


def test_the_mean_is_per_position_and_not_per_document():
    sums, counts = np.array([[1.0, 9.0], [3.0, 11.0]]), np.array([1, 3])
    assert interval(sums, counts).mean == (1 + 9 + 3 + 11) / (2 * (1 + 3))


def test_two_documents_by_hand():
    """One seed, two documents of one position: the resampled mean is 0, 1/2 or 1, with the
    probabilities 1/4, 1/2, 1/4, so the 2.5% and 97.5% points are the ends."""
    found = interval(np.array([[0.0, 1.0]]), np.array([1, 1]))
    assert (found.mean, found.low, found.high) == (0.5, 0.0, 1.0)


def test_two_seeds_by_hand():
    found = interval(np.array([[2.0], [6.0]]), np.array([2]))
    assert (found.mean, found.low, found.high) == (2.0, 1.0, 3.0)


def test_one_seed_and_one_document_have_no_interval():
    assert interval(np.array([[4.0]]), np.array([8])) == Interval(0.5, None, None)


def test_no_difference_at_all_is_exactly_zero():
    zero = interval(np.zeros((3, 4)), NOTHING)
    assert (zero.mean, zero.low, zero.high) == (0.0, 0.0, 0.0)
    assert verdict(zero, [0.0, 0.0, 0.0], lower_is_better=True) == "no difference"


def test_the_interval_is_that_of_a_slow_crossed_bootstrap():
    """Seeds and documents are drawn with replacement, independently; 20,000 draws by hand."""
    generator = np.random.default_rng(7)
    seeds, documents = 4, 6
    counts = generator.integers(2, 9, documents)
    sums = generator.normal(0.5, 1, (seeds, documents)) * counts + generator.normal(
        0, 1, (seeds, 1)
    )
    draw = random.Random(3)
    means = []
    for _ in range(20_000):
        rows = [draw.randrange(seeds) for _ in range(seeds)]
        columns = [draw.randrange(documents) for _ in range(documents)]
        total = sum(sums[row][column] for row in rows for column in columns)
        means.append(total / (seeds * sum(counts[column] for column in columns)))
    points = statistics.quantiles(means, n=40)
    found, wide = interval(sums, counts), points[-1] - points[0]
    assert found.low is not None
    assert found.high is not None
    # 2,000 draws know a 2.5% point to about a tenth of the interval's width
    assert abs(found.low - points[0]) < 0.1 * wide
    assert abs(found.high - points[-1]) < 0.1 * wide


def test_the_interval_covers_the_truth_as_often_as_it_says(monkeypatch):
    """200 made experiments whose seeds and documents both matter: at 95%, between 90% and 100%
    (the crossed bootstrap errs on the wide side). Documents alone cover far less, which shows
    that the test can fail."""
    monkeypatch.setattr(room, "RESAMPLES", 400)
    generator = np.random.default_rng(11)
    seeds, documents, trials = 12, 30, 200
    counts = np.full(documents, 10)
    hits = hits_without_seeds = 0
    for _ in range(trials):
        effects = generator.normal(0, 0.3, (seeds, 1)) + generator.normal(0, 0.3, (1, documents))
        sums = (effects + generator.normal(0, 0.1, (seeds, documents))) * counts
        both, one = interval(sums, counts), interval(sums.mean(0, keepdims=True), counts)
        hits += both.low <= 0 <= both.high  # type: ignore[operator]
        hits_without_seeds += one.low <= 0 <= one.high  # type: ignore[operator]
    assert 0.90 <= hits / trials <= 1.0
    assert hits_without_seeds / trials < 0.88


def test_what_policies_share_cancels():
    """Documents differ by far more than the policies do; the paired interval does not see it."""
    generator = np.random.default_rng(5)
    hard = generator.normal(4, 1, (1, 25))
    first = hard + generator.normal(0, 0.01, (3, 25))
    second = first - 0.1 + generator.normal(0, 0.01, (3, 25))
    counts = np.full(25, 1)
    paired, single = interval(second - first, counts), interval(second, counts)
    assert paired.high is not None
    assert paired.low is not None
    assert paired.high < -0.08
    assert single.high - single.low > 10 * (paired.high - paired.low)  # type: ignore[operator]


def test_the_interval_is_always_the_same():
    sums = np.random.default_rng(0).normal(0, 1, (3, 9))
    assert interval(sums, np.full(9, 4)) == interval(sums.copy(), np.full(9, 4))


def test_many_documents_need_little_memory(monkeypatch):
    asked = []
    monkeypatch.setattr(room, "_AT_A_TIME", 900)
    monkeypatch.setattr(room, "RESAMPLES", 100)
    whole = room.bootstrap

    def spy(*args, **settings):
        asked.append(settings["batch"])
        return whole(*args, **settings)

    monkeypatch.setattr(room, "bootstrap", spy)
    found = interval(np.random.default_rng(0).normal(1, 1, (3, 30)), np.full(30, 1))
    assert asked == [10]
    assert found.low < found.mean < found.high  # type: ignore[operator]


@pytest.mark.parametrize(
    "low, high, per_seed, lower, expected",
    [
        (0.1, 0.3, [0.2, 0.2], True, "worse"),
        (0.1, 0.3, [0.2, 0.2], False, "better"),
        (-0.3, -0.1, [-0.2, -0.2], True, "better"),
        (-0.3, -0.1, [-0.2, -0.2], False, "worse"),
        (-0.1, 0.3, [0.1, 0.1], True, "no difference"),  # zero is inside
        (0.1, 0.3, [0.4, -0.01], True, "no difference"),  # a seed disagrees
        (-0.3, -0.1, [-0.4, 0.01], True, "no difference"),
        (0.0, 0.3, [0.2, 0.2], True, "no difference"),  # zero is the end
        (0.1, 0.3, [0.2], True, "no difference"),  # one seed decides nothing
        (None, None, [0.2, 0.2], True, "no difference"),
    ],
)
def test_verdict(low, high, per_seed, lower, expected):
    found = Interval(float(np.mean(per_seed)), low, high)
    assert verdict(found, per_seed, lower_is_better=lower) == expected
