"""The private kernels are used only where they answer rightly; the plain ones always do."""

from __future__ import annotations

import pytest
import torch

from maskwright.attention import Axis, causal, window
from maskwright.attention.backends import blocksparse, fused_cpu
from maskwright.attention.backends.fused_cpu import FUSED, PLAIN, Kernels, answers_rightly, as_bias

TYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])


@pytest.fixture(autouse=True)
def _fresh():
    fused_cpu.fused_works.cache_clear()
    yield
    fused_cpu.fused_works.cache_clear()


@TYPES
def test_both_answer_rightly(dtype) -> None:
    assert answers_rightly(PLAIN, dtype)
    assert answers_rightly(FUSED, dtype)
    assert fused_cpu.kernels(dtype, 8, 8) is FUSED


def _off(kernel: Kernels, what: str) -> Kernels:
    def forward(*given):
        out, logsumexp = kernel.forward(*given)
        return (out + 0.2 if what == "output" else out), logsumexp

    def backward(*given):
        grads = list(kernel.backward(*given))
        if what == "NaN":
            grads[0][0, 0, 3] = torch.nan
        if what == "gradient":
            grads[1] = grads[1] * 1.5
        return tuple(grads)

    def refuses(*given):
        raise RuntimeError("not implemented for this type")

    return Kernels("off", forward, refuses if what == "refuses" else backward)


@pytest.mark.parametrize("what", ["output", "gradient", "NaN", "refuses"])
@TYPES
def test_wrong_answers_are_noticed(what, dtype) -> None:
    assert answers_rightly(_off(FUSED, "nothing"), dtype)
    assert not answers_rightly(_off(FUSED, what), dtype)


def test_a_backward_with_its_own_logsumexp_is_noticed() -> None:
    """Kernels that ignore the log-sum-exp they are given are right for one part only."""

    def backward(grad, query, key, value, out, logsumexp, bias, scale):
        own_out, own = PLAIN.forward(query, key, value, bias, scale)
        return PLAIN.backward(grad, query, key, value, own_out, own, bias, scale)

    assert not answers_rightly(Kernels("own", PLAIN.forward, backward), torch.float32)


def test_another_signature_is_not_called(monkeypatch) -> None:
    monkeypatch.setattr(fused_cpu, "_BACKWARD", fused_cpu._BACKWARD.replace("dropout_p", "p"))
    assert not fused_cpu.fused_works(torch.float32)
    assert fused_cpu.kernels(torch.float32, 8, 8) is PLAIN


def test_without_the_private_kernels_the_plain_ones_run(monkeypatch) -> None:
    axis = Axis(300)
    leaves = [torch.randn(1, 2, 300, 8, requires_grad=True) for _ in range(3)]
    plan = blocksparse.plan(causal & window(70), axis)

    def outcome():
        out = blocksparse.run(*leaves, plan)
        return [out, *torch.autograd.grad(out.square().sum(), leaves)]

    fused = outcome()
    monkeypatch.setattr(fused_cpu, "fused_works", lambda dtype: False)
    for one, other in zip(outcome(), fused, strict=True):
        torch.testing.assert_close(one, other)


def test_values_of_another_dimension_take_the_plain_ones() -> None:
    assert fused_cpu.kernels(torch.float32, 8, 5) is PLAIN


@pytest.mark.parametrize("outer", [(1, 1), (1, 3), (2, 1), (2, 3)])
def test_a_bias_for_some_or_all(outer) -> None:
    """Samples and heads that share a bias, and those that do not."""
    query, key, value, grad = (torch.randn(2, 3, 20, 8) for _ in range(4))
    bias = as_bias(torch.rand(*outer, 20, 20) < 0.5, torch.float32)
    found = FUSED.forward(query, key, value, bias, 0.3)
    right = PLAIN.forward(query, key, value, bias, 0.3)
    torch.testing.assert_close(found, right)
    sides = (grad, query, key, value, *right, bias, 0.3)
    torch.testing.assert_close(FUSED.backward(*sides), PLAIN.backward(*sides))


def test_plain_scores_in_pieces(monkeypatch) -> None:
    query, key, value, grad = (torch.randn(1, 2, 30, 8) for _ in range(4))
    whole = PLAIN.forward(query, key, value, None, 0.3)
    sides = (grad, query, key, value, *whole, None, 0.3)
    grads = PLAIN.backward(*sides)
    monkeypatch.setattr(fused_cpu, "_AT_ONCE", 7 * 60)
    torch.testing.assert_close(PLAIN.forward(query, key, value, None, 0.3), whole)
    torch.testing.assert_close(PLAIN.backward(*sides), grads)


def test_a_bias_is_zero_or_minus_infinity() -> None:
    bias = as_bias(torch.tensor([True, False]), torch.float32)
    assert bias.tolist() == [0.0, -torch.inf]
