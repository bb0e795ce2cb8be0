"""Counts of parts, added, are the counts of the whole."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from maskwright.data.prepare.statistics import added
from maskwright.guidance.statistics import count_tokens
from maskwright.vocabulary import Vocabulary

ROWS = st.lists(st.lists(st.integers(0, 6), max_size=8), max_size=6)
VOCABULARY = Vocabulary(size=7, special_ids=(0,))


@given(st.lists(ROWS, max_size=7))
def test_added(parts):
    whole = count_tokens([row for rows in parts for row in rows], VOCABULARY)
    assert added((count_tokens(rows, VOCABULARY) for rows in parts), 7) == whole


def test_a_literal_case():
    total = added([count_tokens([[1, 2, 1]], VOCABULARY), count_tokens([[1, 2]], VOCABULARY)], 7)
    assert total.documents == 2
    assert total.frequency.tolist() == [0, 3, 2, 0, 0, 0, 0]
    assert total.document_frequency.tolist() == [0, 2, 2, 0, 0, 0, 0]
    assert dict(zip(total.pairs.tolist(), total.pair_counts.tolist(), strict=True)) == {
        1 * 7 + 2: 2,
        2 * 7 + 1: 1,
    }
