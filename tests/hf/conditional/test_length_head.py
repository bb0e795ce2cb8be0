"""The head that says how long targets are."""

from __future__ import annotations

import pytest
import torch

from maskwright.errors import BatchError, ConfigError
from maskwright.hf.conditional.length_head import LengthHead


def test_classes_are_differences_within_reach():
    head = LengthHead(4, 3)
    source = torch.tensor([5, 5, 5, 5])
    target = torch.tensor([5, 3, 20, 1])
    assert head.class_of(source, target).tolist() == [3, 1, 6, 0]


def test_it_reads_the_mean_of_real_states():
    head = LengthHead(4, 2, seed=1)
    states = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    states[0, 2] = float("nan")  # padding may hold anything
    found = head(states, mask)
    torch.testing.assert_close(found[0], head.classes(states[0, :2].mean(0)))
    torch.testing.assert_close(found[1:], head(states[1:]))
    found.sum().backward()
    assert bool(head.classes.weight.grad.isfinite().all())


def test_its_first_weights_are_its_own():
    before = torch.get_rng_state()
    first, again, other = (LengthHead(4, 2, seed=seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(first["classes.weight"], again["classes.weight"])
    assert not torch.equal(first["classes.weight"], other["classes.weight"])
    assert torch.equal(before, torch.get_rng_state())


def test_the_likeliest_lengths_in_order():
    head = LengthHead(4, 2)
    #                        -2   -1    0    1    2
    logits = torch.tensor([[0.0, 4.0, 2.0, 3.0, 1.0], [9.0, 8.0, 1.0, 1.0, 7.0]])
    lengths, scores = head.likeliest(logits, torch.tensor([5, 2]), 3, 6)
    # of the second, 0 words are none, and of equals the shorter comes first
    assert lengths.tolist() == [[4, 6, 5], [1, 4, 2]]
    torch.testing.assert_close(scores[0], logits[0].log_softmax(-1)[[1, 3, 2]])
    lengths, _ = head.likeliest(logits, torch.tensor([5, 2]), 9, 3)
    assert lengths.tolist() == [[3, 0, 0, 0, 0], [1, 2, 3, 0, 0]]


def test_no_length_within_reach():
    with pytest.raises(BatchError, match=r"Sample 1: its source has 9 tokens.* 7 or more"):
        LengthHead(4, 2).likeliest(torch.zeros(2, 5), torch.tensor([3, 9]), 2, 6)


def test_it_learns():
    generator = torch.Generator().manual_seed(0)
    kinds = torch.randint(0, 4, (64,), generator=generator)
    states = torch.eye(4)[kinds].unsqueeze(1).expand(-1, 3, -1)
    source = torch.full((64,), 3)
    head = LengthHead(4, 3)
    optimizer = torch.optim.Adam(head.parameters(), 0.3)
    for _ in range(30):
        optimizer.zero_grad()
        head.loss(head(states), source, 1 + kinds).backward()
        optimizer.step()
    lengths, _ = head.likeliest(head(states), source, 1, 9)
    assert torch.equal(lengths[:, 0], 1 + kinds)


@pytest.mark.parametrize("reach", [0, -1, 1.5, True])
def test_the_reach_is_a_whole_number(reach):
    with pytest.raises(ConfigError, match="reach="):
        LengthHead(4, reach)
