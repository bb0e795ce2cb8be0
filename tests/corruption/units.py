"""Selections row by row, and what holds for every select of units."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from maskwright import Clock, Masking, Ragged, TokenBatch, Vocabulary
from maskwright.corruption.select import Select
from maskwright.corruption.selection import Draw, Selection, eligible
from tests.strategies import token_batches, vocabularies

FALSE_ALARM = 1e-6


def batch_of(rows, starts=None, *, protected=None, first_id=0) -> TokenBatch:
    tokens = Ragged.from_lists(rows)

    def column(lists):
        return None if lists is None else tokens.like(Ragged.from_lists(lists, np.uint8).values)

    ids = np.arange(first_id, first_id + len(rows))
    return TokenBatch(tokens, ids, column(starts), column(protected))


def draw_of(batch, rate=0.15, *, exact=False, at_least=0, refresh="static", seed=0, epoch=0):
    masking = Masking(rate=rate, exact=exact, at_least=at_least, refresh=refresh)
    return masking.draw(batch, Clock(seed, epoch))


def parts_of(selection: Selection, batch: TokenBatch) -> list[list[list[int]]]:
    """For each sample, its units; for each unit, its places in the sample."""
    tokens = batch.tokens
    rows, places = tokens.rows[selection.positions], tokens.positions[selection.positions]
    units = np.arange(len(rows)) if selection.units is None else selection.units
    out: list[list[list[int]]] = [[] for _ in range(len(tokens))]
    before = (-1, -1)
    for row, place, unit in zip(rows.tolist(), places.tolist(), units.tolist(), strict=True):
        if (row, unit) != before:
            out[row].append([])
        before = row, unit
        out[row][-1].append(place)
    return out


def inserts_of(selection: Selection, batch: TokenBatch) -> list[list[int]]:
    inserts = np.empty(0, np.int64) if selection.inserts is None else selection.inserts
    rows = np.searchsorted(batch.tokens.offsets, inserts, side="right") - 1
    places = inserts - batch.tokens.offsets[rows]
    return [places[rows == row].tolist() for row in range(len(batch))]


def allowed_of(batch: TokenBatch, vocabulary: Vocabulary) -> list[list[bool]]:
    return batch.tokens.like(eligible(batch, vocabulary)).to_lists()


@st.composite
def cases(draw: st.DrawFn, *, refreshes=("static", "dynamic")):
    """Vocabulary, batch with word starts, draw. The first token of a row is flagged: long rows
    without a flag are refused, which has its own test."""
    vocabulary = draw(vocabularies())
    batch = draw(token_batches(vocabulary))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    share = draw(st.sampled_from([0.1, 0.5, 0.9]))
    flags = (rng.random(len(batch.tokens.values)) < share).astype(np.uint8)
    first = batch.tokens.offsets[:-1][batch.tokens.lengths > 0]
    flags[first] = 1
    batch = replace(batch, word_starts=batch.tokens.like(flags))
    exact = draw(st.booleans())
    refresh = draw(st.sampled_from(refreshes))
    rate = draw(st.sampled_from([0.0, 0.15, 0.3, 0.5, 0.9, 1.0]))
    if refresh.startswith("coverage"):
        rate = float(refresh.split("-")[1])
    how = draw_of(
        batch,
        rate,
        exact=exact,
        at_least=draw(st.integers(0, 2)) if exact else 0,
        refresh=refresh,
        seed=draw(st.integers(0, 2**64 - 1)),
        epoch=draw(st.integers(0, 12)),
    )
    return vocabulary, batch, how


def alone(batch: TokenBatch, row: int) -> TokenBatch:
    def column(ragged):
        return None if ragged is None else ragged.take([row])

    return TokenBatch(
        batch.tokens.take([row]),
        batch.sample_ids[[row]],
        column(batch.word_starts),
        column(batch.protected),
    )


def check_contract(select: Select, vocabulary: Vocabulary, batch: TokenBatch, draw: Draw) -> None:
    """Rising eligible positions; units that neither fall nor leave a run; nothing changed; and
    each sample on its own gives the same."""
    before = batch.tokens.values.copy()
    chosen = select(batch, vocabulary, draw)
    np.testing.assert_array_equal(batch.tokens.values, before)
    assert (np.diff(chosen.positions) > 0).all()
    assert eligible(batch, vocabulary)[chosen.positions].all()
    if chosen.units is not None:
        steps = np.diff(chosen.units)
        assert np.isin(steps, (0, 1)).all()
        inside = steps == 0
        assert (np.diff(chosen.positions)[inside] == 1).all()
        rows = batch.tokens.rows[chosen.positions]
        assert (np.diff(rows)[inside] == 0).all()
    if chosen.inserts is not None:
        assert (np.diff(chosen.inserts) >= 0).all()
        assert eligible(batch, vocabulary)[chosen.inserts].all()
    whole, places = parts_of(chosen, batch), inserts_of(chosen, batch)
    for row in range(len(batch)):
        one = alone(batch, row)
        how = replace(draw, low=draw.low[[row]], high=draw.high[[row]])
        again = select(one, vocabulary, how)
        assert parts_of(again, one) == [whole[row]]
        assert inserts_of(again, one) == [places[row]]
