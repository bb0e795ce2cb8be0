"""Sentences, the beginning and the end of a sample."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from maskwright import Masking
from maskwright.corruption import SampledRate
from maskwright.corruption import reference_structure as reference
from maskwright.corruption.coverage import coverage
from maskwright.corruption.selection import budgets, eligible
from maskwright.corruption.structure import Prefix, Sentences, Suffix, sentence_ends
from maskwright.errors import PolicyError, VocabularyError
from tests.core import tokenizers
from tests.corruption.structure_rows import (
    ENDS,
    FEW,
    agrees,
    batch_of,
    draw_of,
    drawn_batches,
    elastic,
    select,
)

FALSE_ALARM = 1e-6
SELECTS = [Sentences(ENDS), Prefix(), Suffix()]


@given(drawn_batches())
def test_sentences_are_their_reference(drawn):
    agrees(Sentences(ENDS), *drawn, reference.sentences, ENDS)


@pytest.mark.parametrize("one, last", [(Prefix(), False), (Suffix(), True)])
@given(drawn=drawn_batches())
def test_edges_are_their_reference(one, last, drawn):
    agrees(one, *drawn, reference.edge, last)


def test_sentences_literally():
    #                  [ first  ] [ second ] [third    ] after the special
    batch = batch_of([1, 6, 7, 4, 8, 5, 4, 6, 2, 7, 7], [], [4], [1, 2])
    got = select(Sentences(ENDS), batch, draw_of(batch, 1.0))
    assert got == [[[1, 2, 3], [4, 5, 6], [7], [9, 10]], [], [[0]], []]


def test_a_protected_token_cuts_what_is_selected_but_not_the_draw():
    rows = [[6, 7, 8, 9, 4]] * 400
    batch = batch_of(*rows, protected=[[0, 0, 1, 0, 0]] * 400)
    got = select(Sentences(ENDS), batch, draw_of(batch, 0.5))
    assert {tuple(map(tuple, units)) for units in got} == {(), ((0, 1), (3, 4))}


def test_sentences_are_drawn_with_the_rate():
    batch = batch_of(*[[6, 7, 4, 8, 4]] * 5000)
    got = select(Sentences(ENDS), batch, draw_of(batch, 0.3))
    seen = [sum(unit in units for units in got) for unit in ([0, 1, 2], [3, 4])]
    for count in seen:
        assert stats.binomtest(count, 5000, 0.3).pvalue > FALSE_ALARM


@given(drawn_batches())
def test_an_exact_budget_is_never_exceeded_and_what_fits_is_taken(drawn):
    batch, draw = drawn
    draw = draw_of(batch, draw.high, exact=True, key=draw.run_key)
    allowed = eligible(batch, FEW)
    wanted = budgets(draw, batch, allowed)
    every = select(Sentences(ENDS), batch, draw_of(batch, 1.0))
    for units, budget, sentences in zip(
        select(Sentences(ENDS), batch, draw), wanted, every, strict=True
    ):
        taken = sum(map(len, units))
        assert taken <= budget
        if batch.protected is None:
            left = [len(unit) for unit in sentences if unit not in units]
            assert not left or min(left) > budget - taken


def test_one_sentence_where_a_token_is_asked_for_and_none_fits():
    batch = batch_of([6, 7, 8, 4, 9, 9, 4])
    assert select(Sentences(ENDS), batch, draw_of(batch, 0.01, exact=True)) == [[]]
    (units,) = select(Sentences(ENDS), batch, draw_of(batch, 0.01, exact=True, at_least=1))
    assert units in ([[0, 1, 2, 3]], [[4, 5, 6]])


@given(drawn_batches(), st.sampled_from([0.0, 0.2, 0.4, 0.8]))
def test_a_turn_of_sentences_is_its_reference(drawn, low):
    batch, draw = drawn
    lows = np.full(len(batch), low)
    draw = replace(draw, low=lows, high=np.minimum(1.0, lows + draw.high), covering=True)
    agrees(Sentences(ENDS), batch, draw, reference.sentences, ENDS)


@pytest.mark.parametrize("exact, at_least", [(False, 0), (True, 0), (True, 3)])
def test_each_sentence_has_its_turn(exact, at_least):
    batch = batch_of([6, 7, 4, 8, 5, 4, 6, 9], [6, 4] * 20, [6], [])
    masking = Masking(
        Sentences(ENDS), rate=0.3, refresh="coverage-0.3", exact=exact, at_least=at_least
    ).bind(FEW)
    assert (coverage(masking, batch, 4).values == 1).all()
    assert not (coverage(masking, batch, 3).values == 1).all()


@pytest.mark.parametrize("one", [Prefix(), Suffix()])
def test_edges_refuse_a_second_turn(one):
    batch = batch_of([6, 7])
    with pytest.raises(PolicyError, match=f"{one} cannot go through"):
        one(batch, FEW, draw_of(batch, 0.6, low=0.3))


def test_edges_literally():
    batch = batch_of([1, 6, 7, 2, 8, 9], [6], protected=[[0, 0, 0, 0, 1, 0], [1]])
    draw = draw_of(batch, 1.0)
    assert select(Prefix(), batch, draw) == select(Suffix(), batch, draw) == [[[1, 2], [5]], []]
    batch = batch_of([1, 6, 7, 8, 9, 2])
    assert select(Prefix(), batch, draw_of(batch, 0.5)) == [[[1, 2]]]
    assert select(Suffix(), batch, draw_of(batch, 0.5)) == [[[3, 4]]]


def test_a_suffix_of_sampled_rate_has_every_length():
    batch = batch_of(*[[6] * 5] * 4000)
    plan = Masking(Suffix(), rate=SampledRate()).bind(FEW).plan(batch)
    flags = plan.selected.values.reshape(4000, 5)
    assert (np.diff(flags.astype(int), axis=1) >= 0).all()
    lengths = np.bincount(flags.sum(1), minlength=6)
    # floor(5 r + u): uniform but for halves at the ends
    assert stats.chisquare(lengths, [400, 800, 800, 800, 800, 400]).pvalue > FALSE_ALARM


@pytest.mark.parametrize("one", SELECTS)
@given(drawn=drawn_batches(min_rows=1), data=st.data())
def test_any_batch_of_the_same_samples(one, drawn, data):
    rows = data.draw(st.lists(st.integers(0, len(drawn[0]) - 1), max_size=6))
    elastic(one, *drawn, rows)


def _tokens(tokenizer, ends):
    return {tokenizer.convert_ids_to_tokens(i) for i in ends}


class _Tokenizer:
    """A vocabulary, and how its tokens read."""

    all_special_ids = (9,)

    def __init__(self, *tokens: str) -> None:
        self.tokens = tokens

    def get_vocab(self) -> dict[str, int]:
        return {token: number for number, token in enumerate(self.tokens)}

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        return "".join(tokens).replace("ãĢĤ", "。")


def test_sentence_ends_by_their_text():
    good = ["▁.", "##!", "Ġ?", "?!", '."', "...", "。", "ãĢĤ", "؟"]
    bad = ["!", ".com", "a.", ",", '"', "▁", "-", "é", ";"]
    # id 9 is special
    tokenizer = _Tokenizer(*good, *bad)
    assert sentence_ends(tokenizer) == tuple(range(len(good)))


def test_sentence_ends_of_real_vocabularies():
    byte_level = tokenizers.byte_level()
    assert _tokens(byte_level, sentence_ends(byte_level)) == {".", "!", "?"}
    with pytest.raises(VocabularyError, match=r"Give the ids that do: Sentences\(ends="):
        sentence_ends(_Tokenizer("a", "b"))


@pytest.mark.parametrize("ends", [(), [4], (4, -1), ("x",), 4])
def test_ends_are_checked(ends):
    with pytest.raises(PolicyError, match="Find them: sentence_ends"):
        Sentences(ends)


def test_ends_outside_the_vocabulary():
    batch = batch_of([6])
    with pytest.raises(PolicyError, match="sentence end 99 is no id of few"):
        select(Sentences((4, 99)), batch, draw_of(batch))
