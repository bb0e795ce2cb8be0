"""Scores from logits and gradients: literal values, and against torch's own."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

import maskwright.guidance as guidance
from maskwright import Ragged
from maskwright.errors import BatchError
from maskwright.guidance import embedding_gradient_norm, entropy, margin, token_losses

NAN = math.nan
LABELS = torch.tensor([[-100, 1, -100], [0, -100, 2]])
# probabilities 1/2, 1/4, 1/4 · 1, 0, 0 · 1/3 each
PREDICTED = torch.tensor([[0.5, 0.25, 0.25], [1, 0, 0], [1, 1, 1]]).log()


def full(predicted):
    logits = torch.full((2, 3, 3), 7.0)
    logits[LABELS != -100] = predicted
    return logits


FORMS = [full(PREDICTED), PREDICTED, PREDICTED[None]]


@pytest.mark.parametrize("logits", FORMS, ids=["all", "predicted", "(1, P, V)"])
def test_literal(logits):
    def same(found, a, b, c):
        assert found.dtype == torch.float32
        wanted = torch.tensor([[NAN, a, NAN], [b, NAN, c]])
        torch.testing.assert_close(found, wanted, equal_nan=True)

    same(token_losses(logits, LABELS), math.log(4), 0.0, math.log(3))
    same(entropy(logits, LABELS), 1.5 * math.log(2), 0.0, math.log(3))
    same(margin(logits, LABELS), 0.25, 1.0, 0.0)


@given(st.data())
def test_against_torch(data):
    batch, length, size = (data.draw(st.integers(low, 5)) for low in (1, 0, 2))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 1000)))
    logits = torch.randn(batch, length, size, generator=generator) * 4
    labels = torch.randint(0, size, (batch, length), generator=generator)
    labels[torch.rand(batch, length, generator=generator) < 0.5] = -100
    where = labels != -100
    losses = functional.cross_entropy(
        logits.reshape(-1, size), labels.flatten(), reduction="none", ignore_index=-100
    ).view(batch, length)
    of = torch.distributions.Categorical(logits=logits) if logits.numel() else None
    for form in (logits, logits[where]):
        found = token_losses(form, labels)
        assert torch.equal(found.isnan(), ~where)
        torch.testing.assert_close(found[where], losses[where])
        if of is not None:
            torch.testing.assert_close(entropy(form, labels)[where], of.entropy()[where])
            best = of.probs.sort(-1, descending=True).values
            torch.testing.assert_close(
                margin(form, labels)[where], (best[..., 0] - best[..., 1])[where]
            )


def test_a_prediction_that_is_nan_has_no_score():
    logits = PREDICTED.clone()
    logits[1] = NAN
    for probe in (token_losses, entropy, margin):
        assert probe(logits, LABELS).isnan().tolist() == [[True, False, True], [True, True, False]]


def test_apart_from_the_graph_and_in_single_precision():
    logits = full(PREDICTED).bfloat16().requires_grad_()
    for probe in (token_losses, entropy, margin):
        found = probe(logits, LABELS)
        assert not found.requires_grad
        assert found.dtype == torch.float32


def test_as_rows_of_a_store():
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    rows = Ragged.from_padded(token_losses(full(PREDICTED), LABELS), mask)
    expected = np.float32([NAN, math.log(4), 0, NAN, math.log(3)])
    np.testing.assert_allclose(rows.values, expected, rtol=1e-6)


@pytest.mark.parametrize("probe", [token_losses, entropy, margin])
@pytest.mark.parametrize(
    "logits, labels",
    [
        (torch.ones(2, 4, 3), LABELS),
        (torch.ones(4, 3), LABELS),
        (torch.ones(3), LABELS),
        (torch.ones(3, 3), LABELS[0]),
    ],
    ids=str,
)
def test_refused(probe, logits, labels):
    with pytest.raises(BatchError, match="predicted positions"):
        probe(logits, labels)


def test_gradient_norms():
    embedded = torch.tensor([[[3.0, 4.0], [0.0, 1.0]], [[1.0, 0.0], [6.0, 8.0]]])
    embedded.requires_grad_()
    (embedded.square().sum() / 2).backward()
    assert embedded.grad is not None
    norms = embedding_gradient_norm(embedded.grad)
    torch.testing.assert_close(norms, torch.tensor([[5.0, 1.0], [1.0, 10.0]]))
    found = embedding_gradient_norm(embedded.grad, torch.tensor([[1, 0], [1, 1]]))
    expected = torch.tensor([[5.0, NAN], [1.0, 10.0]])
    torch.testing.assert_close(found, expected, equal_nan=True)
    for wrong in ((norms, None), (embedded.grad, torch.ones(2, 3))):
        with pytest.raises(BatchError, match=r"gradient \(B, S, D\)"):
            embedding_gradient_norm(*wrong)


def test_public_names_are_pinned():
    assert sorted(guidance.__all__) == [
        "FromTokens",
        "InverseDocumentFrequency",
        "KnownScores",
        "PairInformation",
        "ScoreReader",
        "ScoreStore",
        "Scorer",
        "TokenStatistics",
        "attention_received",
        "count_tokens",
        "embedding_gradient_norm",
        "entropy",
        "margin",
        "token_losses",
    ]
    assert all(hasattr(guidance, name) for name in guidance.__all__)
