"""80/10/10: by itself, and against the collator of transformers.

Inputs are fixed; over their choice a right implementation fails a test with a chance of at most
1e-6.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from transformers import DataCollatorForLanguageModeling

from maskwright import Clock, Keep, Mask, Masking, Random, recipe
from maskwright.corruption import Action
from tests.core import tokenizers
from tests.corruption.rows import WORDS, same_rows

FALSE_ALARM = 1e-6


@pytest.mark.parametrize(
    "act, shares",
    [
        (0.8 * Mask() + 0.1 * Random() + 0.1 * Keep(), [0.8, 0.1, 0.1]),
        (0.25 * Keep() + 0.25 * Mask() + 0.25 * Random() + 0.25 * Keep(), [0.25, 0.25, 0.5]),
        (0.5 * Random() + 0.5 * Mask(), [0.5, 0.5, 0.0]),
        (Random(), [0.0, 1.0, 0.0]),
    ],
)
def test_shares_are_those_of_the_act(act, shares):
    plan = Masking(rate=1.0, act=act).bind(WORDS).plan(same_rows(np.arange(5, 105), 1000))
    seen = np.bincount(plan.actions, minlength=4)[1:]
    wanted = np.array(shares) * 100_000
    assert seen[wanted == 0].sum() == 0
    if (wanted > 0).sum() > 1:
        assert stats.chisquare(seen[wanted > 0], wanted[wanted > 0]).pvalue > FALSE_ALARM


def test_random_tokens_are_uniform_over_the_real_ones():
    plan = Masking(rate=1.0, act=Random()).bind(WORDS).plan(same_rows(np.arange(5, 105), 1000))
    seen = np.bincount(plan.replacements, minlength=1000)[5:998]
    assert seen.sum() == 100_000
    assert stats.chisquare(seen).pvalue > FALSE_ALARM


def test_act_and_selection_are_independent_and_so_are_neighbours():
    plan = recipe("roberta", WORDS, rate=0.5).plan(same_rows(np.arange(5, 105), 1000), Clock(6))
    chosen = plan.selected.values.reshape(1000, 100)
    pairs = np.histogram2d(chosen[:, ::2].ravel(), chosen[:, 1::2].ravel(), 2)[0]
    assert stats.chi2_contingency(pairs).pvalue > FALSE_ALARM
    masked = plan.actions == Action.MASK
    neighbours = np.histogram2d(masked[:-1:2], masked[1::2], 2)[0]
    assert stats.chi2_contingency(neighbours).pvalue > FALSE_ALARM


def outcome(original: np.ndarray, inputs: np.ndarray, labels: np.ndarray, mask_id: int) -> list:
    """How many tokens were not selected, masked, replaced by another, left as they were."""
    chosen = labels != -100
    masked, same = chosen & (inputs == mask_id), chosen & (inputs == original)
    return [int(n) for n in ((~chosen).sum(), masked.sum(), (chosen & ~masked & ~same).sum(),
                             same.sum())]  # fmt: skip


@pytest.mark.parametrize("rate", [0.15, 0.4])
def test_counts_are_those_of_transformers(rate):
    tokenizer = tokenizers.words()
    row = [2, *range(5, 100), 3]
    theirs = DataCollatorForLanguageModeling(tokenizer, mlm_probability=rate)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        batch = theirs([{"input_ids": row} for _ in range(1000)])
    original = np.tile(row, (1000, 1))
    expected = outcome(original, batch["input_ids"].numpy(), batch["labels"].numpy(), 4)
    plan = recipe("roberta", tokenizer, rate=rate).plan(same_rows(np.array(row), 1000))
    seen = outcome(original.ravel(), plan.corrupted.values, plan.labels().values, 4)
    # they draw 5 special ids of 100 too, we do not: 5% of a tenth moves nothing measurable here
    assert stats.chi2_contingency([expected, seen]).pvalue > FALSE_ALARM
    other = recipe("roberta", tokenizer, rate=rate + 0.02).plan(same_rows(np.array(row), 1000))
    changed = outcome(original.ravel(), other.corrupted.values, other.labels().values, 4)
    assert stats.chi2_contingency([expected, changed]).pvalue < FALSE_ALARM
