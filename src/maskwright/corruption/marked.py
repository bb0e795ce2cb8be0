"""Selects among what the user marked: entities, dates, salient spans."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from maskwright.batch import TokenBatch
from maskwright.corruption.select import Select
from maskwright.corruption.selection import Draw, Selection, eligible
from maskwright.corruption.structure import choose, row_begins, units_where
from maskwright.errors import BatchError
from maskwright.vocabulary import Vocabulary


@dataclass(frozen=True)
class Marked(Select):
    """Whole marked spans: salient span masking (REALM, 2002.08909, section 3.4).

    A span is a run of equal marks that are not 0 in ``TokenBatch.marks``; neighbours with other
    marks are other spans. Each is drawn with probability ``rate``. With ``exact`` the budget is
    ``rate`` times the sample's *marked* maskable tokens: spans are gone through in the order of
    their draws, and each that still fits is taken (the first one all the same where ``at_least``
    asks for a token and none fits; under a coverage refresh as in `Sentences`).
    ``Marked().at(1.0) | Tokens()`` masks all of them and some other tokens.

    A special or protected token inside a span is left out, and cuts it.

    Raises (when called):
        BatchError: the batch has no marks.
    """

    def __call__(self, batch: TokenBatch, vocabulary: Vocabulary, draw: Draw) -> Selection:
        if batch.marks is None:
            raise BatchError(
                "Marked selects among marked tokens, but the batch has no marks. Give each sample "
                "a column marks: maskwright.corruption.marked.mark(text, offsets, pattern)."
            )
        marks = batch.marks.values
        kept = eligible(batch, vocabulary) & (marks != 0)
        begins = row_begins(batch)
        begins[1:] |= marks[1:] != marks[:-1]
        return choose(*units_where(kept, begins), batch, draw, kept, self)

    def __str__(self) -> str:
        return "marked spans"


def mark(
    text: str, offsets: Sequence[tuple[int, int]], pattern: re.Pattern[str] | str
) -> np.ndarray:
    r"""Marks for one sample, ``(S,)`` int32: each match of ``pattern`` has a number from 1 on.

    Args:
        text: the sample.
        offsets: where each of its ``S`` tokens begins and ends in the text, as a fast tokenizer
            gives with ``return_offsets_mapping=True``; an empty one is a token without text.
        pattern: a regular expression. A token belongs to the first match that it overlaps.

    >>> mark("In 1492 he", [(0, 2), (3, 5), (5, 7), (8, 10)], "[0-9]+").tolist()
    [0, 1, 1, 0]
    """
    marks = np.zeros(len(offsets), np.int32)
    for number, match in enumerate(re.finditer(pattern, text), start=1):
        for token, (start, stop) in enumerate(offsets):
            overlaps = max(start, match.start()) < min(stop, match.end())
            if overlaps and not marks[token]:
                marks[token] = number
    return marks
