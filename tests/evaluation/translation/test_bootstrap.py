"""Paired bootstrap: sacrebleu's p-value, the signs of differences, and intervals over seeds."""

import random

import numpy as np
import pytest
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.significance import PairedTest

from maskwright.errors import ConfigError, DataError
from maskwright.evaluation.statistics import verdict
from maskwright.evaluation.translation import (
    bleu_and_chrf,
    difference_over_seeds,
    paired_bootstrap,
)

WORDS = ["el", "gato", "come", "pan", "y", "la", "casa", "es", "grande", "pero", "no", "fría"]


def corpus(sentences=50):
    draw = random.Random(1)
    rows = []
    for number in range(sentences):
        first = [draw.choice(WORDS) for _ in range(4 + number % 7)]
        rows.append([" ".join(first), " ".join(reversed(first))][: 1 + number % 2])
    return rows


def translated(references, errors, seed):
    """Translations of which a share ``errors`` of the words is wrong."""
    draw = random.Random(seed)
    return [
        " ".join("mal" if draw.random() < errors else word for word in row[0].split())
        for row in references
    ]


REFERENCES = corpus()


@pytest.mark.parametrize("better, worse", [(0.1, 0.3), (0.2, 0.22)])
def test_the_p_value_is_that_of_sacrebleu(better, worse):
    system = translated(REFERENCES, better, 1)
    baseline = translated(REFERENCES, worse, 2)
    found = paired_bootstrap(system, baseline, REFERENCES, resamples=300)
    streams = [[row[n] if n < len(row) else None for row in REFERENCES] for n in range(2)]
    _, results = PairedTest(
        [("baseline", baseline), ("system", system)],
        {"bleu": BLEU(), "chrf": CHRF()},
        streams,
        test_type="bs",
        n_samples=300,
    )()
    for name, theirs in (("bleu", results["BLEU"]), ("chrf", results["chrF2"])):
        ours = found[name]
        assert [ours.baseline, ours.system] == pytest.approx([one.score for one in theirs])
        # sacrebleu sums in single precision: a resample at the edge may fall on the other side
        assert ours.p_value == pytest.approx(theirs[1].p_value, abs=1.01 / 301)


def test_signs_and_bounds():
    system = translated(REFERENCES, 0.05, 1)
    baseline = translated(REFERENCES, 0.5, 2)
    ours = paired_bootstrap(system, baseline, REFERENCES, resamples=200)
    theirs = paired_bootstrap(baseline, system, REFERENCES, resamples=200)
    scores = bleu_and_chrf(system, REFERENCES)
    for name in ("bleu", "chrf"):
        one, other = ours[name], theirs[name]
        assert one.system == other.baseline == getattr(scores, name)
        assert 0 < one.difference.low < one.difference.mean < one.difference.high
        assert one.difference.mean == pytest.approx(one.system - one.baseline)
        assert other.difference.low == pytest.approx(-one.difference.high)
        assert (one.wins, other.wins) == (1.0, 0.0)
        assert one.p_value == other.p_value < 0.05
    again = paired_bootstrap(system, baseline, REFERENCES, resamples=200)
    assert again == ours
    assert paired_bootstrap(system, baseline, REFERENCES, resamples=200, seed=1) != ours


def test_a_system_against_itself():
    system = translated(REFERENCES, 0.2, 1)
    for paired in paired_bootstrap(system, system, REFERENCES, resamples=50).values():
        assert (paired.difference.low, paired.difference.mean, paired.difference.high) == (0, 0, 0)
        assert (paired.p_value, paired.wins) == (1, 0)


def test_over_seeds():
    systems = [translated(REFERENCES, 0.1, seed) for seed in (1, 2, 3)]
    baselines = [translated(REFERENCES, 0.4, seed) for seed in (4, 5, 6)]
    found = difference_over_seeds(systems, baselines, REFERENCES)
    for name in ("bleu", "chrf"):
        wanted = [
            getattr(bleu_and_chrf(one, REFERENCES), name)
            - getattr(bleu_and_chrf(other, REFERENCES), name)
            for one, other in zip(systems, baselines, strict=True)
        ]
        assert found[name].per_seed == pytest.approx(wanted)
        difference = found[name].difference
        assert difference.mean == pytest.approx(np.mean(wanted))
        assert 0 < difference.low < difference.mean < difference.high
        assert verdict(difference, found[name].per_seed, lower_is_better=False) == "better"


def test_one_seed_resamples_sentences_as_the_paired_bootstrap_does():
    system, baseline = translated(REFERENCES, 0.1, 1), translated(REFERENCES, 0.3, 2)
    one = difference_over_seeds([system], [baseline], REFERENCES)["bleu"].difference
    paired = paired_bootstrap(system, baseline, REFERENCES, resamples=2000)["bleu"].difference
    assert one.mean == pytest.approx(paired.mean)
    width = paired.high - paired.low
    assert one.low == pytest.approx(paired.low, abs=0.1 * width)
    assert one.high == pytest.approx(paired.high, abs=0.1 * width)


def test_bad_requests():
    with pytest.raises(DataError, match="1 sentence cannot be resampled"):
        paired_bootstrap(["a"], ["b"], [["a"]])
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        paired_bootstrap(["a", "b"], ["b", "a"], [["a"], ["b"]], resamples=0)
    with pytest.raises(DataError, match="1 translations and references of 2"):
        paired_bootstrap(["a", "b"], ["b"], [["a"], ["b"]])
    with pytest.raises(DataError, match="1 runs and 2 runs"):
        difference_over_seeds([["a", "b"]], [["a", "b"]] * 2, [["a"], ["b"]])
