"""The rolling window: one tile of a sample is drawn anew, and nothing else changes."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maskwright import Clock, Mask, Masking, MaskPlan, Ragged, TokenBatch, mlm, schedule
from maskwright.corruption import (
    Above,
    Cautious,
    Decoder,
    Delete,
    Diffusion,
    Dynamic,
    MixedMasking,
    Prefix,
    RollingWindow,
    Rotate,
    SampledRate,
    Select,
    Sentinel,
    Seq2Seq,
    Spans,
    Static,
    Tokens,
    Weighted,
    WholeWords,
    reference_rolling,
)
from maskwright.corruption.coverage import coverage
from maskwright.corruption.device import mask_on_device
from maskwright.corruption.refresh import parse_refresh
from maskwright.corruption.words import mark_units
from maskwright.errors import BatchError, PolicyError, VocabularyError
from tests.corruption.rows import WORDS, by_row, same_rows, subset
from tests.corruption.scored_rows import scored
from tests.corruption.structure_rows import FEW
from tests.strategies import SEEDS, SHARES, acts, token_batches

SELECTS: dict[str, Select] = {
    "tokens": Tokens(),
    "words": WholeWords(),
    "above": Above(0.5),
    "weighted": Weighted(0.5, chance=0.2, hints=0.1),
    "cautious": Cautious(Weighted(chance=0.1), start_rate=0.2),
    "cautious above": Cautious(Above(0.3, "z") | Tokens().at(0.1)),
    "both": Tokens() & Tokens().at(0.7),
    "words too": (Tokens().at(0.1) | WholeWords()) - Tokens().at(0.2),
}
# a tile is a plan of its own in the reference: hundreds of them take their time
WIDTHS = st.sampled_from([7, 64, 100, 512])


@st.composite
def rolled(draw, names=tuple(SELECTS), *, min_rows: int = 0):
    """A policy with a rolling window, a batch with all it may ask for, and a moment."""
    batch = draw(token_batches(FEW, min_rows=min_rows))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = len(batch.tokens.values)
    scores = (rng.integers(0, draw(st.sampled_from([1, 9, 2**20])), size) / 8).astype(np.float32)
    scores[rng.random(size) < draw(st.sampled_from([0.0, 0.3, 1.0]))] = np.nan
    batch = replace(
        batch,
        scores=batch.tokens.like(scores),
        word_starts=batch.tokens.like((rng.random(size) < 0.4).astype(np.uint8)),
    )
    # more than 32 tokens without a beginning would be an error
    batch.word_starts.values[::16] = 1
    exact = draw(st.booleans())
    masking = Masking(
        select=SELECTS[draw(st.sampled_from(names))],
        rate=draw(SHARES),
        act=draw(acts()),
        refresh=RollingWindow(draw(WIDTHS)),
        exact=exact,
        at_least=draw(st.integers(0, 2)) if exact else 0,
        stream=draw(st.sampled_from([0, 3])),
    ).bind(FEW)
    return masking, batch, Clock(draw(SEEDS), draw(st.integers(0, 40)), None)


def goes_on(batch: TokenBatch) -> list[set[int]]:
    """The positions of tokens that go on with a word."""
    marks = batch.tokens.like(mark_units(batch, FEW, "words"))
    return [set(np.flatnonzero(row == 1).tolist()) for row in marks]


def tile_of_tokens(masking: Masking, batch: TokenBatch, epoch: int) -> np.ndarray:
    """Which tokens are in the tile that an epoch draws anew, ``(N,)`` bool."""
    words = goes_on(batch) if "words" in str(masking.select) else [()] * len(batch)
    inside = np.zeros(len(batch.tokens.values), bool)
    for row, length in enumerate(batch.tokens.lengths.tolist()):
        tiles = reference_rolling.tiles(0, length, masking.refresh.width, epoch, words[row])
        if tiles:
            begin, end, _ = tiles[epoch % len(tiles)]
            inside[batch.tokens.offsets[row] + begin : batch.tokens.offsets[row] + end] = True
    return inside


def decided(plan: MaskPlan) -> np.ndarray:
    """``(N, 2)``: the action at each token, 0 for none, and what stands there."""
    out = np.zeros((len(plan.batch.tokens.values), 2), np.int64)
    out[plan.positions, 0], out[plan.positions, 1] = plan.actions, plan.replacements
    return out


# -- what it does ----------------------------------------------------------------------------


def test_one_tile_after_another_literally():
    batch = same_rows(range(5, 15), 400)  # ten tokens: tiles of 4, 4 and 2
    masking = Masking(rate=0.5, refresh="window-4").bind(WORDS)
    drawn = [decided(masking.plan(batch, Clock(1, epoch)))[:, 0] > 0 for epoch in range(8)]
    for epoch in range(1, 8):
        changed = (drawn[epoch] != drawn[epoch - 1]).reshape(400, 10)
        turn = epoch % 3
        inside = np.arange(10) // 4 == turn
        assert not changed[:, ~inside].any()
        assert 0.4 < changed[:, inside].mean() < 0.6


def test_masks_of_a_seed_are_these_for_ever():
    masking = Masking(rate=0.4, act=Mask(), refresh="window-5").bind(WORDS)
    batch = TokenBatch(Ragged.from_lists([range(5, 19), [7, 8]]), np.array([12, 3]))
    found = [[[p for p, *_ in row] for row in by_row(masking.plan(batch, Clock(5, epoch)))]
             for epoch in range(4)]  # fmt: skip
    # tiles of 5, 5 and 4, in turn; and a sample of one tile
    assert found == [
        [[0, 6, 10, 12], []],
        [[0, 8, 10, 12], [1]],
        [[0, 8, 11], []],
        [[1, 4, 8, 11], [0]],
    ]


def test_a_sample_of_one_tile_is_drawn_anew_every_epoch():
    batch = same_rows(range(5, 205), 2)
    masking = Masking(refresh=RollingWindow(200)).bind(WORDS)
    drawn = [str(by_row(masking.plan(batch, Clock(0, epoch)))) for epoch in range(6)]
    assert len(set(drawn)) == 6


def test_tiles_and_samples_are_drawn_apart():
    batch = same_rows(np.tile(np.arange(5, 105), 4), 3)
    masks = decided(Masking(refresh="window-100").bind(WORDS).plan(batch))[:, 0].reshape(12, 100)
    assert len({row.tobytes() for row in masks}) == 12


def test_the_share_is_the_rate():
    batch = same_rows(range(5, 905), 60)
    for masking in (Masking(), Masking(exact=True)):
        masking = replace(masking, refresh=RollingWindow(70)).bind(WORDS)
        plans = [masking.plan(batch, Clock(0, epoch)) for epoch in (0, 5, 30)]
        for plan in plans:
            assert abs(len(plan.positions) / len(batch.tokens.values) - 0.15) < 0.01
            assert plan.rates.tolist() == [0.15] * 60


def test_every_token_is_selected_in_time():
    batch = same_rows(range(5, 69), 3)
    counts = coverage(Masking(rate=0.3, refresh="window-16").bind(WORDS), batch, 200)
    assert counts.values.min() > 0


# -- the law ---------------------------------------------------------------------------------


@given(rolled(), st.integers(0, 2**32 - 1))
def test_outside_the_window_nothing_changes_whatever_the_new_scores(drawn, seed):
    masking, batch, clock = drawn
    now = replace(clock, epoch=clock.epoch + 1)
    inside = tile_of_tokens(masking, batch, now.epoch)
    scores = batch.scores.values.copy()
    scores[inside] = np.random.default_rng(seed).random(inside.sum()).astype(np.float32)
    before = masking.plan(batch, clock)
    after = masking.plan(replace(batch, scores=batch.tokens.like(scores)), now)
    np.testing.assert_array_equal(decided(before)[~inside], decided(after)[~inside])


def test_the_law_can_fail():
    batch = scored(*[list(range(30))] * 20)
    masking = Masking(Weighted(), rate=0.5, refresh="window-10").bind(FEW)
    inside = tile_of_tokens(masking, batch, 1)
    other = replace(batch, scores=batch.tokens.like(batch.scores.values[::-1].copy()))
    before, after = (decided(masking.plan(b, Clock(0, 1))) for b in (batch, other))
    assert (before[~inside] != after[~inside]).any()  # scores of a kept tile were changed
    plain = replace(masking, refresh=Dynamic())
    before, after = (decided(plain.plan(batch, Clock(0, epoch))) for epoch in (0, 1))
    assert (before[~inside] != after[~inside]).any()


@given(rolled())
def test_it_is_its_reference(drawn):
    masking, batch, clock = drawn
    words = goes_on(batch) if "words" in str(masking.select) else ()
    assert by_row(masking.plan(batch, clock)) == reference_rolling.plan(
        masking, batch, clock, words
    )


@pytest.mark.parametrize("width", [1, 2, 3])
def test_narrow_tiles_are_their_reference(width):
    batch = scored(list(range(9)), [], [3], [2, 1])
    for select in (Tokens(), Weighted(), Cautious(Above(0.5))):
        masking = Masking(select, rate=0.5, refresh=RollingWindow(width)).bind(FEW)
        for epoch in range(11):
            clock = Clock(9, epoch)
            assert by_row(masking.plan(batch, clock)) == reference_rolling.plan(
                masking, batch, clock
            )


@given(rolled(min_rows=1), st.data())
def test_any_batch_of_the_same_samples(drawn, data):
    masking, batch, clock = drawn
    rows = data.draw(st.lists(st.integers(0, len(batch) - 1), max_size=6))
    part = replace(subset(batch, rows), word_starts=batch.word_starts.take(rows))
    whole = by_row(masking.plan(batch, clock))
    assert by_row(masking.plan(part, clock)) == [whole[row] for row in rows]


@given(
    rolled(["tokens"]), st.sampled_from(["left", "right"]), st.sampled_from([1, 8]), st.booleans()
)
def test_in_one_pass_it_is_the_plan_and_its_emit(drawn, side, multiple, labelled):
    masking, batch, clock = drawn
    masking = replace(masking, exact=False, at_least=0)
    if labelled:
        batch = replace(batch, labels=batch.tokens.like(batch.tokens.values[::-1].astype(np.int64)))
    wanted = mlm(masking.plan(batch, clock), side=side, multiple=multiple)
    masked = masking.mask(batch, clock, side=side, multiple=multiple)
    assert isinstance(masked.planned, MaskPlan) == (not masking._elementwise or not len(batch))
    for name, tensor in wanted.tensors.items():
        assert torch.equal(masked.tensors[name], tensor), name
    np.testing.assert_array_equal(decided(masked.plan), decided(masking.plan(batch, clock)))


# -- budgets, words, scores ------------------------------------------------------------------


@given(rolled(["tokens"]))
def test_an_exact_budget_is_that_of_a_tile(drawn):
    masking, batch, clock = drawn
    masking = replace(masking, exact=True, at_least=1)
    plan = masking.plan(batch, clock)
    chosen = plan.selected
    for row, length in enumerate(batch.tokens.lengths.tolist()):
        for begin, end, _ in reference_rolling.tiles(0, length, masking.refresh.width, 0):
            allowed = FEW.maskable[batch.tokens[row][begin:end]]
            if batch.protected is not None:
                allowed &= batch.protected[row][begin:end] == 0
            many, share = allowed.sum(), masking.rate * allowed.sum()
            least, most = (max(n, min(1, many)) for n in (np.floor(share), np.ceil(share)))
            assert least <= chosen[row][begin:end].sum() <= most


def test_a_word_belongs_to_the_tile_of_its_first_token():
    tokens = Ragged.from_lists([[6, 6, 6, 6, 6, 6, 6, 6]] * 300)
    starts = tokens.like(np.tile([1, 0, 1, 0, 0, 0, 1, 1], 300).astype(np.uint8))
    batch = TokenBatch(tokens, np.arange(300), word_starts=starts)
    masking = Masking(WholeWords(), rate=0.5, refresh="window-4").bind(FEW)
    drawn = [decided(masking.plan(batch, Clock(0, e)))[:, 0].reshape(300, 8) for e in range(3)]
    for chosen in drawn:
        picked = chosen > 0
        assert (picked[:, 0] == picked[:, 1]).all()
        assert (picked[:, 2:6].sum(axis=1) % 4 == 0).all()  # over the edge at 4, and whole
    changed = [(a != b).any(axis=0).tolist() for a, b in pairwise(drawn)]
    assert changed == [[False] * 6 + [True] * 2, [True] * 6 + [False] * 2]


def test_words_longer_than_a_tile():
    tokens = Ragged.from_lists([[6] * 20])
    starts = tokens.like(np.array([1] + [0] * 15 + [1] + [0] * 3, np.uint8))
    batch = TokenBatch(tokens, np.array([0]), word_starts=starts)
    masking = Masking(WholeWords(), rate=0.5, refresh="window-3").bind(FEW)
    sizes = {len(masking.plan(batch, Clock(0, epoch)).positions) for epoch in range(60)}
    assert sizes == {0, 4, 16, 20}


def test_words_that_nobody_marked_are_an_error_of_the_sample():
    tokens = Ragged.from_lists([[6] * 100])
    batch = TokenBatch(tokens, np.array([77]), word_starts=tokens.like(np.zeros(100, np.uint8)))
    with pytest.raises(VocabularyError, match="Sample 77 has 100 tokens and no beginning"):
        Masking(WholeWords(), refresh="window-10").bind(FEW).plan(batch)


def test_scores_are_compared_within_a_tile():
    batch = scored([1, 2, 3, 4, 50, 60, 70, 80])
    masking = Masking(Weighted(0), rate=0.5, act=Mask(), refresh="window-4").bind(FEW)
    assert [p for p, *_ in by_row(masking.plan(batch))[0]] == [2, 3, 6, 7]
    ranks = replace(masking, select=Above(0.6), rate=1.0)
    assert [p for p, *_ in by_row(ranks.plan(batch))[0]] == [2, 3, 6, 7]


def test_an_error_names_the_sample():
    batch = replace(scored([1, 2, 3], [1, 2, -3]), sample_ids=np.array([40, 41]))
    with pytest.raises(BatchError, match="sample 41 has scores from -3 to 2"):
        Masking(Weighted(), refresh="window-2").bind(FEW).plan(batch)
    with pytest.raises(BatchError, match="the batch has none"):
        Masking(Weighted(), refresh="window-2").bind(FEW).plan(replace(batch, scores=None))


# -- names, files, and what it refuses -------------------------------------------------------


def test_its_name_comes_back(tmp_path):
    assert parse_refresh("window-512") == RollingWindow(512)
    assert str(RollingWindow(512)) == "window-512"
    plan = Masking(refresh="window-3").bind(WORDS).plan(same_rows(range(5, 25), 2), Clock(0, 4))
    assert "window-3 at epoch 4" in repr(plan)
    loaded = MaskPlan.load(plan.save(tmp_path / "plan.npz"))
    assert loaded.masking.refresh == "window-3"
    np.testing.assert_array_equal(decided(loaded), decided(plan))
    assert str(plan.show()) == str(loaded.show())


def test_it_asks_for_the_epoch_only():
    batch = same_rows(range(5, 205), 2)
    masking = Masking(refresh="window-20").bind(WORDS)
    with pytest.raises(PolicyError, match="window-20 needs the epoch"):
        masking.plan(batch, Clock(epoch=None))
    with pytest.raises(PolicyError, match="window-20 needs the epoch"):
        masking.mask(batch, Clock(epoch=None))
    one, two = (by_row(masking.plan(batch, Clock(0, 3, step))) for step in (None, 99))
    assert one == two


@pytest.mark.parametrize("width", [0, -1, 2.5, True])
def test_a_width_that_is_none(width):
    with pytest.raises(PolicyError, match="at least 1"):
        RollingWindow(width)


LINEAR = schedule.Linear(0.3, 0.15)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"select": Spans()}, r"may look at all of it.*Weighted and Cautious"),
        ({"select": Tokens() - Prefix()}, "prefix may look at all of it"),
        ({"select": Cautious(Spans())}, "spans .* may look at all"),
        ({"select": WholeWords() & Above(0.5)}, "goes by both"),
        ({"rate": LINEAR}, r"rate=Linear.* of the policy changes from step to step"),
        ({"select": Tokens().at(LINEAR)}, "rate=Linear.* of At changes"),
        ({"select": Above(LINEAR)}, "threshold=Linear.* of Above changes"),
        ({"select": Cautious(Above(0.5), LINEAR)}, "start_rate=Linear.* of Cautious changes"),
        ({"select": Cautious(Above(0.5), warmup=0.1)}, r"Cautious\(warmup=0.1\)"),
        ({"rate": SampledRate()}, "is one rate for all of it"),
        ({"act": Delete(), "emit": Seq2Seq("original")}, "delete moves them"),
        ({"act": Sentinel(), "emit": Seq2Seq("spans")}, "sentinel moves them"),
        ({"arrange": Rotate(), "emit": Seq2Seq("original")}, "rotated moves them"),
    ],
)
def test_what_would_not_keep_its_tiles(settings, message):
    Masking(**settings)  # without a window it is a policy
    with pytest.raises(PolicyError, match=message):
        Masking(**settings, refresh="window-64")


def test_a_select_of_somebody_else():
    class Mine(Tokens):
        pass

    with pytest.raises(PolicyError, match="may look at all of it"):
        Masking(Mine(), refresh="window-64")


def test_constants_and_other_emits_are_fine():
    batch = same_rows(range(5, 25), 2)
    for settings in (
        {"rate": schedule.Constant(0.3)},
        {"emit": Decoder("selected")},
        {"act": Mask(), "emit": Diffusion()},
    ):
        masking = Masking(**settings, refresh="window-8").bind(WORDS)
        assert masking.mask(batch).plan.positions.tolist() == masking.plan(batch).positions.tolist()


def test_where_no_tiles_are_cut():
    rolling = Masking(refresh="window-8").bind(WORDS)
    with pytest.raises(PolicyError, match="tiles of window-8 are cut by the CPU only"):
        mask_on_device(torch.full((1, 4), 6), torch.zeros(1, dtype=torch.int64), rolling)
    with pytest.raises(PolicyError, match='refresh="window-8" draws it tile by tile'):
        MixedMasking(((1.0, rolling),))
    with pytest.raises(PolicyError, match='refresh="window-8" draws it tile by tile'):
        MixedMasking(((1.0, Masking(refresh=Static())),), refresh="window-8")
