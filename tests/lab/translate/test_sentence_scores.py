"""Loss and exposure of reference translations, against numbers by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from maskwright.lab.translate.scores import SentenceScores, score_sentences


class Scripted(nn.Module):
    """Says after each token what a table says, with the odds of the table: ids 0 … 3."""

    def __init__(self, odds: list[list[float]]) -> None:
        super().__init__()
        self.odds = nn.Parameter(torch.tensor(odds).log())

    def forward(self, input_ids, attention_mask, decoder_input_ids, decoder_attention_mask=None):
        return {"logits": self.odds[decoder_input_ids]}


# after 0 comes 1 (odds 3 of 4), after 1 comes 2, after 2 comes 2 (the reference says 3), …
MODEL = Scripted([[0, 3, 0, 1], [0, 0, 3, 1], [0, 0, 3, 1], [0, 0, 0, 1]])


def batch(labels: list[list[int]]) -> dict[str, torch.Tensor]:
    rows = torch.tensor(labels)
    reads = torch.zeros_like(rows)
    reads[:, 1:] = rows[:, :-1].clamp(min=0)
    ones = torch.ones_like(rows)
    return {"input_ids": ones, "attention_mask": ones, "decoder_input_ids": reads, "labels": rows}


def test_losses_are_sums_over_the_tokens_of_a_sentence():
    found = score_sentences(MODEL, [batch([[1, 2, 3], [1, 3, -100]])])
    three, one = -math.log(3 / 4), -math.log(1 / 4)
    np.testing.assert_allclose(found.loss, [three + three + one, three + one], rtol=1e-6)
    assert found.count.tolist() == [3, 2]
    assert found.correct.tolist() == [2, 1]
    assert found.exposed is None
    assert found.mean["loss"] == pytest.approx((3 * three + 2 * one) / 5)


def test_exposure_is_what_own_guesses_cost():
    # guesses after the reference 0 3 are 1 and 3; the second place then reads 1, not 3
    found = score_sentences(MODEL, [batch([[3, 3]])], exposure=True)
    quarter = -math.log(1 / 4)
    np.testing.assert_allclose(found.loss, [quarter + 0.0], atol=1e-6)
    np.testing.assert_allclose(found.exposed, [quarter + quarter], rtol=1e-6)
    assert found.mean["exposure"] == pytest.approx(quarter / 2)


def test_a_model_that_guesses_right_is_not_exposed():
    found = score_sentences(MODEL, [batch([[1, 2, 2]])], exposure=True)
    np.testing.assert_array_equal(found.loss, found.exposed)
    assert found.mean["exposure"] == 0.0


def test_the_mode_of_the_model_is_given_back():
    MODEL.train()
    score_sentences(MODEL, [batch([[1]])])
    assert MODEL.training


def test_perplexity_is_the_exponential_of_the_loss():
    one = SentenceScores(np.array([2.0]), np.array([0]), np.array([2]))
    assert one.mean["perplexity"] == pytest.approx(math.e)
