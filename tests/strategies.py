"""Hypothesis strategies for what maskwright takes: batches, vocabularies, policies, moments.

Values of a batch come from a local generator with a drawn seed, so that rows of hundreds of tokens
cost Hypothesis two numbers each; what shrinks are the lengths and the kinds of rows.
"""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from maskwright import (
    Clock,
    Dynamic,
    EverySteps,
    Keep,
    Mask,
    Masking,
    Ragged,
    Random,
    Rotating,
    Static,
    TokenBatch,
    Vocabulary,
    schedule,
)

TOKEN_DTYPES = (np.uint16, np.int32, np.int64)
SEEDS = st.integers(-(2**63), 2**64 - 1)
SHARES = st.sampled_from([0.0, 1.0, 0.15, 0.5, 1e-12]) | st.floats(0, 1)
# The kernels work in blocks of 64 and of 256: lengths on both sides of one, and of two.
LENGTHS = st.integers(0, 24) | st.sampled_from([0, 1, 63, 64, 65, 255, 256, 257, 513])


@st.composite
def rows_of_ints(draw: st.DrawFn, *, low: int = 0, high: int = 1000) -> list[list[int]]:
    """A small batch of integer lists; an empty batch and empty rows among them."""
    row = st.lists(st.integers(low, high), max_size=8)
    return draw(st.lists(row, max_size=6))


@st.composite
def vocabularies(draw: st.DrawFn) -> Vocabulary:
    """Between 6 and 60 ids with a mask token and at least one id to draw."""
    size = draw(st.integers(6, 60))
    roles = draw(st.permutations(range(size)))
    specials = draw(st.integers(2, min(8, size - 1)))
    unused = draw(st.integers(0, min(5, size - specials - 1)))
    return Vocabulary(
        size=size,
        mask_id=roles[0],
        pad_id=draw(st.sampled_from([None, roles[1]])),
        special_ids=tuple(roles[1:specials]),
        unused_ids=tuple(roles[specials : specials + unused]),
    )


@st.composite
def token_batches(
    draw: st.DrawFn, vocabulary: Vocabulary, *, dtype: object = None, min_rows: int = 0
) -> TokenBatch:
    """Rows of any length, some of special tokens only, some with protected positions."""
    lengths = draw(st.lists(LENGTHS, min_size=min_rows, max_size=5))
    chosen = np.dtype(draw(st.sampled_from(TOKEN_DTYPES)) if dtype is None else dtype)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows = []
    for length in lengths:
        all_special = draw(st.integers(0, 5)) == 0
        ids = vocabulary.special_ids if all_special else np.arange(vocabulary.size)
        rows.append(rng.choice(np.asarray(ids), length))
    tokens = Ragged.from_lists(rows, chosen)
    protected = None
    if draw(st.booleans()):
        protected = tokens.like((rng.random(len(tokens.values)) < 0.3).astype(np.uint8))
    ids = st.integers(0, 40) | st.integers(0, 2**63 - 1)
    sample_ids = draw(st.lists(ids, min_size=len(rows), max_size=len(rows)))
    return TokenBatch(tokens, np.array(sample_ids, np.int64), protected=protected)


@st.composite
def acts(draw: st.DrawFn):
    """A single act, or a mixture of one to five whose shares sum to 1; a share may be 0."""
    one = st.sampled_from([Mask(), Random(), Keep()])
    if draw(st.booleans()):
        return draw(one)
    weights = draw(st.lists(st.integers(0, 10), min_size=1, max_size=5).filter(any))
    total = sum(weights)
    mixture = (weights[0] / total) * draw(one)
    for weight in weights[1:]:
        mixture = mixture + (weight / total) * draw(one)
    return mixture


def schedules() -> st.SearchStrategy[schedule.Schedule]:
    """Every kind of schedule with values from 0 to 1."""
    value = st.floats(0, 1)
    inside = st.floats(0.01, 0.99)
    return st.one_of(
        st.builds(schedule.Constant, value),
        st.builds(schedule.Linear, value, value),
        st.builds(schedule.Cosine, value, value),
        st.builds(
            lambda values, boundary: schedule.Step(tuple(values), (boundary,)),
            st.lists(value, min_size=2, max_size=2),
            inside,
        ),
        st.builds(
            lambda start, peak, end, cut, part: schedule.WarmupHoldDecay(
                start, peak, end, warmup=cut * part, decay=(1 - cut) * part
            ),
            value, value, value, st.floats(0, 1), inside,
        ),
    )  # fmt: skip


def refreshes() -> st.SearchStrategy[object]:
    return st.one_of(
        st.just(Static()),
        st.just(Dynamic()),
        st.builds(Rotating, st.integers(1, 12)),
        st.builds(EverySteps, st.integers(1, 2000)),
    )


def clocks() -> st.SearchStrategy[Clock]:
    """A moment that knows everything."""
    return st.builds(
        Clock, SEEDS, st.integers(0, 100), st.integers(0, 10_000), st.integers(1, 10_000)
    )


@st.composite
def maskings(draw: st.DrawFn, vocabulary: Vocabulary) -> Masking:
    """A policy with any setting of every field, bound."""
    exact = draw(st.booleans())
    return Masking(
        rate=draw(SHARES | schedules()),
        act=draw(acts()),
        refresh=draw(refreshes()),
        exact=exact,
        at_least=draw(st.integers(0, 3)) if exact else 0,
        stream=draw(st.sampled_from([0, 1, 77])),
    ).bind(vocabulary)


@st.composite
def draws_of_masks(draw: st.DrawFn, *, min_rows: int = 0) -> tuple[Masking, TokenBatch, Clock]:
    """All that a plan depends on."""
    vocabulary = draw(vocabularies())
    return (
        draw(maskings(vocabulary)),
        draw(token_batches(vocabulary, min_rows=min_rows)),
        draw(clocks()),
    )
