"""Masking on a device against the kernels, bit for bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwright import Clock, Mask, Masking, Ragged, TokenBatch, Vocabulary, mlm
from maskwright.corruption import Coverage, Delete, SampledRate
from maskwright.corruption.device import DeviceDraw, mask_on_device
from maskwright.corruption.emit.diffusion import Diffusion
from maskwright.errors import BatchError, PolicyError
from tests.corruption.rows import WORDS
from tests.strategies import acts, clocks, maskings, token_batches, vocabularies


def on_device(masking, batch, clock, side="right", draw=None, function=mask_on_device, **others):
    """The batch as a padded tensor, masked there."""
    tokens = batch.tokens
    padded = tokens.like(tokens.values.astype(np.int64)).to_padded(0, side=side)
    ones = tokens.like(np.ones(len(tokens.values), np.int64)).to_padded(0, side=side)
    if batch.protected is not None:
        others["protected"] = batch.protected.to_padded(0, side=side)
    how = (masking, clock) if draw is None else (draw,)
    ids = torch.from_numpy(batch.sample_ids)
    return function(padded, ids, *how, attention_mask=ones, **others), padded, ones


def assert_same(masking, batch, clock, side, found):
    (inputs, labels, *_), padded, ones = found
    # a padding id, so that mlm can pad; at padding the device leaves what was there
    vocabulary = masking.bound
    pad = vocabulary.pad_id if vocabulary.pad_id is not None else vocabulary.mask_id
    bound = masking.bind(replace(vocabulary, pad_id=pad))
    expected = mlm(bound.plan(batch, clock), side=side)
    here = ones != 0
    assert torch.equal(inputs[here], expected.input_ids[here])
    assert torch.equal(inputs[~here], padded[~here])
    assert torch.equal(labels, expected.labels)


@settings(max_examples=30)
@given(st.data(), st.sampled_from(["left", "right"]))
def test_it_is_the_kernels(data, side):
    vocabulary = data.draw(vocabularies())
    masking = replace(data.draw(maskings(vocabulary)), exact=False, at_least=0)
    batch = data.draw(token_batches(vocabulary))
    clock = data.draw(clocks())
    assert_same(masking, batch, clock, side, on_device(masking, batch, clock, side))


@settings(max_examples=20)
@given(st.data(), st.sampled_from([0.15, 0.4, 1.0]), st.integers(0, 9))
def test_coverage(data, rate, epoch):
    vocabulary = data.draw(vocabularies())
    masking = Masking(rate=rate, refresh=Coverage(rate), act=data.draw(acts())).bind(vocabulary)
    batch = data.draw(token_batches(vocabulary))
    clock = Clock(7, epoch)
    assert_same(masking, batch, clock, "left", on_device(masking, batch, clock, "left"))


@settings(max_examples=20)
@given(st.data(), st.sampled_from([(0.0, 1.0), (0.1, 0.7), (0.0, 0.0), (0.3, 0.3)]))
def test_rates_drawn_per_sample(data, bounds):
    vocabulary = data.draw(vocabularies())
    masking = Masking(rate=SampledRate(*bounds), act=Mask()).bind(vocabulary)
    batch = data.draw(token_batches(vocabulary))
    clock = data.draw(clocks())
    found = on_device(masking, batch, clock)
    assert_same(masking, batch, clock, "right", found)
    pad = 0 if vocabulary.pad_id is None else vocabulary.pad_id
    bound = masking.bind(replace(vocabulary, pad_id=pad))
    weights = Diffusion()(bound.plan(batch, clock)).sample_weights
    assert weights is not None
    assert torch.equal(found[0][2], weights)


def test_a_literal_case():
    """Selected where ``draw >> 11 < threshold``; specials and padding stay."""
    batch = TokenBatch(Ragged.from_lists([[2, 5, 6, 3], [7]]), np.array([0, 1]))
    masking = Masking(rate=1.0, act=Mask()).bind(WORDS)
    (inputs, labels), *_ = on_device(masking, batch, Clock(), "left")
    assert inputs.tolist() == [[2, 4, 4, 3], [0, 0, 0, 4]]
    assert labels.tolist() == [[-100, 5, 6, -100], [-100, -100, -100, 7]]


def test_without_an_attention_mask_all_is_text_and_starts_move_the_draws():
    batch = TokenBatch(Ragged.from_lists([list(range(5, 105))]), np.array([3]))
    masking, ids = Masking().bind(WORDS), torch.tensor([3])
    padded = batch.tokens.to_padded(0)
    expected = mlm(masking.plan(batch, Clock(1))).input_ids
    assert torch.equal(mask_on_device(padded, ids, masking, Clock(1))[0], expected)
    shifted = torch.cat([torch.full((1, 3), 2), padded], dim=1)
    moved = mask_on_device(shifted, ids, masking, Clock(1), starts=torch.tensor([3]))[0]
    assert torch.equal(moved[:, 3:], expected)
    assert not torch.equal(mask_on_device(shifted, ids, masking, Clock(1))[0][:, 3:], expected)


def test_a_threshold_lets_only_high_scores_be_masked():
    rng = np.random.default_rng(0)
    batch = TokenBatch(Ragged.from_lists(rng.integers(5, 900, (3, 80))), np.arange(3))
    masking, clock = Masking(rate=0.5).bind(WORDS), Clock(2)
    scores = torch.from_numpy(rng.random((3, 80)))
    (free, labels), padded, _ = on_device(masking, batch, clock)
    (inputs, chosen), *_ = on_device(masking, batch, clock, scores=scores, threshold=0.25)
    above = scores > 0.25
    assert torch.equal(chosen, torch.where(above, labels, -100))
    assert torch.equal(inputs, torch.where(above, free, padded))
    each = torch.tensor([0.0, 0.5, 1.0])
    (_, chosen), *_ = on_device(masking, batch, clock, scores=scores, threshold=each)
    assert torch.equal(chosen, torch.where(scores > each[:, None], labels, -100))
    exactly = torch.full((3, 80), 0.25)
    (_, chosen), *_ = on_device(masking, batch, clock, scores=exactly, threshold=0.25)
    assert (chosen == -100).all()  # above, not at


def test_a_draw_moves_on_with_the_clock():
    batch = TokenBatch(Ragged.from_lists([list(range(5, 105))]), np.array([3]))
    masking = Masking().bind(WORDS)
    draw = DeviceDraw.of(masking, Clock(1, 0))
    for epoch in (0, 1, 5):
        clock = Clock(1, epoch)
        found = on_device(masking, batch, clock, draw=draw.at(clock))
        assert_same(masking, batch, clock, "right", found)


def test_the_input_is_not_changed():
    padded, ids = torch.arange(5, 55)[None], torch.tensor([0])
    mask_on_device(padded, ids, Masking(rate=1.0).bind(WORDS))
    assert torch.equal(padded, torch.arange(5, 55)[None])


@pytest.mark.parametrize(
    "masking, message",
    [
        (Masking(exact=True), "exact=True orders"),
        (Masking(select=Masking().select | Masking().select), r"\(tokens \| tokens\) looks at"),
    ],
)
def test_other_policies_are_refused(masking, message):
    with pytest.raises(PolicyError, match=message):
        mask_on_device(torch.ones(1, 2, dtype=torch.int64), torch.tensor([0]), masking.bind(WORDS))


def test_acts_that_move_tokens_are_refused():
    class Anything:
        def __call__(self, plan, *, side="right", length=None): ...
        def check(self, masking): ...

    masking = Masking(act=Delete(), emit=Anything()).bind(WORDS)
    with pytest.raises(PolicyError, match="delete moves tokens"):
        DeviceDraw.of(masking, Clock())


def test_arguments_outside_their_rule():
    ids, samples, masking = torch.ones(2, 3, dtype=torch.int64), torch.arange(2), Masking()
    bound = masking.bind(WORDS)
    with pytest.raises(PolicyError, match="Bind it"):
        mask_on_device(ids, samples, masking)
    with pytest.raises(BatchError, match=r"\(B, S\) int64, got \(2, 3\) torch.int32"):
        mask_on_device(ids.int(), samples, bound)
    with pytest.raises(BatchError, match=r"\(2,\) int64, one per row, got \(3,\)"):
        mask_on_device(ids, torch.arange(3), bound)
    with pytest.raises(PolicyError, match="got scores only"):
        mask_on_device(ids, samples, bound, scores=torch.zeros(2, 3))


@pytest.mark.slow
def test_it_compiles_into_one_graph_for_every_shape_and_moment():
    rng = np.random.default_rng(1)
    compiled = torch.compile(mask_on_device, fullgraph=True, dynamic=True)
    counter = torch._dynamo.utils.counters["stats"]
    vocabulary = Vocabulary(1000, mask_id=4, pad_id=0, special_ids=(0, 1, 2, 3))
    masking = Masking().bind(vocabulary)
    graphs = []
    for epoch, sizes in enumerate([(300, 7), (40, 2, 90), (5, 6, 7, 513), (9, 30)]):
        batch = TokenBatch(
            Ragged.from_lists([rng.integers(0, 1000, size) for size in sizes]),
            rng.integers(0, 2**63 - 1, len(sizes)),
        )
        clock = Clock(-3, epoch)
        draw = DeviceDraw.of(masking, clock)
        found = on_device(masking, batch, clock, "left", draw=draw, function=compiled)
        assert_same(masking, batch, clock, "left", found)
        graphs.append(counter["unique_graphs"])
    assert graphs == [graphs[0]] * 4
