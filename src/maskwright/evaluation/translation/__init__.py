"""How good translations are, how sure a difference is, and how far simultaneous ones lag."""

from maskwright.evaluation.translation.bootstrap import (
    OverSeeds,
    Paired,
    difference_over_seeds,
    paired_bootstrap,
)
from maskwright.evaluation.translation.lagging import average_lagging
from maskwright.evaluation.translation.scores import TranslationScores, bleu_and_chrf

__all__ = [
    "OverSeeds",
    "Paired",
    "TranslationScores",
    "average_lagging",
    "bleu_and_chrf",
    "difference_over_seeds",
    "paired_bootstrap",
]
