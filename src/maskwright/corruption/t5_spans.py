"""Spans of the encoder–decoders: T5's random segmentation, and the one span of MASS."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from maskwright.batch import TokenBatch
from maskwright.corruption.select import Select
from maskwright.corruption.selection import Draw, Selection
from maskwright.corruption.spans import refuse_coverage
from maskwright.errors import PolicyError
from maskwright.vocabulary import Vocabulary


@dataclass(frozen=True)
class NoiseSpans(Select):
    """T5's ``random_spans_noise_mask`` (1910.10683, "Corrupting Spans"). Each span is a unit.

    Of the ``n`` maskable tokens of a sample ``round(n * rate)`` are noise, from 1 to ``n - 1``, in
    ``round(noise / mean)`` spans, at least 1 and no more than there are tokens on either side; the
    rounding is to the even neighbour. Noise and the rest are each cut into that many parts, every
    composition as likely, and the parts alternate, beginning with what stays. So the counts are
    always exact, whatever ``Masking.exact`` says, and a sample ends with noise. Samples of fewer
    than 2 maskable tokens have none, nor has a rate of 0.

    The maskable tokens count as one sequence; a span that runs over a token which may not be
    selected is two units.

    Args:
        mean: mean length of a span, in tokens.

    Raises:
        PolicyError: of the call, under a `Coverage` refresh.
    """

    mean: float = 3.0

    def __post_init__(self) -> None:
        if not self.mean >= 1:
            raise PolicyError(f"NoiseSpans.mean counts tokens, at least 1; got {self.mean}.")

    def __call__(self, batch: TokenBatch, vocabulary: Vocabulary, draw: Draw) -> Selection:
        from maskwright.corruption import kernels, span_kernels

        refuse_coverage(self, draw)
        tokens = batch.tokens
        protected = kernels.NOTHING if batch.protected is None else batch.protected.values
        out, units = (np.empty(len(tokens.values), np.int64) for _ in range(2))
        count = span_kernels.noise(
            tokens.values, tokens.offsets, batch.sample_ids, np.uint64(draw.run_key), draw.rates,
            float(self.mean), vocabulary.maskable, protected, out, units,
        )  # fmt: skip
        return Selection(out[:count], units[:count])

    def __str__(self) -> str:
        return f"noise spans of mean {self.mean:g}"


@dataclass(frozen=True)
class OneSpan(Select):
    """One run of ``rate`` times the maskable tokens of each sample, at a uniform start.

    MASS (1905.02450), where the rate is 0.5. The length is exact, rounded by chance,
    whatever ``Masking.exact`` says. Each token is a unit of its own, as MASS draws an act for each;
    acts that join tokens (`Sentinel`, `Infill`) stand for the whole run. The maskable tokens count
    as one sequence: the run leaves out what may not be selected.

    Raises:
        PolicyError: of the call, under a `Coverage` refresh.
    """

    def __call__(self, batch: TokenBatch, vocabulary: Vocabulary, draw: Draw) -> Selection:
        from maskwright.corruption import kernels, span_kernels

        refuse_coverage(self, draw)
        tokens = batch.tokens
        protected = kernels.NOTHING if batch.protected is None else batch.protected.values
        out = np.empty(len(tokens.values), np.int64)
        count = span_kernels.one(
            tokens.values, tokens.offsets, batch.sample_ids, np.uint64(draw.run_key), draw.rates,
            draw.at_least, vocabulary.maskable, protected, out,
        )  # fmt: skip
        return Selection(out[:count])

    def __str__(self) -> str:
        return "one span"
