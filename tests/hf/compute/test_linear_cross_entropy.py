"""The loss of an output embedding, a few rows of logits at a time, is the plain one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from maskwright.errors import BatchError, ConfigError
from maskwright.hf import linear_cross_entropy


def problem(seed: int, tokens: int, width: int, classes: int, *, bias: bool) -> tuple[Any, ...]:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    targets = torch.randint(classes, (tokens,), generator=generator)
    return draw(tokens, width), draw(classes, width), draw(classes) if bias else None, targets


def gradients(total: torch.Tensor, *tensors: torch.Tensor | None) -> list[torch.Tensor]:
    return list(torch.autograd.grad(total, [one for one in tensors if one is not None]))


def test_of_two_classes_by_hand():
    hidden = torch.tensor([[0.0, 0.0], [1.0, 0.0]], requires_grad=True)
    weight = torch.tensor([[0.0, 0.0], [1.0, 0.0]], requires_grad=True)
    total, losses = linear_cross_entropy(hidden, weight, None, torch.tensor([0, 1]))
    expected = torch.tensor([2.0, 1 + torch.tensor(-1.0).exp()]).log()
    torch.testing.assert_close(losses, expected)
    torch.testing.assert_close(total, expected.sum())
    total.backward()
    share = 1 / (1 + torch.tensor(1.0).exp())  # of the wrong class, at the second position
    torch.testing.assert_close(hidden.grad, torch.tensor([[0.5, 0.0], [-share, 0.0]]))
    torch.testing.assert_close(weight.grad, torch.tensor([[share, 0.0], [-share, 0.0]]))


@given(
    seed=st.integers(0, 99), tokens=st.integers(0, 9), classes=st.integers(1, 7),
    rows=st.integers(1, 10), bias=st.booleans(), weighed=st.booleans(),
    smoothing=st.sampled_from([0.0, 0.1, 1.0]), divisor=st.sampled_from([1, 3.0]),
)  # fmt: skip
def test_it_is_the_plain_loss_with_its_gradients(
    seed, tokens, classes, rows, bias, weighed, smoothing, divisor
):
    hidden, weight, offset, targets = problem(seed, tokens, 4, classes, bias=bias)
    weights = torch.rand(tokens, dtype=torch.float64) if weighed else None
    total, losses = linear_cross_entropy(
        hidden, weight, offset, targets, weights=weights, divisor=divisor,
        label_smoothing=smoothing, rows=rows,
    )  # fmt: skip
    each = functional.cross_entropy(
        functional.linear(hidden, weight, offset), targets, reduction="none",
        label_smoothing=smoothing,
    )  # fmt: skip
    wanted = (each if weights is None else each * weights).sum() / divisor
    torch.testing.assert_close(losses, each.detach())
    torch.testing.assert_close(total, wanted)
    assert not losses.requires_grad
    tensors = hidden, weight, offset
    # the loss may be scaled further on, as with accumulation
    found, right = gradients(2.5 * total, *tensors), gradients(2.5 * wanted, *tensors)
    for one, other in zip(found, right, strict=True):
        torch.testing.assert_close(one, other)


def test_in_single_precision_rows_change_nothing_that_matters():
    hidden, weight, offset, targets = (
        one.detach().float().requires_grad_() if one.is_floating_point() else one
        for one in problem(1, 64, 32, 501, bias=True)
    )
    wanted = functional.cross_entropy(functional.linear(hidden, weight, offset), targets)
    right = gradients(wanted, hidden, weight, offset)
    for rows in (1, 7, 64, None):
        total, _ = linear_cross_entropy(hidden, weight, offset, targets, divisor=64, rows=rows)
        torch.testing.assert_close(total, wanted, rtol=1e-5, atol=0)
        for one, other in zip(gradients(total, hidden, weight, offset), right, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_under_autocast_it_is_as_near_as_the_plain_one():
    made = problem(2, 40, 16, 101, bias=True)
    exact, _ = linear_cross_entropy(*made, divisor=40)
    hidden, weight, offset = (one.detach().float().requires_grad_() for one in made[:3])
    with torch.autocast("cpu", torch.bfloat16):
        total, _ = linear_cross_entropy(hidden, weight, offset, made[3], divisor=40, rows=16)
    assert total.dtype == torch.float32
    torch.testing.assert_close(total.double(), exact, rtol=1e-2, atol=0)
    found = gradients(total, hidden, weight, offset)
    for one, other in zip(found, gradients(exact, *made[:3]), strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one.double(), other, rtol=0.05, atol=0.01)


def test_only_what_asks_for_a_gradient_gets_one():
    hidden, weight, _, targets = problem(3, 5, 4, 6, bias=False)
    total, _ = linear_cross_entropy(hidden.detach(), weight, None, targets)
    assert gradients(total, weight)[0].abs().sum() > 0
    assert not linear_cross_entropy(hidden.detach(), weight.detach(), None, targets)[
        0
    ].requires_grad


def test_shapes_and_numbers_that_do_not_fit_are_refused():
    hidden, weight, _, targets = problem(4, 5, 4, 6, bias=False)
    with pytest.raises(BatchError, match=r"'targets': \(4,\)\}; they are hidden \(P, H\)"):
        linear_cross_entropy(hidden, weight, None, targets[:4])
    with pytest.raises(BatchError, match=r"'bias': \(5,\)"):
        linear_cross_entropy(hidden, weight, torch.zeros(5), targets)
    with pytest.raises(ConfigError, match="rows=0 of logits at once"):
        linear_cross_entropy(hidden, weight, None, targets, rows=0)
    with pytest.raises(ConfigError, match=r"label_smoothing=1\.5"):
        linear_cross_entropy(hidden, weight, None, targets, label_smoothing=1.5)
