"""Patterns from an estimate of the attention: what is kept, ties, and estimates that are wrong."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maskwright.attention import Axis, causal, threshold, top_k
from maskwright.errors import AxisError, PatternError
from tests.attention.matrices import grid, shown
from tests.attention.strategies import SEEDS

SCORES = [[0.1, 0.6, 0.3], [0.4, 0.4, 0.2]]


def test_by_hand():
    assert shown(threshold(SCORES, 0.3), 2, 3) == "011/110"
    assert shown(threshold(SCORES, 0.6), 2, 3) == "010/000"
    assert shown(threshold(SCORES, -1), 2, 3) == "111/111"
    assert shown(top_k(SCORES, 1), 2, 3) == "010/100"
    assert shown(top_k(SCORES, 2), 2, 3) == "011/110"
    assert shown(top_k(SCORES, 3), 2, 3) == "111/111"


def test_blocks_by_hand():
    """One score for a pair of blocks; the last block of an axis is as long as what is left."""
    assert shown(top_k(SCORES, 1, size=2), 3, 5) == "00110/00110/11000"
    assert shown(threshold(SCORES, 0.3, (1, 2)), 2, 6) == "001111/111100"
    assert shown(top_k(SCORES, 2, (3, 1)), 4, 3) == "011/011/011/110"


def test_samples_and_heads():
    batch = torch.tensor([SCORES, SCORES[::-1]])
    assert shown(top_k(batch, 1), 2, 3) == "010/100 100/010"
    heads = batch.unsqueeze(0)
    assert top_k(batch, 1).dense(Axis(2), Axis(3)).shape == (2, 1, 2, 3)
    assert top_k(heads, 1).dense(Axis(2), Axis(3)).shape == (1, 2, 2, 3)
    assert shown(top_k(heads, 1), 2, 3) == "010/100 100/010"


def test_of_equal_scores_the_lower_index():
    assert shown(top_k(torch.zeros(2, 5), 2), 2, 5) == "11000/11000"
    long = torch.zeros(1, 4096)
    long[0, 17] = 1
    chosen = top_k(long, 3).dense(Axis(1), Axis(4096)).nonzero()[:, -1]
    assert chosen.tolist() == [0, 1, 17]


def test_minus_infinity_is_never_chosen():
    scores = torch.tensor([[1.0, -math.inf, -math.inf], [1.0, 2.0, -math.inf], [-math.inf] * 3])
    assert shown(top_k(scores, 2), 3, 3) == "100/110/000"
    assert shown(threshold(scores, -1e30), 3, 3) == "100/110/000"


@given(SEEDS, st.integers(1, 6), st.integers(0, 5), st.integers(1, 6), st.integers(1, 3))
def test_the_best_k_by_sorting(seed, k, rows, columns, heads):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, 4, (2, heads, rows, columns), generator=generator)
    k = min(k, columns)
    found = top_k(scores, k).dense(Axis(rows), Axis(columns))
    for sample in range(2):
        for head in range(heads):
            for row in range(rows):
                own = scores[sample, head, row].tolist()
                best = sorted(range(columns), key=lambda one, own=own: (-own[one], one))[:k]
                assert found[sample, head, row].nonzero()[:, 0].tolist() == sorted(best)


def test_the_estimate_gets_no_gradient_and_may_change():
    scores = torch.rand(3, 3, requires_grad=True)
    pattern = threshold(scores, 0.5)
    before = pattern.dense(Axis(3))
    assert not pattern.table.values.requires_grad
    with torch.no_grad():
        scores.zero_()
    assert torch.equal(pattern.dense(Axis(3)), before)


def test_half_precision_and_integers():
    assert top_k(torch.tensor(SCORES).bfloat16(), 1) == top_k(torch.tensor(SCORES), 1)
    assert shown(threshold([[1, 2]], 2), 1, 2) == "01"


def test_the_same_choice_is_equal():
    assert top_k(SCORES, 1) == top_k(torch.tensor(SCORES), 1)
    assert top_k(SCORES, 1) != top_k(SCORES, 2)
    assert hash(top_k(SCORES, 1, 2)) == hash(top_k(SCORES, 1, (2, 2)))
    assert str(causal & top_k(SCORES, 1, 2)).startswith('causal & top_k(table("1×1×2×3 ')


def test_a_kernel_sees_the_same_mask():
    pattern = top_k(torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0)), 2, (2, 3))
    q, kv = Axis(7), Axis(14)
    assert torch.equal(grid(pattern.mask_mod(q, kv), 2, 3, 7, 14), pattern.dense(q, kv))


NAN = torch.tensor([[[0.0, 0.0], [0.0, math.nan]], [[0.0, 0.0], [math.nan, 0.0]]])
WRONG = [
    (lambda: top_k(SCORES, 0), "k=0 of top_k: the kv axis of its scores has 3 entries"),
    (lambda: top_k(SCORES, 4), "k is a whole number from 1 to 3"),
    (lambda: top_k(SCORES, 1.0), "k=1.0 of top_k"),
    (lambda: top_k(SCORES, True), "k=True of top_k"),
    (lambda: top_k(SCORES, 1, 0), "Block size 0"),
    (lambda: top_k([1.0, 2.0], 1), "of shape (2,); they are numbers, (q, kv), (batch, q, kv)"),
    (lambda: top_k(torch.zeros(1, 1, 1, 1, 1), 1), "of shape (1, 1, 1, 1, 1)"),
    (lambda: top_k(torch.ones(2, 2) > 0, 1), "are torch.bool"),
    (lambda: top_k("abc", 1), "scores of top_k are no tensor"),
    (lambda: top_k([[1], [1, 2]], 1), "scores of top_k are no tensor"),
    (lambda: top_k(NAN, 1), "scores of top_k are NaN at batch 0, q 1, kv 1 (2 in all)"),
    (lambda: threshold(NAN[0], 0.5), "scores of threshold are NaN at q 1, kv 1 (1 in all)"),
    (lambda: threshold(NAN[None], 0.5), "NaN at batch 0, heads 0, q 1, kv 1"),
    (lambda: threshold(SCORES, math.nan), "tau=nan of threshold"),
    (lambda: threshold(SCORES, -math.inf), "tau=-inf of threshold"),
    (lambda: threshold(SCORES, "0"), "tau='0' of threshold"),
]


@pytest.mark.parametrize("make, message", WRONG, ids=[message[:40] for _, message in WRONG])
def test_estimates_and_settings_out_of_their_rule(make, message):
    with pytest.raises(PatternError) as caught:
        make()
    assert message in str(caught.value)


@pytest.mark.parametrize("values", ["dense", "blocks", "block_mask"])
def test_axes_of_other_lengths(values):
    with pytest.raises(AxisError, match=r"has 2 rows; the q axis has the length 3\. A table"):
        getattr(top_k(SCORES, 1), values)(Axis(3))
    with pytest.raises(AxisError, match="has 3 columns; the kv axis has the length 2"):
        getattr(threshold(SCORES, 1), values)(Axis(2), Axis(2))
    with pytest.raises(AxisError, match="the kv axis has the length 8 and so 4 blocks of 2"):
        getattr(threshold(SCORES, 1, 2), values)(Axis(4), Axis(8))
    with pytest.raises(AxisError, match=r"The batch .* the q axis has 3, `top_k.* has 2"):
        getattr(top_k([SCORES, SCORES], 1), values)(
            Axis(2, segments=torch.zeros(3, 2, dtype=torch.int64)), Axis(3)
        )
