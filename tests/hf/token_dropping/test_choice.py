"""Which tokens are kept: against a sort in Python."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwright.errors import CacheError, ConfigError
from maskwright.hf.compute.row import Row
from maskwright.hf.token_dropping import importance
from maskwright.hf.token_dropping.choice import draws_of, first_of, kept_tokens
from maskwright.hf.token_dropping.importance import NAME, RunningLoss
from tests.hf.token_dropping import slow

SCORES = st.sampled_from([0.0, 0.5, 1.0, -2.0, math.nan])
TOKENS = st.tuples(st.booleans(), SCORES, st.booleans())  # real, score, always


@given(
    samples=st.lists(st.lists(TOKENS, min_size=6, max_size=6), min_size=1, max_size=4),
    share=st.sampled_from([0.01, 0.25, 0.3, 0.5, 0.99, 1.0]),
)
@settings(max_examples=60, deadline=None)
def test_the_most_important_are_kept_and_ties_go_by_draws(samples, share):
    real = torch.tensor([[token[0] for token in sample] for sample in samples])
    row = Row.of(real)
    clock = torch.tensor([[2, number] for number in range(len(samples))])
    ids = torch.arange(len(samples)) + 70
    scores = torch.tensor([[token[1] for token in sample] for sample in samples])[real]
    always = torch.tensor([[token[2] for token in sample] for sample in samples])[real]
    draws = draws_of(row, 3, clock, ids)
    places, marks = kept_tokens(row, scores, always, draws, share)
    assert torch.equal(places, marks.nonzero().squeeze(1))
    wanted, at = [], 0
    for number, sample in enumerate(samples):
        own = [token for token in sample if token[0]]
        one = [slow.draw(3, [2, number], 70 + number, position) for position in range(len(own))]
        assert draws[at : at + len(own)].tolist() == one
        if own:
            _, values, fixed = zip(*own, strict=True)
            wanted += slow.kept(list(values), list(fixed), one, share)
        at += len(own)
    assert marks.tolist() == wanted


def test_draws_do_not_depend_on_padding_or_on_the_batch():
    ids, clock = torch.tensor([9, 4]), torch.tensor([[0, 1], [0, 1]])
    right = Row.of(torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]]))
    left = Row.of(torch.tensor([[0, 1, 1, 1], [0, 0, 1, 1]]))
    both = draws_of(right, 0, clock, ids)
    assert torch.equal(both, draws_of(left, 0, clock, ids))
    alone = draws_of(Row.of(torch.ones(1, 2)), 0, clock[1:], ids[1:])
    assert torch.equal(both[3:], alone)
    for other in (draws_of(right, 1, clock, ids), draws_of(right, 0, clock + 1, ids)):
        assert not (other == both).any()
    assert draws_of(right, 0, None, ids).min() >= 0


def test_the_first_token_of_each_sample():
    row = Row.of(torch.tensor([[0, 1, 1], [0, 0, 0], [1, 0, 1]]))
    assert first_of(row).tolist() == [0, 0, 2, 2]


# -- the running loss ---------------------------------------------------------------------------


def test_the_mean_moves_once_a_step_by_the_mean_of_the_step():
    running = RunningLoss(5, beta=0.9, start=10.0)
    running.see(torch.tensor([1, 3, 1]), torch.tensor([2.0, 4.0, 3.0]))
    assert running.of(torch.tensor([1])).item() == 10.0  # not before the step is over
    running.see(torch.tensor([1]), torch.tensor([4.0]))
    running.settle()
    wanted = [10.0, 0.9 * 10 + 0.1 * 3, 10.0, 0.9 * 10 + 0.1 * 4, 10.0]
    torch.testing.assert_close(running.mean, torch.tensor(wanted))
    found = running.of(torch.tensor([[3, 0]]))
    torch.testing.assert_close(found, torch.tensor([[wanted[3], 10.0]]))
    running.settle()
    torch.testing.assert_close(running.mean, torch.tensor(wanted))


def test_ranks_and_micro_batches_count_as_one_batch(monkeypatch):
    ids, losses = torch.tensor([1, 3, 1, 2]), torch.tensor([2.0, 4.0, 3.5, 1.0])
    whole, one, two = RunningLoss(5), RunningLoss(5), RunningLoss(5)
    whole.see(ids, losses)
    whole.settle()
    parts = []
    monkeypatch.setattr(importance, "of_all_ranks", lambda own: parts.append(own) or [own])
    two.see(ids[1:], losses[1:])
    two.settle()
    monkeypatch.setattr(importance, "of_all_ranks", lambda own: [own, *parts])
    one.see(ids[:1], losses[:1])
    one.settle()
    assert torch.equal(one.mean, whole.mean)
    assert not torch.equal(two.mean, whole.mean)


def test_a_loss_that_is_not_finite_moves_nothing():
    running = RunningLoss(3)
    before = running.mean.clone()
    running.see(torch.tensor([0, 1]), torch.tensor([math.nan, math.inf]))
    running.settle()
    assert torch.equal(running.mean, before)


def test_a_checkpoint_keeps_it(tmp_path):
    running = RunningLoss(4, beta=0.5)
    running.see(torch.tensor([1]), torch.tensor([0.25]))
    running.settle()
    running.save(tmp_path)
    other = RunningLoss(4)
    other.restore(tmp_path)
    assert torch.equal(other.mean, running.mean)
    with pytest.raises(ConfigError, match="vocabulary of 4 ids, and the model has 5"):
        RunningLoss(5).restore(tmp_path)
    (tmp_path / NAME).write_bytes(b"no")
    with pytest.raises(CacheError, match="damaged"):
        other.restore(tmp_path)
    with pytest.raises(ConfigError, match="dropped no tokens by their loss"):
        other.restore(tmp_path / "empty")
    for wrong in (-0.1, 1.0):
        with pytest.raises(ConfigError, match="beta="):
            RunningLoss(4, beta=wrong)
