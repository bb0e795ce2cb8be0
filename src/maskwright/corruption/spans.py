"""Spans of drawn lengths: SpanBERT's, BART's, n-grams."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from maskwright.batch import TokenBatch
from maskwright.corruption.lengths import Geometric, Lengths
from maskwright.corruption.select import Select
from maskwright.corruption.selection import Draw, Selection
from maskwright.corruption.words import UNITS, Unit, mark_units
from maskwright.errors import PolicyError, unknown
from maskwright.vocabulary import Vocabulary


@dataclass(frozen=True)
class Spans(Select):
    """Spans of drawn lengths at uniform starts, until the budget is spent. Each span is a unit.

    SpanBERT (1907.10529, section 3.1): ``Spans(of="words")``; text infilling of BART (1910.13461,
    section 2.2): ``Spans(Poisson(), of="words")`` with the act `Infill`; n-gram masking of ALBERT
    (1909.11942, section 3.1): ``Spans(Harmonic(), of="words")``.

    The budget is exact whatever ``Masking.exact`` says: ``rate`` times the sample's maskable
    tokens, rounded by chance. A span that would exceed it is cut to fit: between tokens, or between
    words, where the rest of a budget that no word fits in stays unspent (but for ``at_least``,
    where nothing fits: then one word is taken). Spans never overlap and never contain a token that
    may not be selected; they may be neighbours. A length that was drawn is offered 16 starts,
    and then takes any free one and is cut where it meets an obstacle. After ``64 + 16 * units``
    starts in a sample there are no more: at rates near 1 some of a budget may stay unspent.

    A length of 0 (`Poisson`) costs nothing and puts an empty unit before a token outside the
    spans, as BART's code does; no more of them than the sample has units.

    Args:
        lengths: the distribution of lengths.
        of: what lengths count, and where spans begin and end.

    Raises:
        PolicyError: of the call, under a `Coverage` refresh: spans have no order without
            replacement.
        VocabularyError: of the call, where words are wanted and not known (see `WholeWords`).
    """

    lengths: Lengths = field(default_factory=Geometric)
    of: Unit = "tokens"

    def __post_init__(self) -> None:
        if not isinstance(self.lengths, Lengths):
            raise PolicyError(
                f"Spans.lengths got {self.lengths!r}, which is no distribution of lengths; "
                "Fixed(3), Geometric(), Poisson() and Harmonic() are."
            )
        if self.of not in UNITS:
            raise PolicyError(unknown("Spans.of", self.of, UNITS))

    @property
    def may_insert(self) -> bool:
        """Whether a span can be empty, so that tokens are put in."""
        return bool(self.lengths.limits[0])

    def __call__(self, batch: TokenBatch, vocabulary: Vocabulary, draw: Draw) -> Selection:
        from maskwright.corruption import kernels, span_kernels

        refuse_coverage(self, draw)
        marks = mark_units(batch, vocabulary, self.of)
        out, units = np.empty(len(marks), np.int64), np.empty(len(marks), np.int64)
        inserts = np.empty(len(marks), np.int64) if self.may_insert else kernels.NO_UNITS
        count, empty = span_kernels.spans(
            marks, batch.tokens.offsets, batch.sample_ids, np.uint64(draw.run_key), draw.rates,
            draw.at_least, self.lengths.limits, out, units, inserts,
        )  # fmt: skip
        return Selection(out[:count], units[:count], inserts[:empty] if self.may_insert else None)

    def __str__(self) -> str:
        return f"spans of {self.lengths} {self.of}"


def refuse_coverage(select: Select, draw: Draw) -> None:
    """Raises `PolicyError` where every unit is to have its turn."""
    if draw.covering or draw.low.any():
        raise PolicyError(
            f"A coverage refresh takes every unit in its turn, and {select} are drawn anew each "
            "time: there is no list of them to go through. Use another refresh, or select Tokens "
            "or WholeWords."
        )
