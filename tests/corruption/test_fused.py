"""One pass makes the tensors that the plan and its emit make in turn, and applies where it may."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maskwright import (
    Clock,
    Mask,
    Masking,
    MaskPlan,
    Ragged,
    Random,
    TokenBatch,
    Vocabulary,
    mlm,
    schedule,
)
from maskwright.corruption import (
    Coverage,
    Diffusion,
    MixedMasking,
    NoiseSpans,
    Rotate,
    SampledRate,
    Seq2Seq,
    Tokens,
    TwoPointRate,
    fused,
)
from maskwright.errors import BatchError, PolicyError, VocabularyError
from tests.corruption.rows import WORDS, same_rows
from tests.strategies import SEEDS, draws_of_masks

SIDES = st.sampled_from(["left", "right"])
SENTENCE = [2, 5, 6, 7, 3]


def in_one_pass(masked) -> bool:
    return not isinstance(masked.planned, MaskPlan)


def assert_same(masked, wanted) -> None:
    assert masked.tensors.keys() == wanted.tensors.keys()
    for name, tensor in wanted.tensors.items():
        assert masked.tensors[name].dtype == tensor.dtype
        assert torch.equal(masked.tensors[name], tensor), name


@st.composite
def all_that_counts(draw):
    """A policy, a batch with any of its columns, a moment, and how to pad."""
    masking, batch, clock = draw(draws_of_masks())
    if not masking.exact and draw(st.integers(0, 3)) == 0:
        rate = draw(st.sampled_from([0.15, 1 / 3, 0.5, 1.0]))
        masking = replace(masking, rate=rate, refresh=Coverage(rate))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def column(low: int, high: int) -> Ragged | None:
        values = rng.integers(low, high, len(batch.tokens.values))
        return batch.tokens.like(values) if draw(st.booleans()) else None

    protected = batch.protected
    if draw(st.integers(0, 5)) == 0:
        protected = batch.tokens.like(np.ones(len(batch.tokens.values), np.uint8))
    batch = replace(
        batch, protected=protected, labels=column(-100, 10**6), marks=column(0, 3),
        word_starts=column(0, 2),
    )  # fmt: skip
    longest = int(batch.tokens.lengths.max(initial=0))
    return masking, batch, clock, {
        "side": draw(SIDES),
        "multiple": draw(st.sampled_from([1, 8, 64])),
        "length": draw(st.none() | st.integers(longest, longest + 70)),
    }  # fmt: skip


@given(all_that_counts())
def test_it_is_the_plan_and_its_emit_bit_for_bit(drawn):
    masking, batch, clock, padding = drawn
    if masking.bound.pad_id is None:
        masking = masking.bind(replace(masking.bound, pad_id=masking.bound.special_ids[0]))
    plan = masking.plan(batch, clock)
    masked = masking.mask(batch, clock, **padding)
    assert_same(masked, mlm(plan, **padding))
    assert masked.side == padding["side"]
    assert masked.in_place
    assert in_one_pass(masked) == (masking._elementwise and len(batch) > 0)
    assert masked.plan.positions.tolist() == plan.positions.tolist()
    assert masked.plan.replacements.tolist() == plan.replacements.tolist()
    assert torch.equal(masked.origin, mlm(plan, **padding).origin)


@given(all_that_counts(), st.data())
def test_a_sample_is_the_same_in_any_batch(drawn, data):
    masking, batch, clock, _ = drawn
    if not len(batch) or masking.bound.pad_id is None:
        return
    whole = masking.mask(batch, clock)
    row = data.draw(st.integers(0, len(batch) - 1))
    columns = {
        name: column.take([row])
        for name in ("tokens", "protected", "labels")
        if (column := getattr(batch, name)) is not None
    }
    alone = masking.mask(TokenBatch(sample_ids=batch.sample_ids[[row]], **columns), clock)
    for name, tensor in alone.tensors.items():
        assert torch.equal(whole.tensors[name][row, : tensor.shape[1]], tensor[0])


def test_literally():
    tokens = Ragged.from_lists([[], SENTENCE, [9]], np.uint16)
    protected = tokens.like(np.array([0, 0, 1, 0, 0, 0], np.uint8))
    labels = tokens.like(np.array([90, 91, 92, 93, 94, 95]))
    batch = TokenBatch(tokens, np.array([3, 1, 2]), protected=protected, labels=labels)
    masked = Masking(rate=1.0, act=Mask()).bind(WORDS).mask(batch, side="left", multiple=6)
    assert in_one_pass(masked)
    assert masked.input_ids.tolist() == [[0] * 6, [0, 2, 4, 6, 4, 3], [0, 0, 0, 0, 0, 4]]
    assert masked.attention_mask.tolist() == [[0] * 6, [0, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 1]]
    ignored = [-100] * 6
    assert masked.labels.tolist() == [
        ignored, [-100, -100, 91, -100, 93, -100], [-100, -100, -100, -100, -100, 95]
    ]  # fmt: skip


def test_rows_that_are_all_empty_have_no_columns():
    batch = TokenBatch(Ragged.from_lists([[], []]), np.arange(2))
    vocabulary = Vocabulary(10, mask_id=4)  # and so need no padding
    masked = Masking().bind(vocabulary).mask(batch)
    assert in_one_pass(masked)
    assert [tuple(t.shape) for t in masked.tensors.values()] == [(2, 0)] * 3


@given(SEEDS, st.integers(0, 100))
def test_a_schedule_is_read_at_the_moment(seed, step):
    masking = Masking(rate=schedule.Linear(0.0, 1.0)).bind(WORDS)
    clock, batch = Clock(seed, 1, step, 100), same_rows(range(5, 205), 3)
    masked = masking.mask(batch, clock)
    assert in_one_pass(masked)
    assert_same(masked, mlm(masking.plan(batch, clock)))
    share = (masked.labels != -100).float().mean().item()
    assert abs(share - step / 100) < 0.15


def test_tensors_are_new_and_the_batch_is_left_alone():
    batch, masking = same_rows(range(5, 105), 4), Masking(rate=0.5).bind(WORDS)
    one = masking.mask(batch)
    kept = {name: tensor.clone() for name, tensor in one.tensors.items()}
    other = masking.mask(batch, Clock(epoch=1))
    assert not torch.equal(one.labels, other.labels)
    for name, tensor in kept.items():
        assert torch.equal(one.tensors[name], tensor)
    assert batch.tokens.values.tolist() == list(range(5, 105)) * 4


@pytest.mark.parametrize(
    "settings",
    [
        {"exact": True},
        {"rate": SampledRate(0.1, 0.2)},
        {"rate": TwoPointRate()},
        {"select": NoiseSpans(3.0)},
        {"select": Tokens() - Tokens().at(0.5)},
        {"select": Tokens().at(0.5)},
        {"emit": Diffusion(), "act": Mask()},
        {"act": 0.4 * Mask() + 0.1 * Random() + 0.4 * Mask() + 0.1 * Random()},
    ],
    ids=str,
)
def test_another_policy_is_planned_and_emitted(settings):
    masking, batch = Masking(**settings).bind(WORDS), same_rows(range(5, 105), 4)
    masked, plan = masking.mask(batch, Clock(7)), masking.plan(batch, Clock(7))
    assert not in_one_pass(masked)
    assert_same(masked, masking.emit(plan))
    mixed = MixedMasking(((1.0, masking),))
    assert_same(mixed.mask(batch, Clock(7), side="left"), mixed.emit(mixed.plan(batch, Clock(7))))


def test_a_rearrangement_is_planned_and_emitted():
    masking = Masking(arrange=Rotate(), emit=Seq2Seq("original")).bind(WORDS)
    batch = same_rows(range(5, 105), 4)
    masked = masking.mask(batch)
    assert not in_one_pass(masked)
    assert_same(masked, masking.emit(masking.plan(batch)))


def refusals():
    bound, now = Masking().bind(WORDS), Clock(total_steps=10)
    batch = TokenBatch(Ragged.from_lists([SENTENCE, [5]]), np.arange(2))
    floats = TokenBatch(Ragged.from_lists([[5.0]], np.float64), np.arange(1))
    padless = Masking().bind(Vocabulary(10, mask_id=4))
    yield "too long", bound, batch, now, {"length": 4}, BatchError, "more than the length 4"
    yield "no padding", padless, batch, now, {}, VocabularyError, "no padding token"
    yield "floats", bound, floats, now, {}, BatchError, "must be integers"
    yield "not bound", Masking(), batch, now, {}, PolicyError, "knows no vocabulary"
    yield "no epoch", bound, batch, Clock(epoch=None), {}, PolicyError, "needs the epoch"
    above = replace(bound, rate=lambda progress: 1.5)
    yield "rate", above, batch, now, {}, PolicyError, "share from 0 to 1"
    for token, dtype in ((1000, np.uint16), (-1, np.int32), (-5, np.int8), (2**63 + 1, np.uint64)):
        outside = TokenBatch(Ragged.from_lists([SENTENCE, [5, token]], dtype), np.arange(2))
        yield f"id {token}", bound, outside, now, {}, BatchError, f"Token id {token} is outside"


@pytest.mark.parametrize(
    ("masking", "batch", "clock", "padding", "error", "match"),
    [pytest.param(*case[1:], id=case[0]) for case in refusals()],
)
def test_it_refuses_as_the_plan_and_its_emit_do(masking, batch, clock, padding, error, match):
    with pytest.raises(error, match=match) as ours:
        masking.mask(batch, clock, **padding)
    with pytest.raises(error) as theirs:
        mlm(masking.plan(batch, clock), **padding)
    assert str(ours.value) == str(theirs.value)


@pytest.mark.parametrize("token", [0, 999])
def test_the_edges_of_the_vocabulary_are_inside(token):
    masked = Masking().bind(WORDS).mask(same_rows([token], 3))
    assert in_one_pass(masked)


@pytest.mark.parametrize("first", [0, 1, 200])
def test_draws_of_a_word_are_those_of_the_kernel(first):
    from maskwright import randomness

    key, low, width = 123456789, 2**51, 2**52
    word = fused.hits(*(np.uint64(value) for value in (key, first, low, width)))
    draws = [randomness.draw(key, first + i) >> 11 for i in range(64)]
    assert [(int(word) >> i) & 1 for i in range(64)] == [low <= u < low + width for u in draws]


PROCESS = """
import numpy as np
from maskwright import Clock, Masking, Ragged, TokenBatch, Vocabulary
batch = TokenBatch(Ragged.from_lists([[5, 6, 7]]), np.arange(1))
Masking().bind(Vocabulary(10, mask_id=4)).mask(batch, Clock())
from maskwright.corruption.fused import mask_and_pad
assert sum(mask_and_pad.stats.cache_hits.values()) == 1, mask_and_pad.stats
assert not mask_and_pad.stats.cache_misses, mask_and_pad.stats
"""


def test_a_later_process_does_not_compile():
    batch = TokenBatch(Ragged.from_lists([[5, 6, 7]]), np.arange(1))
    Masking().bind(Vocabulary(10, mask_id=4)).mask(batch, Clock())
    subprocess.run([sys.executable, "-c", PROCESS], check=True)
