"""bleu_and_chrf: how good translations are, against all references and against one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from maskwright.evaluation.translation.counts import METRICS, References, sentence_counts


@dataclass(frozen=True)
class TranslationScores:
    """BLEU and chrF2 of a corpus, 0 to 100, as sacrebleu counts them.

    Args:
        bleu, chrf: against all references of each sentence.
        bleu_single, chrf_single: against the first reference only, for comparison with papers and
            data sets that have one.
        sentences: how many were judged.
        signatures: ``bleu``, ``chrf``, ``bleu_single`` and ``chrf_single`` → sacrebleu's signature,
            to be quoted with the number.
    """

    bleu: float
    chrf: float
    bleu_single: float
    chrf_single: float
    sentences: int
    signatures: Mapping[str, str]


def bleu_and_chrf(hypotheses: Sequence[str], references: References) -> TranslationScores:
    """Scores of ``D`` translations.

    Args:
        hypotheses: ``D`` texts, detokenised.
        references: ``D`` lists of one or more texts; their number may differ. ``Part.references``
            of `maskwright.data.pairs` has this form.

    Raises:
        DataError: there is nothing to judge, or not one list of references for each hypothesis.

    >>> bleu_and_chrf(["Me lo comí."], [["Me lo comí.", "Me la comí."]]).bleu
    100.0
    """
    counts, signatures = sentence_counts(hypotheses, references)
    first, first_signatures = sentence_counts(hypotheses, [row[:1] for row in references])
    values = {name: float(of(counts[name].sum(axis=0))) for name, of in METRICS.items()}
    single = {name: float(of(first[name].sum(axis=0))) for name, of in METRICS.items()}
    return TranslationScores(
        bleu=values["bleu"],
        chrf=values["chrf"],
        bleu_single=single["bleu"],
        chrf_single=single["chrf"],
        sentences=len(hypotheses),
        signatures={
            **signatures,
            **{f"{name}_single": text for name, text in first_signatures.items()},
        },
    )
