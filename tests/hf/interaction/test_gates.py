"""The distribution of gates, its draws, and how a budget is held."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwright import randomness
from maskwright.clock import Clock
from maskwright.errors import ConfigError
from maskwright.hf.interaction.budget import GateBudget
from maskwright.hf.interaction.draws import noise_of_heads, noise_of_pairs
from maskwright.hf.interaction.hard_concrete import chance_open, expected, sampled
from maskwright.schedule import Linear


def _slow(log_alpha: float, u: float) -> float:
    """The equations of the paper, a number at a time."""
    s = 1 / (1 + math.exp(-(math.log(u) - math.log(1 - u) + log_alpha) * 3 / 2))
    return min(1.0, max(0.0, s * 1.2 - 0.1))


@given(st.floats(-6, 6), st.floats(1e-6, 1 - 1e-6))
def test_a_gate_is_that_of_the_paper(log_alpha: float, u: float) -> None:
    at = torch.tensor(log_alpha, dtype=torch.float64)
    noise = torch.tensor(math.log(u) - math.log(1 - u), dtype=torch.float64)
    assert float(sampled(at, noise)) == pytest.approx(_slow(log_alpha, u), abs=1e-9)
    half = 1 / (1 + math.exp(-log_alpha))
    assert float(expected(at)) == pytest.approx(min(1, max(0, half * 1.2 - 0.1)), abs=1e-12)


@pytest.mark.parametrize("log_alpha", [-3.0, -1.0, 0.0, 2.5])
def test_the_chance_to_be_open_is_counted(log_alpha: float) -> None:
    u = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    at = torch.full_like(u, log_alpha)
    share = (sampled(at, u.log() - (1 - u).log()) > 0).double().mean()
    assert float(chance_open(at[0])) == pytest.approx(float(share), abs=2e-5)


def test_gradients_pass_between_zero_and_one_only() -> None:
    log_alpha = torch.tensor([-9.0, 0.0, 9.0], requires_grad=True)
    sampled(log_alpha, torch.zeros(3)).sum().backward()
    assert log_alpha.grad is not None
    assert (log_alpha.grad > 0).tolist() == [False, True, False]


def test_draws_are_the_hash_and_nothing_else() -> None:
    key = randomness.absorb(randomness.run_key(5, 0x9A7E, 7), 2)
    u = [((randomness.draw(key, head) >> 11) + 0.5) / 2**53 for head in range(4)]
    slow = torch.tensor([math.log(one) - math.log1p(-one) for one in u])
    torch.random.manual_seed(0)
    found = noise_of_heads(5, 7, 2, 4)
    torch.testing.assert_close(found, slow)
    assert torch.equal(found, noise_of_heads(5, 7, 2, 4))
    others = [noise_of_heads(6, 7, 2, 4), noise_of_heads(5, 8, 2, 4), noise_of_heads(5, 7, 1, 4)]
    assert all(not torch.equal(found, other) for other in others)


@settings(max_examples=20)
@given(st.integers(0, 2**40), st.integers(0, 1000), st.integers(1, 5), st.integers(1, 6))
def test_draws_of_pairs_do_not_depend_on_lengths(seed: int, step: int, q: int, kv: int) -> None:
    cpu = torch.device("cpu")
    whole = noise_of_pairs(seed, step, 1, 3, 6, 7, cpu)
    assert torch.equal(noise_of_pairs(seed, step, 1, 3, q, kv, cpu), whole[:, :q, :kv])
    assert whole.isfinite().all()
    assert len(whole.unique()) == whole.numel()


def test_draws_of_pairs_are_logistic() -> None:
    found = noise_of_pairs(0, 0, 0, 8, 64, 64, torch.device("cpu")).double()
    assert float(found.mean()) == pytest.approx(0, abs=0.05)
    assert float(found.var()) == pytest.approx(math.pi**2 / 3, rel=0.03)


def test_the_gradient_of_the_penalty() -> None:
    budget = GateBudget(0.5, strength=4.0)
    for multiplier, share in ((0.0, 0.8), (0.3, 0.6), (0.3, 0.2), (2.0, 0.4)):
        at = torch.tensor(share, requires_grad=True)
        budget.penalty(at, 0.5, torch.tensor(multiplier)).backward()
        assert at.grad is not None
        assert float(at.grad) == pytest.approx(max(0.0, multiplier + 4 * (share - 0.5)), abs=1e-6)
    assert float(budget.followed(torch.tensor(0.1), torch.tensor(0.7), 0.5)) == pytest.approx(0.12)
    assert float(budget.followed(torch.tensor(0.01), torch.tensor(0.1), 0.5)) == 0


@pytest.mark.parametrize("share", [0.75, 0.5])
def test_a_budget_is_held_against_a_loss_that_pulls(share: float) -> None:
    """Gates that a loss wants open, each more or less: the best of them stay."""
    worth = torch.linspace(0.2, 2.0, 8)
    log_alpha = torch.full((8,), 2.5, requires_grad=True)
    budget, multiplier = GateBudget(Linear(1.0, share)), torch.zeros(())
    optimizer = torch.optim.Adam([log_alpha], lr=0.05)
    for step in range(400):
        optimizer.zero_grad()
        opened = chance_open(log_alpha).mean()
        at = budget.at(Clock(step=step, total_steps=300))
        gates = sampled(log_alpha, noise_of_heads(0, step, 0, 8))
        loss = -(worth * gates).sum() / 8 + budget.penalty(opened, at, multiplier)
        loss.backward()
        optimizer.step()
        multiplier = budget.followed(multiplier, opened.detach(), at)
    log_alpha = log_alpha.detach()
    assert float(chance_open(log_alpha).mean()) == pytest.approx(share, abs=0.02)
    left = expected(log_alpha) > 0
    assert int(left.sum()) == 8 * share
    assert left[-int(8 * share) :].all()


@pytest.mark.parametrize("share", [0, -0.1, 1.5, True, "half"])
def test_a_share_that_is_none(share: object) -> None:
    with pytest.raises(ConfigError, match="share of gates that may stay open"):
        GateBudget(share)  # type: ignore[arg-type]


def test_other_settings_of_a_budget() -> None:
    with pytest.raises(ConfigError, match="strength=0"):
        GateBudget(0.5, strength=0)
    with pytest.raises(ConfigError, match="rate=-1"):
        GateBudget(0.5, rate=-1)
    with pytest.raises(ConfigError, match="share of gates"):
        GateBudget(Linear(1.0, 0.0)).at(Clock(step=1, total_steps=1))
