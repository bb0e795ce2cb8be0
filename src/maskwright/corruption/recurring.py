"""Spans that occur more than once in a sample: the others give each of them away."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from maskwright import randomness
from maskwright.batch import TokenBatch
from maskwright.corruption.select import Select
from maskwright.corruption.selection import Draw, Selection, eligible
from maskwright.corruption.structure import choose, units_where
from maskwright.errors import PolicyError
from maskwright.vocabulary import Vocabulary


@dataclass(frozen=True)
class Recurring(Select):
    """Recurring span selection (Splinter, 2101.00438, section 3.1).

    A recurring span is an n-gram of ``shortest`` to ``longest`` maskable tokens that occurs at
    least twice in its sample. Longer ones come first, and their tokens belong to no shorter one;
    occurrences that overlap are taken from the left. Where the batch has ``word_starts``, a span
    begins and ends with a word. Of the occurrences of one n-gram one, drawn by chance, always
    stays; the others are candidates. Splinter leaves out spans of stop words; ids do not tell them
    apart, so here they are spans like others.

    Candidates are gone through in the order of their draws, and each that still fits the budget of
    ``rate`` times the sample's maskable tokens is taken (with ``exact`` or without; the first one
    all the same where ``at_least`` asks for a token and none fits). A sample in which little recurs
    has fewer.

    Args:
        longest, shortest: length of a span in tokens.
    """

    longest: int = 10
    shortest: int = 2

    def __post_init__(self) -> None:
        if not 1 <= self.shortest <= self.longest:
            raise PolicyError(
                f"Recurring: shortest must be from 1 to longest, got shortest={self.shortest}, "
                f"longest={self.longest}."
            )

    def __call__(self, batch: TokenBatch, vocabulary: Vocabulary, draw: Draw) -> Selection:
        from maskwright.corruption import structure_kernels as kernels

        allowed = eligible(batch, vocabulary)
        begins, candidates = np.zeros((2, len(allowed)), np.bool_)
        words = np.empty(0, np.bool_)
        if batch.word_starts is not None:
            words = batch.word_starts.values != 0
        kernels.find_recurring(
            batch.tokens.values, allowed, batch.tokens.offsets, words,
            draw.keys(batch, randomness.START), self.shortest, self.longest, begins, candidates,
        )  # fmt: skip
        units = units_where(candidates, begins)
        return choose(*units, batch, draw, allowed, self, budget=True)

    def __str__(self) -> str:
        return f"recurring spans of {self.shortest} to {self.longest}"
