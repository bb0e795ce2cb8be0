"""A mixture of policies: who draws which part, and that a part does what it does alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwright import Clock, Mask, Masking, Ragged, Random, TokenBatch
from maskwright.corruption import Infill, Sentinel, Tokens, reference_emit
from maskwright.corruption.emit import Mlm, Seq2Seq
from maskwright.corruption.mixture import MixedMasking
from maskwright.errors import PolicyError, VocabularyError
from tests.corruption.emit.plans import T5, Any, Backwards, batches
from tests.corruption.rows import WORDS, same_rows, subset

FEW = Masking(rate=0.2)
MANY = Masking(rate=0.8, act=Mask(), exact=True)
SPANS = Masking(Any(), rate=0.4, act=Mask())
UL2 = MixedMasking(
    (
        (1, Masking(Any(), rate=0.3, act=Sentinel(), emit=Seq2Seq("spans"))),
        (1, Masking(rate=0.6, act=Sentinel(), emit=Seq2Seq("spans"))),
        (2, Masking(Any(form="end"), act=Sentinel(), emit=Seq2Seq("spans"))),
    ),
    prefix_ids=(90, 91, 92),
)
BART = MixedMasking(
    (
        (0.3, Masking(Any(empties=True), rate=0.3, act=Infill(), emit=Seq2Seq())),
        (0.7, Masking(arrange=Backwards(), emit=Seq2Seq())),
    )
)
CLOCKS = st.builds(Clock, st.integers(0, 2**63), st.integers(0, 5), st.integers(0, 5000))


def sample(plan, row):
    """All that a plan says of one sample, with places counted in it."""
    start, stop = plan.batch.tokens.offsets[row : row + 2]
    own = (plan.positions >= start) & (plan.positions < stop)
    put = (plan.inserts >= start) & (plan.inserts < stop)
    order = np.arange(start, stop) if plan.order is None else plan.order[start:stop]
    return (
        (plan.positions[own] - start).tolist(),
        plan.actions[own].tolist(),
        plan.replacements[own].tolist(),
        reference_emit.units_of(plan, row),
        (plan.inserts[put] - start).tolist(),
        plan.inserted[put].tolist(),
        (order - start).tolist(),
        float(plan.rates[row]),
    )


@settings(max_examples=60)
@given(
    mixture=st.sampled_from(
        [MixedMasking(((1, FEW), (2, MANY), (1, SPANS))), replace(UL2, prefix_ids=()), BART]
    ),
    batch=batches(),
    clock=CLOCKS,
)
def test_a_sample_is_what_its_part_alone_would_give(mixture, batch, clock):
    mixture = mixture.bind(T5)
    plan, chosen = mixture.plan(batch, clock), mixture.choose(batch, clock)
    assert plan.masking is mixture
    assert plan.batch is batch
    assert (np.diff(plan.positions) > 0).all()
    assert (np.diff(plan.inserts) >= 0).all()
    if plan.units is not None:
        assert (np.diff(plan.units) >= 0).all()
    for row, number in enumerate(chosen.tolist()):
        part = mixture.parts[number][1]
        alone = part.plan(subset(batch, [row]), clock)
        assert sample(plan, row) == sample(alone, 0)
        assert number == reference_emit.choose(mixture, int(batch.sample_ids[row]), clock)
    emitted = mixture.emit(plan)
    for row, number in enumerate(chosen.tolist()):
        part = mixture.parts[number][1]
        labels = None if batch.labels is None else batch.labels.take([row])
        alone = part.emit(part.plan(replace(subset(batch, [row]), labels=labels), clock))
        size, wide = alone.input_ids.shape[1], alone.labels.shape[1]
        assert emitted.input_ids[row, :size].equal(alone.input_ids[0])
        assert emitted.labels[row, :wide].equal(alone.labels[0])


def test_every_column_of_a_batch_reaches_the_parts():
    """A select that reads word starts sees those of its own samples."""

    class Starts(Tokens):
        def __call__(self, batch, vocabulary, draw):
            assert batch.word_starts is not None
            return replace(super().__call__(batch, vocabulary, draw),
                           positions=np.flatnonzero(batch.word_starts.values))  # fmt: skip

    tokens = Ragged.from_lists([[5, 6], [7, 8, 9]] * 8)
    starts = Ragged.from_lists([[1, 0], [0, 1, 1]] * 8)
    mixture = MixedMasking(((1, Masking(Starts())), (1, Masking(Starts())))).bind(WORDS)
    plan = mixture.plan(TokenBatch(tokens, np.arange(16), word_starts=starts))
    assert plan.positions.tolist() == np.flatnonzero(starts.values).tolist()


def test_weights_are_shares():
    """40,000 samples, weights 1 : 2 : 5. Five and a half standard errors are exceeded with a
    probability below 4e-8 for each part."""
    many = 40_000
    mixture = MixedMasking(((1, FEW), (2, MANY), (5, SPANS))).bind(WORDS)
    counts = np.bincount(mixture.choose(same_rows([5], many), Clock(seed=3)), minlength=3)
    for count, share in zip(counts, (1 / 8, 2 / 8, 5 / 8), strict=True):
        assert abs(count / many - share) < 5.5 * (share * (1 - share) / many) ** 0.5


def test_parts_are_drawn_again_by_the_mixtures_own_refresh():
    batch = same_rows([5, 6, 7], 200)
    parts = ((1, replace(FEW, refresh="dynamic")), (1, replace(MANY, refresh="static")))
    clocks = [Clock(epoch=epoch) for epoch in (0, 1, 2)]

    def choices(refresh):
        mixture = MixedMasking(parts, refresh=refresh).bind(WORDS)
        return [mixture.choose(batch, clock).tolist() for clock in clocks]

    static, dynamic, rotating = (choices(r) for r in ("static", "dynamic", "rotating-2"))
    assert static[0] == static[1] == static[2]
    assert dynamic[0] == static[0] != dynamic[1] != dynamic[2]
    assert rotating[0] == rotating[2] != rotating[1]


def test_streams_and_seeds_choose_apart():
    batch = same_rows([5, 6, 7], 200)
    mixture = MixedMasking(((1, FEW), (1, MANY))).bind(WORDS)
    first = mixture.choose(batch, Clock()).tolist()
    assert first != replace(mixture, stream=1).choose(batch, Clock()).tolist()
    assert first != mixture.choose(batch, Clock(seed=1)).tolist()


def test_the_choice_is_independent_of_the_masks_of_its_parts():
    """Of 4,000 samples of one token, the part that was drawn says nothing of the token's draw.

    Both parts mask at 0.5: the shares of masked samples in the two halves differ by more than 5.5
    standard errors (0.0158 each) with a probability below 4e-8.
    """
    batch = same_rows([5], 4000)
    part = Masking(rate=0.5)
    mixture = MixedMasking(((1, part), (1, part))).bind(WORDS)
    masked = mixture.plan(batch).selected.values == 1
    chosen = mixture.choose(batch)
    difference = masked[chosen == 0].mean() - masked[chosen == 1].mean()
    assert abs(difference) < 5.5 * 0.0158


def test_prefixes_say_which_part_it_is():
    rows = [[10, 11, 12, 13, 1]] * 30 + [[]]
    batch = TokenBatch(Ragged.from_lists(rows), np.arange(31))
    mixture = UL2.bind(T5)
    plan, chosen = mixture.plan(batch), mixture.choose(batch)
    masked = mixture.emit(plan)
    bare = replace(mixture, prefix_ids=())
    without = bare.emit(bare.plan(batch))
    assert set(chosen[:30].tolist()) == {0, 1, 2}
    assert masked.input_ids[:30, 0].tolist() == [90 + number for number in chosen[:30].tolist()]
    assert masked.input_ids[:30, 1:].equal(without.input_ids[:30])
    assert masked.labels.equal(without.labels)
    assert masked.origin[:30, 0].tolist() == [-1] * 30
    assert masked.attention_mask[30].sum() == 0


def test_a_prefix_comes_before_what_is_read_first():
    part = Masking(rate=0.0, arrange=Backwards(), emit=Seq2Seq())
    mixture = MixedMasking(((1, part),), prefix_ids=(90,)).bind(T5)
    batch = TokenBatch(Ragged.from_lists([[10, 11, 12], [13]]), np.arange(2))
    masked = mixture.emit(mixture.plan(batch))
    assert masked.input_ids.tolist() == [[90, 12, 11, 10], [90, 13, 0, 0]]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MixedMasking(()), "at least one"),
        (lambda: MixedMasking(((0, FEW),)), "above 0"),
        (lambda: MixedMasking(((-1, FEW),)), "above 0"),
        (lambda: MixedMasking(((float("nan"), FEW),)), "above 0"),
        (lambda: MixedMasking(((1, MixedMasking(((1, FEW),))),)), "must be a Masking"),
        (lambda: MixedMasking(((1, FEW), (1, replace(FEW, emit=Seq2Seq())))), "share their emit"),
        (lambda: MixedMasking(((1, FEW.bind(WORDS)), (1, MANY.bind(T5)))), "vocabular"),
        (lambda: MixedMasking(((1, FEW),), prefix_ids=(5,)), r"emit=Seq2Seq"),
        (lambda: replace(UL2, prefix_ids=(90, 91)), "each of the 3 parts, got 2"),
        (lambda: replace(UL2, prefix_ids=(90, 91, 140)).bind(T5), "got 140"),
        (lambda: replace(UL2, prefix_ids=(90, 91, 4)).bind(T5), "got 4"),
        (lambda: MixedMasking(((1, FEW),)).plan(same_rows([5], 1)), "knows no vocabulary"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(PolicyError, match=message):
        make()


def test_binding_asks_every_part_for_what_it_writes():
    with pytest.raises(VocabularyError, match="no sentinels"):
        UL2.bind(WORDS)


def test_the_interface_of_a_policy():
    mixture = MixedMasking(((1, FEW), (3, replace(MANY, act=Random()))), refresh="static")
    assert mixture.emit == Mlm()
    assert mixture.arrange is None
    assert [round(share, 3) for share, _ in mixture.act.parts] == [0.2, 0.025, 0.025, 0.75]
    assert mixture.vocabulary is None
    assert mixture.bind(WORDS).bound is WORDS
    assert isinstance(BART.arrange, Backwards)
    assert repr(mixture).startswith("MixedMasking(0.25 Masking(")
    assert "static" in repr(mixture)
